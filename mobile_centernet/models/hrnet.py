"""HRNet (Sun et al., CVPR 2019), the pose backbone: four stages that keep the highest resolution all the way.

Module names and shapes are those of the official `pose_hrnet.py`, so its checkpoints load key for key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobile_centernet.models.blocks import (
    BasicBlock,
    Bottleneck,
    conv1x1,
    conv3x3,
    conv3x3_bn,
    conv3x3_bn_relu,
    initialise_convolutions,
)


@dataclass(frozen=True)
class HRNetSpec:
    """One row of the table of HRNets.

    `channels` are those of the four branches, highest resolution first. Stage k (2, 3, 4) works on the first
    k of them, in `modules[k - 2]` modules with `blocks` basic blocks per branch, of each branch its own number.
    `stem` are the channels of the two convolutions before them, which halve the image. Stage 1, between the two, is
    `stage1_blocks` (may be 0) of the kind `stage1_block` with `stage1_planes`. `cascade` is explained at HRModule.
    """

    channels: tuple[int, int, int, int]
    modules: tuple[int, int, int]
    blocks: tuple[int, int, int, int]
    stem: tuple[int, int] = (64, 64)
    stage1_block: type[BasicBlock] | type[Bottleneck] = Bottleneck
    stage1_blocks: int = 4
    stage1_planes: int = 64
    cascade: bool = False


class HRNet(nn.Module):
    """An image to features at a quarter of its resolution.

    Takes [B, 3, H, W], normalised, H and W multiples of 32; gives [B, channels[0], H/4, W/4] after a ReLU.
    """

    def __init__(self, spec: HRNetSpec) -> None:
        super().__init__()
        self.out_channels = spec.channels[0]
        half, quarter = spec.stem
        self.conv1 = conv3x3(3, half, stride=2)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = conv3x3(half, quarter, stride=2)
        self.bn2 = nn.BatchNorm2d(quarter)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential()
        for _ in range(spec.stage1_blocks):
            self.layer1.append(spec.stage1_block(quarter, spec.stage1_planes))
            quarter = spec.stage1_planes * spec.stage1_block.expansion
        self.transition1 = _transition([quarter], spec.channels[:2])
        self.stage2 = _stage(spec, 2)
        self.transition2 = _transition(spec.channels[:2], spec.channels[:3])
        self.stage3 = _stage(spec, 3)
        self.transition3 = _transition(spec.channels[:3], spec.channels)
        self.stage4 = _stage(spec, 4)
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
    `cascade` adds coarse branches to each other before they are enlarged, a + up(b + up(c)) for a + up(b) + up(up(c)):
    equal but for rounding (nearest neighbours commute with sums), in fewer and smaller steps.
    """

    def __init__(
        self, channels: Sequence[int], blocks: Sequence[int], out_branches: int, cascade: bool = False
    ) -> None:
        super().__init__()
        self.cascade = cascade
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c, c) for _ in range(count))) for c, count in zip(channels, blocks, strict=True)
        )
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
        for target, row in enumerate(self.fuse_layers):
            sources = list(zip(row.children(), branches, strict=True))
            enlarged = sources[target + 1 :] if self.cascade else []
            summands: list[Tensor] = [resample(x) for resample, x in sources[: len(sources) - len(enlarged)]]
            coarse: Tensor | None = None
            for layer, x in reversed(enlarged):
                convolution, norm, _ = layer.children()
                own: Tensor = norm(convolution(x))
                coarse = F.interpolate(own if coarse is None else own + coarse, scale_factor=2.0, mode="nearest")
            fused.append(self.relu(reduce(torch.add, summands if coarse is None else [*summands, coarse])))
        return fused


def _stage(spec: HRNetSpec, number: int) -> nn.Sequential:
    """Stage 2, 3 or 4, which has as many branches."""
    channels, blocks, modules = spec.channels[:number], spec.blocks[:number], spec.modules[number - 2]
    out_branches = [number] * (modules - 1) + [1 if number == len(spec.channels) else number]
    return nn.Sequential(*(HRModule(channels, blocks, out, spec.cascade) for out in out_branches))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Into the next stage: kept branches get their channels, a new one halves the lowest resolution."""
    kept = [
        nn.Identity() if before[i] == after[i] else conv3x3_bn_relu(before[i], after[i]) for i in range(len(before))
    ]
    new = nn.Sequential(conv3x3_bn_relu(before[-1], after[-1], stride=2))
    return nn.ModuleList([*kept, new])


def _branch_out(transition: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    return [layer(x) for layer, x in zip(transition, [*branches, branches[-1]], strict=True)]
