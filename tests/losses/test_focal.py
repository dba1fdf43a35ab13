"""The focal loss against CenterNet's numbers and against sums done by hand."""

import json
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobile_centernet.losses.focal import category_balanced_focal_loss


def logits(scores: list[list[float]]) -> Tensor:
    """Scores of two classes on a map of one row, [1, 2, 1, W]."""
    return torch.logit(torch.tensor(scores)).view(1, 2, 1, -1)


def heatmap(values: list[list[float]]) -> Tensor:
    return torch.tensor(values).view(1, 2, 1, -1)


def test_reference(oracles: Path) -> None:
    vectors = np.load(oracles / "centernet.npz")
    expected = json.loads((oracles / "centernet.json").read_text())
    prediction = torch.logit(torch.from_numpy(vectors["focal_pred"]).double()).float()
    target = torch.from_numpy(vectors["heatmap"])[None]
    loss = category_balanced_focal_loss(prediction, target)
    assert loss.item() == pytest.approx(expected["focal_loss"], rel=1e-6)
    without = category_balanced_focal_loss(prediction, torch.zeros_like(target))
    assert without.item() == pytest.approx(expected["focal_loss_no_objects"], rel=1e-6)
    for one_class, of_class in zip(torch.eye(4), expected["focal_sum_per_class"], strict=True):
        alone = category_balanced_focal_loss(prediction, target, one_class) * expected["num_pos"]
        assert alone.item() == pytest.approx(of_class, rel=1e-6)


def test_by_hand() -> None:
    # Class 0: a centre scored 0.6, beside it target 0.5 scored 0.2. Class 1: a centre scored 0.9, background 0.3.
    loss = category_balanced_focal_loss(logits([[0.6, 0.2], [0.9, 0.3]]), heatmap([[1, 0.5], [1, 0]]))
    first = -(0.4**2) * log(0.6) - 0.5**4 * 0.2**2 * log(0.8)
    second = -(0.1**2) * log(0.9) - 0.3**2 * log(0.7)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_class_weights_weigh_both_terms() -> None:
    prediction, target = logits([[0.6, 0.2], [0.9, 0.3]]), heatmap([[1, 0.5], [1, 0]])
    parts = [category_balanced_focal_loss(prediction, target, one) for one in torch.eye(2)]
    both = category_balanced_focal_loss(prediction, target, torch.tensor([10.0, 3.0]))
    torch.testing.assert_close(both, 10 * parts[0] + 3 * parts[1])


def test_no_objects_leaves_the_background() -> None:
    loss = category_balanced_focal_loss(logits([[0.5], [0.1]]), heatmap([[0], [0]]))
    assert loss.item() == pytest.approx(-0.25 * log(0.5) - 0.01 * log(0.9), rel=1e-5)


def test_ignored_cells_are_no_background_but_keep_their_centres() -> None:
    prediction, target = logits([[0.6, 0.2], [0.9, 0.3]]), heatmap([[1, 0.5], [0, 0]])
    loss = category_balanced_focal_loss(prediction, target, ignore_mask=torch.ones(1, 1, 1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(-(0.4**2) * log(0.6), rel=1e-5)
    first = category_balanced_focal_loss(prediction, target, ignore_mask=torch.tensor([[[[True, False]]]]))
    expected = -(0.4**2) * log(0.6) - 0.5**4 * 0.2**2 * log(0.8) - 0.3**2 * log(0.7)
    assert first.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("extreme", [-60000.0, -20.0, 20.0, 60000.0])
def test_saturated_low_precision_stays_finite(dtype: torch.dtype, extreme: float) -> None:
    prediction = torch.full((1, 2, 1, 2), extreme, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = category_balanced_focal_loss(prediction, heatmap([[1, 0.5], [0, 0]]))
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_gradient() -> None:
    prediction = torch.randn(1, 2, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = heatmap([[1, 0.5, 0], [0, 0.9, 1]])
    weights = torch.tensor([1.0, 7.0])
    assert torch.autograd.gradcheck(
        lambda logits: category_balanced_focal_loss(logits, target, weights), prediction.requires_grad_()
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), objects=st.integers(0, 5))
def test_is_the_sum_cell_by_cell(seed: int, objects: int) -> None:
    """Equation 3 written out for one cell after the other."""
    rng = np.random.default_rng(seed)
    scores, target = rng.uniform(0.01, 0.99, (2, 3, 4, 5)), rng.uniform(0, 0.99, (2, 3, 4, 5))
    target.reshape(-1)[rng.choice(target.size, objects, replace=False)] = 1
    weights = rng.uniform(1, 10, 3)
    total = 0.0
    for cell, truth in np.ndenumerate(target):
        p = scores[cell]
        term = (1 - p) ** 2 * log(p) if truth == 1 else (1 - truth) ** 4 * p**2 * log(1 - p)
        total -= weights[cell[1]] * term
    prediction = torch.logit(torch.from_numpy(scores)).float()
    loss = category_balanced_focal_loss(prediction, torch.from_numpy(target), torch.from_numpy(weights))
    assert loss.item() == pytest.approx(total / max(objects, 1), rel=1e-5)


def test_logits_are_left_alone() -> None:
    prediction = logits([[0.6, 0.2], [0.9, 0.3]])
    before = prediction.clone()
    category_balanced_focal_loss(prediction, heatmap([[1, 0], [0, 0]]))
    torch.testing.assert_close(prediction, before, rtol=0, atol=0)
