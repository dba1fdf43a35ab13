"""Comparing detections by hand: what a device may do, and what it may not."""

import json

import numpy as np
import pytest

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.golden import COMPARED, compare, from_json, to_json
from mobile_centernet.bundle.manifest import Tolerance
from mobile_centernet.detections import Detections
from tests.helpers.arrays import arrays

LOOSE = Tolerance(score=0.05, box=2.0)


def found(*rows: tuple[float, int, float]) -> Detections:
    """Rows of (score, label, x): a box of 10 x 10 pixels at (x, 5)."""
    boxes = np.array([[x, 5, x + 10, 15] for _, _, x in rows], np.float32).reshape(-1, 4)
    scores, labels = [row[0] for row in rows], [row[1] for row in rows]
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int64))


GOLDEN = found((0.9, 0, 0), (0.5, 1, 40), (0.49, 0, 80))


def test_equal_is_no_difference() -> None:
    agreement = compare(GOLDEN, GOLDEN, Tolerance(0, 0), "x")
    assert (agreement.score, agreement.box) == (0, 0)


def test_ranks_may_swap_and_small_differences_are_measured() -> None:
    device = found((0.92, 0, 1.5), (0.5, 0, 80), (0.48, 1, 40.5))
    agreement = compare(GOLDEN, device, LOOSE, "x")
    assert agreement.score == pytest.approx(0.02, abs=1e-6)
    assert agreement.box == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        (
            found((0.9, 0, 0), (0.49, 0, 80)),
            r"expected a detection of class 1 at \(40.0, 5.0, 50.0, 15.0\) with score 0.5",
        ),
        (found((0.9, 0, 0), (0.5, 0, 40), (0.49, 0, 80)), "expected a detection of class 1 .* within 2.0 px and 0.05"),
        (found((0.9, 0, 0), (0.5, 1, 42.1), (0.49, 0, 80)), "expected a detection of class 1"),
        (found((0.9, 0, 0), (0.56, 1, 40), (0.49, 0, 80)), "expected a detection of class 1"),
        (found((0.9, 0, 0), (0.7, 1, 200), (0.5, 1, 40), (0.49, 0, 80)), "nothing but the golden .* found .*score 0.7"),
        (found(), "expected a detection of class 0"),
        (found((np.nan, 0, 0), (0.5, 1, 40), (0.49, 0, 80)), "expected a detection of class 0"),
        (found((0.9, 0, np.nan), (0.5, 1, 40), (0.49, 0, 80)), "expected a detection of class 0"),
    ],
)
def test_differences_are_named(device: Detections, sentence: str) -> None:
    with pytest.raises(BundleError, match=f"^fp16: 0.png: .*{sentence}"):
        compare(GOLDEN, device, LOOSE, "fp16: 0.png")


def test_below_the_compared_ones_anything_may_come_and_go() -> None:
    best = [(0.9 - 0.01 * rank, 0, 20.0 * rank) for rank in range(COMPARED)]
    golden = found(*best, (0.1, 1, 7))
    compare(golden, found(*best, (0.1, 0, 333)), LOOSE, "x")
    with pytest.raises(BundleError, match="nothing but the golden"):
        compare(golden, found(*best, (0.8, 0, 999)), LOOSE, "x")


def test_nothing_to_compare_is_no_success() -> None:
    with pytest.raises(BundleError, match="expected golden detections, found none"):
        compare(found(), GOLDEN, LOOSE, "x")


def test_round_trip_to_the_last_digit() -> None:
    rng = np.random.default_rng(0)
    golden = {
        name: Detections(
            rng.normal(100, 50, (k, 4)).astype(np.float32),
            rng.random(k).astype(np.float32),
            rng.integers(0, 4, k),
        )
        for name, k in (("b", 100), ("a", 0))
    }
    again = from_json(to_json(golden), "golden")
    for name, rows in golden.items():
        for left, right in zip(arrays(rows), arrays(again[name]), strict=True):
            np.testing.assert_array_equal(left, right)


def test_no_finite_numbers_no_golden() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"a": found((np.nan, 0, 0))})


@pytest.mark.parametrize(
    "document",
    [[], {"a": 1}, {"a": {}}, {"a": {"boxes": [[1, 2, 3]], "scores": [1], "labels": [1]}},
     {"a": {"boxes": [[1, 2, 3, 4]], "scores": [1, 2], "labels": [1]}},
     {"a": {"boxes": [["x", 2, 3, 4]], "scores": [1], "labels": [1]}}],
)  # fmt: skip
def test_broken_golden_files(document: object) -> None:
    with pytest.raises(BundleError, match=r"golden/fp32\.json: expected golden boxes"):
        from_json(json.dumps(document).encode(), "golden/fp32.json")
    with pytest.raises(BundleError, match="expected golden boxes"):
        from_json(b"\xff", "x")
