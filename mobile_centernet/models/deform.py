"""Deformable convolution v2 (Zhu et al., "Deformable ConvNets v2", CVPR 2019) in plain PyTorch.

Each tap of the kernel reads the input not on the grid but at an offset of its own, and is weighed by a mask; a
small convolution computes both from the input. Names of parameters and order of channels are those of the
reference implementation (DCNv2, as CenterNet uses it), so its weights fit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobile_centernet.errors import ModelError

KERNEL = 3
TAPS = KERNEL * KERNEL


class DeformConv2d(nn.Module):
    """A 3×3 deformable convolution of stride 1: [B, in_channels, H, W] → [B, out_channels, H, W].

    It starts with all offsets 0 and all masks 0.5. Raises ModelError when exported to ONNX, whose operator sets
    before 16 cannot sample between pixels: export the `_conv` variant of a model.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.conv_offset_mask = nn.Conv2d(in_channels, 3 * TAPS, KERNEL, padding=KERNEL // 2)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.conv_offset_mask.weight)
        self.conv_offset_mask.bias = nn.Parameter(torch.zeros(3 * TAPS))

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            raise ModelError(
                "deformable convolutions cannot be exported to ONNX: expected a _conv variant of the model"
            )
        offset, mask = self.conv_offset_mask(x).split([2 * TAPS, TAPS], dim=1)
        return deform_conv2d(x, offset, mask.sigmoid(), self.weight, self.bias)


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve `x` with every tap displaced and weighed; stride 1, zeros outside, as large as the input.

    x:      [B, C, H, W]
    offset: [B, 2·9, H, W], dy and dx of the first tap, dy and dx of the second …, in cells of `x`; taps row by row
    mask:   [B, 9, H, W], weight of each tap, 0..1
    weight: [O, C, 3, 3]
    bias:   [O]
    gives   [B, O, H, W]; with offsets 0 and masks 1 that of conv2d(x, weight, bias, padding=1)
    """
    # What the nine taps of every cell read, bilinearly between the four cells around: [B, C, 9, H, W].
    batch, channels, height, width = x.shape
    # In half precision the cells of a wide map would no longer have coordinates of their own.
    exact = torch.promote_types(x.dtype, torch.float32)
    dy, dx = offset.to(exact).view(batch, TAPS, 2, height, width).unbind(2)  # [B, 9, H, W] each
    step = torch.arange(KERNEL, device=x.device, dtype=exact) - KERNEL // 2
    row = torch.arange(height, device=x.device, dtype=exact).view(-1, 1) + step.repeat_interleave(KERNEL).view(-1, 1, 1)
    column = torch.arange(width, device=x.device, dtype=exact) + step.repeat(KERNEL).view(-1, 1, 1)
    # grid_sample counts from -1 at the left edge of the first cell to 1 at the right edge of the last.
    grid = torch.stack(((2 * (column + dx) + 1) / width - 1, (2 * (row + dy) + 1) / height - 1), dim=-1)
    grid = grid.view(batch, TAPS * height, width, 2)  # one tall image: nine taps in one call
    sampled = F.grid_sample(x.to(exact), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    taps = sampled.view(batch, channels, TAPS, height, width).to(x.dtype)
    return F.conv2d((taps * mask[:, None]).flatten(1, 2), weight.flatten(1)[:, :, None, None], bias)


def conv_bn_relu(in_channels: int, out_channels: int, deformable: bool) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A deformable 3×3 convolution, or a plain one in its place, with its batch norm and ReLU."""
    norm, relu = nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    if deformable:
        return DeformConv2d(in_channels, out_channels), norm, relu
    conv = nn.Conv2d(in_channels, out_channels, KERNEL, padding=KERNEL // 2)  # with a bias, as the deformable one
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    conv.bias = nn.Parameter(torch.zeros(out_channels))
    return conv, norm, relu
