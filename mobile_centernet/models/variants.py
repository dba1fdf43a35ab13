"""The table of models. A new variant is a new row."""

from collections.abc import Mapping
from dataclasses import dataclass

from mobile_centernet.errors import ModelError
from mobile_centernet.models.blocks import BasicBlock, Bottleneck
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.dla import DLA, DLASpec
from mobile_centernet.models.hrnet import HRNet, HRNetSpec
from mobile_centernet.models.resnet import ResNet, ResNetSpec

BackboneSpec = HRNetSpec | ResNetSpec | DLASpec


@dataclass(frozen=True)
class PaperFigures:
    """What Table 2 of the paper says of a model with 10 classes at 576×320: parameters in millions, and GFLOPs."""

    params_m: float
    gflops: float


@dataclass(frozen=True)
class ModelSpec:
    """One row: a backbone, how many hidden channels each head has, and the paper's figures where it is the paper's.

    `shared_head` and `scaled_input` are explained at CenterNet.
    """

    backbone: BackboneSpec
    head_channels: int
    paper: PaperFigures | None = None
    shared_head: bool = False
    scaled_input: bool = False


W16, W32 = (16, 32, 64, 128), (32, 64, 128, 256)
NANO = HRNetSpec(
    W16, (1, 1, 1), (2, 2, 2, 2), (16, 32), stage1_block=BasicBlock, stage1_blocks=1, stage1_planes=32, cascade=True
)
NANO_WIDE = HRNetSpec((32, 32, 64, 128), (1, 1, 1), (1, 2, 2, 2), (16, 32), stage1_blocks=0, cascade=True)

# Rows that end in _conv have plain convolutions in place of the deformable ones, which ONNX opset 13 cannot express.
MODELS: Mapping[str, ModelSpec] = {
    "resnet18": ModelSpec(ResNetSpec(BasicBlock, (2, 2, 2, 2)), 64, PaperFigures(14.4, 10.4)),
    "resnet50": ModelSpec(ResNetSpec(Bottleneck, (3, 4, 6, 3)), 64, PaperFigures(30.7, 18.9)),
    "dla34": ModelSpec(DLASpec(), 64, PaperFigures(19.8, 14.4)),
    "hrnet_w32": ModelSpec(HRNetSpec(W32, (1, 4, 3), (4, 4, 4, 4)), 64, PaperFigures(28.6, 29.5)),
    "hrnet_w16": ModelSpec(HRNetSpec(W16, (1, 1, 1), (2, 2, 2, 2)), 32, PaperFigures(1.62, 5.7)),
    "hrnet_w16_lite": ModelSpec(HRNetSpec(W16, (1, 1, 1), (2, 2, 2, 2), stage1_blocks=1, stage1_planes=32), 32),
    # A teacher whose step costs what a step of hrnet_w16 costs.
    "hrnet_w32_lite": ModelSpec(HRNetSpec(W32, (1, 1, 1), (2, 2, 2, 2), stage1_blocks=1, stage1_planes=32), 64),
    # Students in 0.3 of hrnet_w16's time; half of what hrnet_w16_lite takes goes by before its branches begin.
    "hrnet_w16_nano": ModelSpec(NANO, 48, shared_head=True, scaled_input=True),
    # Twice the channels where small objects are seen, at half the depth; the stem's output is the first branch.
    "hrnet_w16_nano_wide": ModelSpec(NANO_WIDE, 32, shared_head=True, scaled_input=True),
    "resnet18_conv": ModelSpec(ResNetSpec(BasicBlock, (2, 2, 2, 2), deformable=False), 64),
    "resnet50_conv": ModelSpec(ResNetSpec(Bottleneck, (3, 4, 6, 3), deformable=False), 64),
    "dla34_conv": ModelSpec(DLASpec(deformable=False), 64),
}


def build_model(name: str, num_classes: int) -> CenterNet:
    """A freshly initialised model. Raises ModelError for a name that is not in the table."""
    if name not in MODELS:
        raise ModelError(f"unknown model {name!r}: expected one of {', '.join(MODELS)}")
    if num_classes < 1:
        raise ModelError(f"model {name!r} needs at least one class, found {num_classes}")
    spec = MODELS[name]
    match spec.backbone:
        case HRNetSpec():
            backbone: HRNet | ResNet | DLA = HRNet(spec.backbone)
        case ResNetSpec():
            backbone = ResNet(spec.backbone)
        case DLASpec():
            backbone = DLA(spec.backbone)
    return CenterNet(
        backbone,
        backbone.out_channels,
        name=name,
        num_classes=num_classes,
        head_channels=spec.head_channels,
        shared_head=spec.shared_head,
        scaled_input=spec.scaled_input,
    )
