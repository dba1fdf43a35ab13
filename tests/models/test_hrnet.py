"""HRNet's modules are the official ones, name for name."""

import json
from pathlib import Path

import pytest
import torch

from mobile_centernet.models.hrnet import HRNet, HRNetSpec
from mobile_centernet.models.variants import MODELS

OFFICIAL = {"hrnet_w16": "pose_hrnet_w16_student", "hrnet_w32": "pose_hrnet_w32_teacher"}


@pytest.fixture(scope="module", params=OFFICIAL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backbone(name: str) -> HRNet:
    spec = MODELS[name].backbone
    assert isinstance(spec, HRNetSpec)
    return HRNet(spec)


def test_names_and_shapes_are_the_official_ones(name: str, backbone: HRNet, oracles: Path) -> None:
    official = json.loads((oracles / "hrnet_state_dicts.json").read_text())[OFFICIAL[name]]
    ours = {key: list(tensor.shape) for key, tensor in backbone.state_dict().items()}
    assert ours == official
    assert list(ours) == list(official)


@pytest.mark.parametrize(
    ("name", "checkpoint"), [("hrnet_w16_lite", "imagenet_hrnet_w18_small_v1"), ("hrnet_w32", "imagenet_hrnet_w32")]
)
def test_imagenet_checkpoints_hold_the_whole_body(name: str, checkpoint: str, oracles: Path) -> None:
    """They hold more: a classifier, and what the last module would give the lower resolutions."""
    official = json.loads((oracles / "hrnet_state_dicts.json").read_text())[checkpoint]
    spec = MODELS[name].backbone
    assert isinstance(spec, HRNetSpec)
    with torch.device("meta"):
        ours = {key: list(tensor.shape) for key, tensor in HRNet(spec).state_dict().items()}
    assert {key: official.get(key) for key in ours} == ours


def test_number_of_tensors(name: str, backbone: HRNet) -> None:
    assert len(backbone.state_dict()) == {"hrnet_w16": 402, "hrnet_w32": 1752}[name]


def test_shape(name: str, backbone: HRNet) -> None:
    features = backbone.eval()(torch.zeros(2, 3, 64, 96))
    assert features.shape == (2, {"hrnet_w16": 16, "hrnet_w32": 32}[name], 16, 24)


def test_last_module_feeds_only_the_highest_resolution(backbone: HRNet) -> None:
    rows = [len(module.get_submodule("fuse_layers")._modules) for module in backbone.stage4]
    assert rows == [4] * (len(rows) - 1) + [1]


def test_every_parameter_learns(backbone: HRNet) -> None:
    backbone.train()(torch.randn(2, 3, 64, 64)).square().sum().backward()
    still = [
        key for key, parameter in backbone.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not still
