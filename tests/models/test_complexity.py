"""Counted sizes and costs are those of the paper's models."""

import pytest
import torch
from torch import nn

from mobile_centernet.models.complexity import Complexity, count
from mobile_centernet.models.registry import build_model


@pytest.mark.parametrize(
    ("name", "params", "giga_macs"), [("hrnet_w16", 1_616_366, 5.60), ("hrnet_w32", 28_591_950, 29.31)]
)
def test_paper_models(name: str, params: int, giga_macs: float) -> None:
    complexity = count(build_model(name, 10), (320, 576))
    assert complexity.params == params
    assert complexity.conv_macs / 1e9 == pytest.approx(giga_macs, abs=0.005)


def test_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 3·8·9 weights at 4·8 positions, and 8 biases
        nn.BatchNorm2d(8),  # 16 parameters, no MACs
        nn.Conv2d(8, 8, 1, groups=4, bias=False),  # 8·2 weights at 4·8 positions
    )
    assert count(model, (8, 16)) == Complexity(params=216 + 8 + 16 + 16, conv_macs=(216 + 16) * 32)


def test_model_is_left_as_it_was() -> None:
    model = nn.Conv2d(3, 4, 1).train()
    count(model, (4, 4))
    assert model.training
    assert not model._forward_hooks
    assert model(torch.zeros(1, 3, 2, 2)).device.type == "cpu"
