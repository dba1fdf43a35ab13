"""The bootstrap against pycocotools on sets in which frames really lie twice, and against what is known by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.bootstrap import MatchedFrames, paired_bootstrap
from mobile_centernet.evaluation.coco_eval import evaluate_map50

CLASSES = ("vehicle", "pedestrian", "scooter")


def random_set(seed: int, frames: int = 12) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Boxes on a coarse grid with coarse scores: hits, misses, doubles, ignore regions, and many equal scores."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(1, frames + 1):
        for _ in range(rng.integers(0, 4)):
            bbox = [*(20.0 * rng.integers(0, 4, 2)).tolist(), 18.0, 18.0]
            crowd = int(rng.random() < 0.2)
            truth.append({"image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": bbox, "iscrowd": crowd})
        for _ in range(rng.integers(0, 9)):
            x, y = 20.0 * rng.integers(0, 4, 2) + rng.integers(0, 2, 2) * rng.integers(0, 9, 2)
            found.append(
                {
                    "image_id": image,
                    "category_id": int(rng.integers(1, 4)),
                    "bbox": [float(x), float(y), 18.0, 18.0],
                    "score": float(rng.integers(1, 6)) / 5,
                }
            )
    states = ["unlabelled" if rng.random() < 0.1 else "labelled" for _ in range(frames)]
    return {
        "images": [{"id": image, "state": state} for image, state in enumerate(states, start=1)],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)],
        "annotations": [{"id": number, **box} for number, box in enumerate(truth, start=1)],
    }, found


def repeated(
    truth: dict[str, Any], found: list[dict[str, Any]], counts: list[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same set as a document in which every known frame lies `counts` times, under an id of its own."""
    known = [image for image in truth["images"] if image["state"] != "unlabelled"]
    origin = [image["id"] for image, count in zip(known, counts, strict=True) for _ in range(count)]

    def copies(boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**box, "image_id": new}
            for new, old in enumerate(origin, start=1)
            for box in boxes
            if box["image_id"] == old
        ]

    images = [{"id": new, "state": "labelled"} for new in range(1, len(origin) + 1)]
    annotations = [{**box, "id": number} for number, box in enumerate(copies(truth["annotations"]), start=1)]
    return {**truth, "images": images, "annotations": annotations}, copies(found)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=12, max_size=12))
@example(375, [0] * 8 + [2] * 4)  # a hit and a false alarm of one score: drawn twice they take turns
def test_a_draw_scores_as_pycocotools_scores_the_repeated_frames(seed: int, draws: list[int]) -> None:
    truth, found = random_set(seed)
    scored = MatchedFrames.of(truth, found, CLASSES)
    counts = draws[: scored.boxes.shape[1]]
    document, results = repeated(truth, found, counts)
    (ours,) = scored.map50(np.array([counts], np.int64))
    try:
        theirs = evaluate_map50(document, results, CLASSES).map50
    except DataError:
        assert math.isnan(ours)  # no box to find in this draw
    else:
        assert ours == pytest.approx(theirs, abs=1e-12)


def hits(*images: int) -> list[dict[str, Any]]:
    return [{"image_id": image, "category_id": 1, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.9} for image in images]


def test_two_frames_by_hand(truth: Callable[..., dict[str, Any]]) -> None:
    """One model finds the box of frame 1 only: AP 51/101. Draws: (2, 0) 1/4, (1, 1) 1/2, (0, 2) 1/4."""
    both = truth((1, 0, [0, 0, 10, 10]), (2, 0, [0, 0, 10, 10]))
    names = ("vehicle", "pedestrian")
    one, two = ([MatchedFrames.of(both, hits(*images), names)] for images in ((1,), (1, 2)))
    found = paired_bootstrap(one, two, resamples=2000, seed=1)
    half = 1 - 51 / 101
    assert found.value == pytest.approx(half)
    values, counts = np.unique(found.samples.round(9), return_counts=True)
    assert values == pytest.approx([0, half, 1])
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    assert (found.lower, found.upper) == (0, 1)
    mirrored = paired_bootstrap(two, one, resamples=2000, seed=1)
    assert np.array_equal(mirrored.samples, -found.samples)


