"""DLA-34 (Yu et al., "Deep Layer Aggregation", CVPR 2018) as CenterNet's backbone.

Layers, names and shapes are those of CenterNet's `pose_dla_dcn.py`, so its checkpoints and the ImageNet ones fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobile_centernet.models.blocks import conv1x1, conv3x3, initialise_convolutions
from mobile_centernet.models.deform import conv_bn_relu

# Of the six levels, from the full resolution to a 32nd. The way up begins at the third, a quarter.
CHANNELS = (16, 32, 64, 128, 256, 512)
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class DLASpec:
    """One row of the table of DLA-34s: whether the convolutions of the way up are deformable."""

    deformable: bool = True


class DLA(nn.Module):
    """An image to features at a quarter of its resolution.

    Takes [B, 3, H, W], normalised, H and W multiples of 32; gives [B, 64, H/4, W/4] after a ReLU.
    """

    def __init__(self, spec: DLASpec) -> None:
        super().__init__()
        up = CHANNELS[2:]
        self.out_channels = up[0]
        self.base = DLA34()
        self.dla_up = DLAUp(up, spec.deformable)
        self.ida_up = IDAUp(up[:3], (2, 4), spec.deformable)

    def forward(self, image: Tensor) -> Tensor:
        levels = self.dla_up(self.base(image)[2:])
        features: Tensor = self.ida_up(levels[:3])[-1]
        return features


class DLA34(nn.Module):
    """The ImageNet classifier, without its pooling: [B, 3, H, W] to six levels [B, CHANNELS[i], H/2^i, W/2^i].

    Its last layer, `fc`, is there because CenterNet's model has it and the paper counted it; nothing reads it.
    """

    def __init__(self) -> None:
        super().__init__()
        full, half, quarter, *coarser = CHANNELS
        self.base_layer = _conv_bn_relu(nn.Conv2d(3, full, 7, padding=3, bias=False))
        self.level0 = _conv_bn_relu(conv3x3(full, full))
        self.level1 = _conv_bn_relu(conv3x3(full, half, stride=2))
        self.level2 = Tree(half, quarter, stride=2)
        self.level3 = TreeOfTrees(quarter, coarser[0])
        self.level4 = TreeOfTrees(coarser[0], coarser[1])
        self.level5 = Tree(coarser[1], coarser[2], stride=2, keeps_input=True)
        self.fc = nn.Conv2d(coarser[2], IMAGENET_CLASSES, 1)
        initialise_convolutions(self)
        self.fc.requires_grad_(False)  # what has no gradient must not ask for one: data-parallel training would wait

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = [self.base_layer(image)]
        for level in (self.level0, self.level1, self.level2, self.level3, self.level4, self.level5):
            levels.append(level(levels[-1]))
        return levels[1:]


class Block(nn.Module):
    """ResNet's basic block, whose shortcut comes from the tree around it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(shortcut + y)
        return out


class Root(nn.Module):
    """Where the branches of a tree meet: a 1×1 convolution of all of them side by side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv1x1(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, *branches: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv(torch.cat(branches, dim=1))))
        return out


class Tree(nn.Module):
    """Two sequential blocks and a root that concatenates their outputs with any extra inputs.

    `keeps_input`: the root also takes the tree's own, pooled input. `joined_channels`: those of the extra inputs.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, keeps_input: bool = False, joined_channels: int = 0
    ) -> None:
        super().__init__()
        self.keeps_input = keeps_input
        self.tree1 = Block(in_channels, out_channels, stride)
        self.tree2 = Block(out_channels, out_channels)
        self.root = Root(2 * out_channels + keeps_input * in_channels + joined_channels, out_channels)
        self.downsample = nn.Identity() if stride == 1 else nn.MaxPool2d(stride)
        self.project = nn.Identity() if in_channels == out_channels else _projection(in_channels, out_channels)

    def forward(self, x: Tensor, joined: Sequence[Tensor] = ()) -> Tensor:
        pooled = self.downsample(x)
        first = self.tree1(x, self.project(pooled))
        second = self.tree2(first, first)
        out: Tensor = self.root(second, first, *([pooled] if self.keeps_input else []), *joined)
        return out


class TreeOfTrees(nn.Module):
    """Two sequential trees at half the resolution; the root of the second joins the input and both.

    Nothing reads `project`: the reference implementation has it, computes it and throws it away, so its checkpoints
    hold it and its counted cost includes it (0.05 of 19.2 GMACs). ONNX export drops it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.tree1 = Tree(in_channels, out_channels, stride=2)
        self.tree2 = Tree(out_channels, out_channels, joined_channels=in_channels + out_channels)
        self.downsample = nn.MaxPool2d(2)
        self.project = _projection(in_channels, out_channels)
        self.project.requires_grad_(False)  # as DLA34.fc

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.downsample(x)
        self.project(pooled)
        first = self.tree1(x)
        out: Tensor = self.tree2(first, [pooled, first])
        return out


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(conv1x1(in_channels, out_channels), nn.BatchNorm2d(out_channels))


def _conv_bn_relu(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))


class DLAUp(nn.Module):
    """Levels of ever coarser resolution to as many, each with the information of the coarser ones merged in.

    Takes [B, channels[i], H/2^i, W/2^i] each and gives the same shapes.
    """

    def __init__(self, channels: Sequence[int], deformable: bool) -> None:
        super().__init__()
        for i in range(len(channels) - 1):
            finest, coarser = channels[-i - 2], channels[-i - 1]
            self.add_module(f"ida_{i}", IDAUp([finest] + [coarser] * (i + 1), [2] * (i + 1), deformable))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        merged = [levels[-1]]
        out = [levels[-1]]
        for ida, finer in zip(self.children(), reversed(levels[:-1]), strict=True):
            merged = ida([finer, *merged])
            out.insert(0, merged[-1])
        return out


class IDAUp(nn.Module):
    """Iterative aggregation: level by level, the coarser ones are upsampled to the first one's shape and merged in.

    `channels` are those of all levels, `factors` how much coarser than the first each of the others is. Gives as
    many levels, all of the first one's shape; the last has seen all.
    """

    def __init__(self, channels: Sequence[int], factors: Sequence[int], deformable: bool) -> None:
        super().__init__()
        out_channels = channels[0]
        for i, (coarse, factor) in enumerate(zip(channels[1:], factors, strict=True), start=1):
            self.add_module(f"proj_{i}", UpConv(coarse, out_channels, deformable))
            # A depth-wise deconvolution that starts as bilinear upsampling and learns from there; `factor` is even.
            enlarge = nn.ConvTranspose2d(
                out_channels, out_channels, 2 * factor, factor, factor // 2, groups=out_channels, bias=False
            )
            side = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor  # a tent, highest in the middle
            enlarge.weight = nn.Parameter(torch.outer(side, side).expand_as(enlarge.weight).clone())
            self.add_module(f"up_{i}", enlarge)
            self.add_module(f"node_{i}", UpConv(out_channels, out_channels, deformable))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        merged = [levels[0]]
        for i, level in enumerate(levels[1:], start=1):
            project, enlarge, merge = (self.get_submodule(f"{name}_{i}") for name in ("proj", "up", "node"))
            merged.append(merge(enlarge(project(level)) + merged[-1]))
        return merged


class UpConv(nn.Module):
    """A deformable 3×3 convolution (or a plain one in its place) with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, deformable: bool) -> None:
        super().__init__()
        conv, norm, relu = conv_bn_relu(in_channels, out_channels, deformable)
        self.actf = nn.Sequential(norm, relu)
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.actf(self.conv(x))
        return out
