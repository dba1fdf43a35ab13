"""HRNet's modules are the official ones, name for name."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mobile_centernet.models.hrnet import HRModule, HRNet, HRNetSpec
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


def test_a_cascade_gives_the_same_sums() -> None:
    """Rows that add from both sides, from below alone, and from above alone; training and inference."""
    torch.manual_seed(0)
    channels = (4, 3, 2, 5)
    plain, cascade = (HRModule(channels, (1, 1, 1, 1), 4, cascade=cascade).double() for cascade in (False, True))
    cascade.load_state_dict(plain.state_dict())
    branches = [torch.randn(2, c, 32 >> i, 16 >> i, dtype=torch.float64) for i, c in enumerate(channels)]
    for mode in (True, False):
        for expected, found in zip(plain.train(mode)(branches), cascade.train(mode)(branches), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            assert found.any()


@pytest.mark.parametrize("student", ["hrnet_w16_nano", "hrnet_w16_nano_wide"])
def test_small_students_are_the_table_in_layers(student: str) -> None:
    spec = MODELS[student].backbone
    assert isinstance(spec, HRNetSpec)
    body = HRNet(spec)
    depths = [[len(branch) for branch in stage[0].branches] for stage in (body.stage2, body.stage3, body.stage4)]
    assert depths == [list(spec.blocks[:branches]) for branches in (2, 3, 4)]
    assert [tuple(conv.weight.shape[:2]) for conv in (body.conv1, body.conv2)] == [(16, 3), (32, 16)]
    assert len(body.layer1) == spec.stage1_blocks
    # Where the stem has the first branch's channels, it is the first branch.
    assert isinstance(body.transition1[0], nn.Identity) == (student == "hrnet_w16_nano_wide")
