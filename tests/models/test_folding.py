"""A folded model says what the model says, with fewer layers."""

import pytest
import torch
from torch import nn

from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.folding import folded
from mobile_centernet.models.registry import MODELS, build_model


def norms(model: CenterNet) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def some_model(name: str) -> CenterNet:
    """With batch norms that have seen something, in train mode."""
    torch.manual_seed(0)
    model = build_model(name, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_same_outputs(name: str) -> None:
    model = some_model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quick = folded(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        for expected, found in zip(model.eval()(image), quick(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert norms(quick) < norms(model) / 2


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("hrnet")])
def test_nothing_but_convolutions_is_left_of_an_hrnet(name: str) -> None:
    quick = folded(build_model(name, 3))
    assert norms(quick) == 0
    assert not quick.training
    assert not any(parameter.requires_grad for parameter in quick.parameters())
