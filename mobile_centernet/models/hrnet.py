"""HRNet (Sun et al., CVPR 2019), the pose backbone: four stages that keep the highest resolution all the way.

Module names and shapes are those of the official `pose_hrnet.py`, so its checkpoints load key for key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from mobile_centernet.models.blocks import (
    BasicBlock,
    Bottleneck,
    conv1x1,
    conv3x3,
    conv3x3_bn,
    conv3x3_bn_relu,
    initialise_convolutions,
)

STEM_CHANNELS = 64


@dataclass(frozen=True)
class HRNetSpec:
    """One row of the table of HRNets.

    `channels` are those of the four branches, highest resolution first. Stage k (2, 3, 4) works on the first
    k of them, in `modules[k - 2]` modules with `blocks` basic blocks per branch. Stage 1 is `stage1_blocks`
    bottlenecks of `stage1_planes`.
    """

    channels: tuple[int, int, int, int]
    modules: tuple[int, int, int]
    blocks: int
    stage1_blocks: int = 4
    stage1_planes: int = 64


class HRNet(nn.Module):
    """An image to features at a quarter of its resolution.

    Takes [B, 3, H, W], normalised, H and W multiples of 32; gives [B, channels[0], H/4, W/4] after a ReLU.
    """

    def __init__(self, spec: HRNetSpec) -> None:
        super().__init__()
        self.out_channels = spec.channels[0]
        self.conv1 = conv3x3(3, STEM_CHANNELS, stride=2)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.conv2 = conv3x3(STEM_CHANNELS, STEM_CHANNELS, stride=2)
        self.bn2 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        planes, wide = spec.stage1_planes, spec.stage1_planes * Bottleneck.expansion
        rest = (Bottleneck(wide, planes) for _ in range(spec.stage1_blocks - 1))
        self.layer1 = nn.Sequential(Bottleneck(STEM_CHANNELS, planes), *rest)
        self.transition1 = _transition([wide], spec.channels[:2])
        self.stage2 = _stage(spec.channels[:2], spec.modules[0], spec.blocks)
        self.transition2 = _transition(spec.channels[:2], spec.channels[:3])
        self.stage3 = _stage(spec.channels[:3], spec.modules[1], spec.blocks)
        self.transition3 = _transition(spec.channels[:3], spec.channels)
        self.stage4 = _stage(spec.channels, spec.modules[2], spec.blocks, last=True)
        initialise_convolutions(self)  # the official std of 0.001 expects ImageNet weights and trains slowly without

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        branches = self.stage2(_branch_out(self.transition1, [x]))
        branches = self.stage3(_branch_out(self.transition2, branches))
        branches = self.stage4(_branch_out(self.transition3, branches))
        features: Tensor = branches[0]
        return features


class HRModule(nn.Module):
    """Branches side by side, then every branch receives the sum of all, resampled to its own resolution.

    `out_branches` 1 builds only what the highest resolution receives: nothing reads the others after stage 4.
    """

    def __init__(self, channels: Sequence[int], blocks: int, out_branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c, c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList()
        for target in range(out_branches):  # 0: the highest resolution
            row = nn.ModuleList()
            for source in range(len(channels)):
                if source == target:
                    row.append(nn.Identity())
                elif source > target:
                    row.append(nn.Sequential(
                        conv1x1(channels[source], channels[target]),
                        nn.BatchNorm2d(channels[target]),
                        nn.Upsample(scale_factor=2.0 ** (source - target), mode="nearest"),
                    ))  # fmt: skip
                else:
                    halvings = [
                        conv3x3_bn_relu(channels[source], channels[source], 2) for _ in range(target - source - 1)
                    ]
                    row.append(nn.Sequential(*halvings, conv3x3_bn(channels[source], channels[target], 2)))
            self.fuse_layers.append(row)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        branches = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        fused = []
        for row in self.fuse_layers:
            resampled: list[Tensor] = [resample(x) for resample, x in zip(row.children(), branches, strict=True)]
            fused.append(self.relu(reduce(torch.add, resampled)))
        return fused


def _stage(channels: Sequence[int], modules: int, blocks: int, last: bool = False) -> nn.Sequential:
    out_branches = [len(channels)] * (modules - 1) + [1 if last else len(channels)]
    return nn.Sequential(*(HRModule(channels, blocks, out) for out in out_branches))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Into the next stage: kept branches get their channels, a new one halves the lowest resolution."""
    kept = [
        nn.Identity() if before[i] == after[i] else conv3x3_bn_relu(before[i], after[i]) for i in range(len(before))
    ]
    new = nn.Sequential(conv3x3_bn_relu(before[-1], after[-1], stride=2))
    return nn.ModuleList([*kept, new])


def _branch_out(transition: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    return [layer(x) for layer, x in zip(transition, [*branches, branches[-1]], strict=True)]
