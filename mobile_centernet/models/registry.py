"""The table of models. A new variant is a new row."""

from collections.abc import Mapping
from dataclasses import dataclass

from mobile_centernet.errors import ModelError
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.hrnet import HRNet, HRNetSpec


@dataclass(frozen=True)
class ModelSpec:
    """One row: which body, and how many hidden channels each head has."""

    backbone: HRNetSpec
    head_channels: int


MODELS: Mapping[str, ModelSpec] = {
    "hrnet_w16": ModelSpec(HRNetSpec(channels=(16, 32, 64, 128), modules=(1, 1, 1), blocks=2), head_channels=32),
    "hrnet_w32": ModelSpec(HRNetSpec(channels=(32, 64, 128, 256), modules=(1, 4, 3), blocks=4), head_channels=64),
}


def build_model(name: str, num_classes: int) -> CenterNet:
    """A freshly initialised model. Raises ModelError for a name that is not in the table."""
    if name not in MODELS:
        raise ModelError(f"unknown model {name!r}: expected one of {', '.join(MODELS)}")
    if num_classes < 1:
        raise ModelError(f"model {name!r} needs at least one class, found {num_classes}")
    spec = MODELS[name]
    backbone = HRNet(spec.backbone)
    return CenterNet(
        backbone,
        backbone.out_channels,
        name=name,
        num_classes=num_classes,
        head_channels=spec.head_channels,
    )
