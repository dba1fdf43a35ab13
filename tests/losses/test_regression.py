"""The L1 loss at centres."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mobile_centernet.losses.regression import centre_l1_loss


def test_reference(oracles: Path) -> None:
    vectors = np.load(oracles / "centernet.npz")
    expected = json.loads((oracles / "centernet.json").read_text())["size_l1_mean_over_2N"]
    prediction, target = torch.from_numpy(vectors["l1_size_map"]), torch.from_numpy(vectors["size"])[None]
    index = torch.from_numpy(vectors["index"]).long()[None]
    loss = centre_l1_loss(prediction, target, index, torch.ones_like(index, dtype=torch.bool))
    # The reference divides by 2N + 1e-4, against a division by zero; ours by 2N, here 48.
    assert loss.item() * 48 / 48.0001 == pytest.approx(expected, rel=1e-6)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two frames on a map of 2×3 cells; objects: one at cell 5 of frame 0, two at cells 0 and 1 of frame 1."""
    prediction = torch.arange(24.0).view(2, 2, 2, 3)
    index = torch.tensor([[5, 0], [0, 1]])
    mask = torch.tensor([[True, False], [True, True]])
    target = torch.tensor([[[4.0, 13.0], [99.0, 99.0]], [[12.0, 18.0], [14.0, 19.5]]])
    return prediction, target, index, mask


def test_by_hand(case: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    # frame 0: |5 - 4| + |11 - 13|; frame 1: |12 - 12| + |18 - 18|, |13 - 14| + |19 - 19.5|; 3 objects
    assert centre_l1_loss(*case).item() == pytest.approx((3 + 0 + 1.5) / 6)


@pytest.mark.parametrize(("index_type", "mask_type"), [(torch.int32, torch.uint8), (torch.int16, torch.float32)])
def test_other_types_of_index_and_mask(
    case: tuple[Tensor, Tensor, Tensor, Tensor], index_type: torch.dtype, mask_type: torch.dtype
) -> None:
    prediction, target, index, mask = case
    loss = centre_l1_loss(prediction.double(), target, index.to(index_type), mask.to(mask_type))
    assert loss.item() == pytest.approx((3 + 0 + 1.5) / 6)
    assert loss.dtype == torch.float64


def test_gradient(case: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    prediction, target, index, mask = case
    target = target + 0.25  # away from |0|
    assert torch.autograd.gradcheck(
        lambda values: centre_l1_loss(values, target, index, mask), prediction.double().requires_grad_()
    )


def test_padding_gets_no_gradient(case: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    prediction, target, index, mask = case
    prediction.requires_grad_()
    target[0, 1] = torch.nan  # whatever padding holds
    loss = centre_l1_loss(prediction, target, index, mask)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.isfinite()
    assert gradient[0].nonzero().tolist() == [[0, 1, 2], [1, 1, 2]]


def test_no_objects(case: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    prediction, target, index, mask = case
    prediction.requires_grad_()
    loss = centre_l1_loss(prediction, target, index, torch.zeros_like(mask))
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.item() == 0
    assert not gradient.any()


def test_float32_under_autocast(case: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    prediction, target, index, mask = case
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = centre_l1_loss(prediction.bfloat16(), target, index, mask)
    assert loss.dtype == torch.float32
