"""The precision that losses are computed in, whatever autocast gave the model."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """fp16, bf16 and integers become float32; float64 stays, so that gradients can be checked numerically."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
