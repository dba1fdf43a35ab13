"""CenterNet (Zhou et al., "Objects as Points", 2019) on any backbone: heads that read the same features."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mobile_centernet.codec import STRIDE
from mobile_centernet.models.blocks import Head

# ImageNet's mean and standard deviation for RGB in 0..255, as the official HRNet and CenterNet use.
PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

# -2.19: every cell starts as "an object, 10 %", lest the many empty cells swamp the first steps (RetinaNet).
HEATMAP_BIAS = -math.log((1 - 0.1) / 0.1)

# Backbones halve the image five times and double it back: a side that does not halve evenly no longer fits.
COARSEST_STRIDE = 32


class CenterNetOutput(NamedTuple):
    """What one forward pass gives, all at a quarter of the input's resolution.

    heatmap_logits: [B, C, H/4, W/4], one map per class, before the sigmoid
    size:           [B, 2, H/4, W/4], width and height of the object centred here, in stride cells
    offset:         [B, 2, H/4, W/4], x and y from the cell's corner to the centre, in stride cells
    features:       [B, F, H/4, W/4], what heads read, after the ReLU; pair-wise distillation compares it
    """

    heatmap_logits: Tensor
    size: Tensor
    offset: Tensor
    features: Tensor


class CenterNet(nn.Module):
    """The detector: an image in, heatmap logits, sizes and offsets out; `codec.decode` makes them boxes.

    `backbone` maps a normalised image to `backbone_channels` features at a quarter of its resolution. CenterNet has a
    head of its own for heatmap, size and offset; with `shared_head` one has the channels of all three, in this order.
    With `scaled_input` pixels are divided by 255, else they are normalised by ImageNet's mean and deviation;
    `takes_pixels` says that the backbone has weights for pixels as they are: exports divide those instead.
    """

    stride = STRIDE
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        backbone_channels: int,
        *,
        name: str,
        num_classes: int,
        head_channels: int,
        shared_head: bool = False,
        scaled_input: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.num_classes = num_classes
        self.head_channels = head_channels
        self.backbone = backbone
        self.shared_head, self.scaled_input, self.takes_pixels = shared_head, scaled_input, False
        if shared_head:
            self.head = Head(backbone_channels, head_channels, num_classes + 2 + 2)
            bias = torch.zeros(num_classes + 2 + 2)
            bias[:num_classes] = HEATMAP_BIAS
            self.head.out.bias = nn.Parameter(bias)
        else:
            self.heatmap_head = Head(backbone_channels, head_channels, num_classes, bias=HEATMAP_BIAS)
            self.size_head = Head(backbone_channels, head_channels, 2)
            self.offset_head = Head(backbone_channels, head_channels, 2)
        mean, std = ((0.0,) * 3, (255.0,) * 3) if scaled_input else (PIXEL_MEAN, PIXEL_STD)
        # Not persistent: they are constants of the code, and the official checkpoints don't have them.
        self.register_buffer("pixel_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> CenterNetOutput:
        """image: [B, 3, H, W], RGB 0..255, uint8 or float; H and W multiples of 32, else ValueError."""
        height, width = image.shape[-2:]
        if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
            expected = f"sides in multiples of {COARSEST_STRIDE}"
            raise ValueError(f"expected an image with {expected}, found {width}x{height}")
        pixels = image.to(self.pixel_mean.dtype)
        features = self.backbone(pixels if self.takes_pixels else (pixels - self.pixel_mean) / self.pixel_std)
        if self.shared_head:
            # Not by slices: their open ends would be 64-bit constants in ONNX, which TensorRT 8.2 clamps.
            heatmap, size, offset = self.head(features).split([self.num_classes, 2, 2], dim=1)
            return CenterNetOutput(heatmap, size, offset, features)
        return CenterNetOutput(
            self.heatmap_head(features), self.size_head(features), self.offset_head(features), features
        )
