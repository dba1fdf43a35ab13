"""The L1 loss on what the size and offset heads say at object centres (CenterNet)."""

import torch
from torch import Tensor

from mobile_centernet.codec import gather_cells
from mobile_centernet.losses.focal import at_least_float32


def centre_l1_loss(prediction: Tensor, target: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    """Σ|prediction − target| / 2N over the N objects of the batch; 0 without objects.

    prediction [B, 2, H, W]; target [B, M, 2]; index [B, M] cells (y·W + x); mask [B, M], True for used rows.
    Gives float32, float64 for a float64 prediction.
    Dividing by 2N and not N is CenterNet's code: its λ_size and λ_offset belong to that. (It adds 1e-4 to 2N against a
    division by 0, so that its value is smaller by 1e-4 / 2N of it; here N is at least 1 instead.)
    """
    with torch.autocast(prediction.device.type, enabled=False):
        found = at_least_float32(gather_cells(prediction, index.long()))
        used = mask.bool()
        error = (found - at_least_float32(target)).abs().masked_fill(~used[..., None], 0)
        return error.sum() / (2 * used.sum().clamp(min=1))