def test_a_model_is_no_better_than_itself_and_draws_are_repeatable() -> None:
    truth, found = random_set(3)
    whole, backwards, half = (MatchedFrames.of(truth, part, CLASSES) for part in (found, found[::-1], found[::2]))
    same = paired_bootstrap([whole] * 3, [backwards] * 3, resamples=50)
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    one, two, three = (paired_bootstrap([whole], [half], resamples=50, seed=seed).samples for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, three)


def test_draws_without_a_box_are_drawn_anew(truth: Callable[..., dict[str, Any]]) -> None:
    one = truth((1, 0, [0, 0, 10, 10]), images=6)
    none, all_ = ([MatchedFrames.of(one, found, ("vehicle", "pedestrian"))] for found in ([], hits(1)))
    found = paired_bootstrap(none, all_, resamples=100)
    assert found.samples == pytest.approx(np.ones(100))


def test_no_box_at_all_is_said(truth: Callable[..., dict[str, Any]]) -> None:
    nothing = [MatchedFrames.of(truth(), [], ("vehicle", "pedestrian"))]
    with pytest.raises(DataError, match="bootstrap: expected a box to find, found none in 2 frames"):
        paired_bootstrap(nothing, nothing)


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.4}])
def test_senseless_settings_are_refused(wrong: dict[str, Any], truth: Callable[..., dict[str, Any]]) -> None:
    nothing = [MatchedFrames.of(truth(), [], ("vehicle", "pedestrian"))]
    with pytest.raises(ValueError, match="at least 1 draw"):
        paired_bootstrap(nothing, nothing, **wrong)


def test_seeds_are_drawn_too_and_in_pairs_by_hand(truth: Callable[..., dict[str, Any]]) -> None:
    """One frame, so that frames draw nothing: with seed 1 the gain is 1, with seed 2 it is 0; means 0, 1/2, 1."""
    one = truth((1, 0, [0, 0, 10, 10]), images=1)
    none, all_ = (MatchedFrames.of(one, found, ("vehicle", "pedestrian")) for found in ([], hits(1)))
    found = paired_bootstrap([none, all_], [all_, all_], resamples=2000)
    assert found.value == pytest.approx(0.5)
    values, counts = np.unique(found.samples.round(9), return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)


def a_detector(share: float, rng: np.random.Generator, truth: dict[str, Any]) -> MatchedFrames:
    """Finds each box with this probability, and nothing else: its mAP@0.5 on many frames is nearly `share`."""
    found = [
        {"image_id": box["image_id"], "category_id": box["category_id"], "bbox": box["bbox"], "score": rng.random()}
        for box in truth["annotations"]
        if rng.random() < share
    ]
    return MatchedFrames.of(truth, found, CLASSES)


def test_the_interval_covers_a_known_shift_as_often_as_it_says() -> None:
    """Of 40 intervals of 95 % some 38 cover; fewer than 33 or a miss of 0 would say that they are wrong."""
    rng, covered, above = np.random.default_rng(5), 0, 0
    truth = {
        "images": [{"id": number, "state": "labelled"} for number in range(1, 61)],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)],
        "annotations": [
            {"id": 3 * n + c + 1, "image_id": n + 1, "category_id": c + 1, "bbox": [9.0 * c, 0, 9, 9], "iscrowd": 0}
            for n in range(60)
            for c in range(3)
        ],
    }
    for _ in range(40):
        plain, taught = ([a_detector(share, rng, truth) for _ in range(3)] for share in (0.5, 0.65))
        found = paired_bootstrap(plain, taught, resamples=200, confidence=0.975)
        covered += found.lower <= 0.15 <= found.upper
        above += found.lower > 0
    assert covered >= 33 and above >= 33


def test_other_frames_are_no_pair(truth: Callable[..., dict[str, Any]]) -> None:
    names = ("vehicle", "pedestrian")
    one, other = (MatchedFrames.of(truth((image, 0, [0, 0, 10, 10])), [], names) for image in (1, 2))
    with pytest.raises(DataError, match="expected both models scored on the same frames"):
        paired_bootstrap([one], [other])
