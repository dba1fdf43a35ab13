"""Counted sizes and costs are those of the paper's models."""

from functools import cache

import pytest
import torch
from torch import nn

from mobile_centernet.models.complexity import Complexity, count
from mobile_centernet.models.deform import DeformConv2d
from mobile_centernet.models.variants import MODELS, build_model


@cache
def counted(name: str) -> Complexity:
    with torch.device("meta"):
        model = build_model(name, 10)
    return count(model, (320, 576))


@pytest.mark.parametrize(
    ("name", "params", "conv_gmacs", "thop_2020"),
    [
        ("resnet18", 14_432_799, "9.31", "10.39"),
        ("resnet50", 30_676_511, "18.36", "18.87"),
        ("dla34", 19_835_862, "19.21", "14.37"),
        ("hrnet_w32", 28_591_950, "29.31", "29.46"),
        ("hrnet_w16", 1_616_366, "5.60", "5.66"),
        ("hrnet_w16_lite", 1_299_054, "2.30", "2.33"),
        ("hrnet_w32_lite", 4_886_670, "6.23", "6.27"),
        ("hrnet_w16_nano", 1_211_502, "1.50", "1.51"),
        ("hrnet_w16_nano_wide", 1_249_214, "1.63", "1.64"),
    ],
)
def test_table_2_at_10_classes_and_576x320(name: str, params: int, conv_gmacs: str, thop_2020: str) -> None:
    found = counted(name)
    giga = [f"{number / 1e9:.2f}" for number in (found.conv_macs, found.thop_2020)]
    assert (found.params, *giga) == (params, conv_gmacs, thop_2020)


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.paper])
def test_the_count_explains_the_papers_figures_to_the_printed_digit(name: str) -> None:
    found, paper = counted(name), MODELS[name].paper
    assert paper is not None
    assert round(found.params / 1e6, 2 if name == "hrnet_w16" else 1) == paper.params_m
    assert round(found.thop_2020 / 1e9, 1) == paper.gflops


def test_the_count_does_not_depend_on_the_models_device() -> None:
    assert count(build_model("hrnet_w16", 10), (320, 576)) == counted("hrnet_w16")


def test_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 3·8·9 weights at 4·8 positions, and 8 biases
        nn.BatchNorm2d(8),  # 16 parameters, no MACs, 2 for each of 8·32 elements
        nn.Conv2d(8, 8, 1, groups=4, bias=False),  # 8·2 weights at 4·8 positions
        nn.ReLU(),
    )
    macs = (216 + 16) * 32
    expected = Complexity(params=216 + 8 + 16 + 16, conv_macs=macs, thop_2020=macs + 8 * 32 + 2 * 8 * 32)
    assert count(model, (8, 16)) == expected


def test_deconvolution_by_hand() -> None:
    """Each of 4·8 inputs meets 16 taps to 5 channels; thop counted 8·16 outputs, four times as many."""
    model = nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)
    weights = 3 * 5 * 16
    expected = Complexity(weights + 5, conv_macs=weights * 32, thop_2020=weights * 128 + 5 * 128)
    assert count(model, (4, 8)) == expected


def test_deconvolution_truly_takes_as_many_multiplications() -> None:
    """As the backward of the convolution with the same weights, whose cost nobody doubts."""
    deconv, conv = nn.ConvTranspose2d(3, 3, 4, 2, 1, groups=3), nn.Conv2d(3, 3, 4, 2, 1, groups=3)
    assert count(deconv, (8, 8)).conv_macs == count(conv, (16, 16)).conv_macs


def test_deformable_convolution_by_hand() -> None:
    """3·5·9 weights of its own and 3·27·9 of its offset convolution at 32 positions; thop saw the latter alone."""
    own, guide = 3 * 5 * 9, 3 * 27 * 9
    expected = Complexity(own + 5 + guide + 27, conv_macs=(own + guide) * 32, thop_2020=(guide + 27) * 32)
    assert count(DeformConv2d(3, 5), (4, 8)) == expected


def test_model_is_left_as_it_was() -> None:
    model = nn.Conv2d(3, 4, 1).train()
    count(model, (4, 4))
    assert model.training
    assert not model._forward_hooks
    assert model(torch.zeros(1, 3, 2, 2)).device.type == "cpu"
