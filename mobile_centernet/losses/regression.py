"""The L1 loss on what the size and offset heads say at object centres (CenterNet)."""

import torch
from torch import Tensor

from mobile_centernet.codec import gather_cells


def centre_l1_loss(prediction: Tensor, target: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    """Σ|prediction − target| / 2N over the N objects of the batch, float32; 0 without objects.

    prediction [B, 2, H, W]; target [B, M, 2]; index [B, M] cells (y·W + x); mask [B, M], True for used rows.
    Dividing by 2N and not N is CenterNet's code: its λ_size and λ_offset belong to that.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        error = (gather_cells(prediction, index).float() - target.float()).abs()
        error = error.masked_fill(~mask[..., None], 0)
        return error.sum() / (2 * mask.sum().clamp(min=1))
