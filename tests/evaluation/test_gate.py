"""The gate's truth table, and the bootstrap against pycocotools on sets in which frames really lie twice."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.bootstrap import ResampledMap50, paired_bootstrap
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.gate import Bounds, Candidate, Check, Facts, Limits, TestSet, decide
from mobile_centernet.reports.gate_page import write_gate_page

CLASSES = ("vehicle", "pedestrian", "scooter")
LIMITS = Limits(map50=0.3, ap50={"default": 0.1, "scooter": 0.2}, epsilon=0.01, mib=8, latency_ms=50, unseen=0.5)
CHALLENGER = Candidate("2", 0.5, {"vehicle": 0.6, "pedestrian": 0.5, "scooter": 0.4}, 6.5, 20.0)
CHAMPION = Candidate("1", 0.45, {"vehicle": 0.55, "pedestrian": 0.4, "scooter": 0.4}, 6.5, 21.0)
FACTS = Facts(
    challenger=CHALLENGER,
    champion=CHAMPION,
    difference=Bounds(0.05, 0.01, 0.09),
    test_set=TestSet("ivslab test", frames=80, scored=80),
    parity={"fp32": True, "int8": True, "engine": "engine not built: no CUDA device"},
    required="fp32",
)
FIRST = replace(FACTS, champion=None, difference=None)
BETTER, BOUND = "better than the champion", "lower bound of the difference"


def of_challenger(**changes: Any) -> Facts:
    return replace(FACTS, challenger=replace(CHALLENGER, **changes))


def of_test(**changes: Any) -> Facts:
    return replace(FACTS, test_set=replace(FACTS.test_set, **changes))


def ap(**values: float | None) -> dict[str, float | None]:
    return {**CHALLENGER.ap50, **values}


TRUTH_TABLE: list[tuple[Facts, set[str]]] = [
    (FACTS, set()),
    (FIRST, set()),
    (of_challenger(map50=0.3), set()),
    (of_challenger(map50=0.2999), {"mAP@0.5"}),
    (replace(FIRST, challenger=replace(CHALLENGER, map50=0.29)), {"mAP@0.5"}),
    (of_challenger(map50=math.nan), {"mAP@0.5"}),
    (of_challenger(ap50=ap(pedestrian=0.1)), set()),
    (of_challenger(ap50=ap(pedestrian=0.0999)), {"AP@0.5 of pedestrian"}),
    (of_challenger(ap50=ap(scooter=0.15)), {"AP@0.5 of scooter"}),
    (of_challenger(ap50=ap(vehicle=None)), {"AP@0.5 of vehicle"}),
    (of_challenger(ap50=ap(vehicle=math.nan)), {"AP@0.5 of vehicle"}),
    (replace(FACTS, difference=Bounds(0.0, 0.0, 0.0)), {BETTER}),
    (replace(FACTS, difference=Bounds(-0.01, -0.03, 0.01)), {BETTER, BOUND}),
    (replace(FACTS, difference=Bounds(0.001, -0.01, 0.02)), {BOUND}),
    (replace(FACTS, difference=Bounds(0.001, -0.0099, 0.02)), set()),
    (replace(FACTS, difference=Bounds(0.2, -0.05, 0.4)), {BOUND}),
    (replace(FACTS, difference=Bounds(math.nan, math.nan, math.nan)), {BETTER, BOUND}),
    (of_challenger(mib=8.0), set()),
    (of_challenger(mib=8.01), {"size in MiB"}),
    (of_challenger(latency_ms=50.1), {"latency in ms a picture"}),
    (of_challenger(latency_ms=math.inf), {"latency in ms a picture"}),
    (of_test(leaked=("ivslab/a.mp4",)), {"test material seen in training"}),
    (of_test(left_out=("ivslab/a.mp4",), scored=40), set()),
    (of_test(left_out=("ivslab/a.mp4",), scored=39), {"share of test frames scored"}),
    (of_test(frames=0, scored=0), {"share of test frames scored"}),
    (replace(FACTS, parity={"fp32": False}), {"parity of fp32"}),
    (replace(FACTS, parity={"fp32": True, "int8": False}), {"parity of int8"}),
    (replace(FACTS, parity={"fp32": True, "engine": False}), {"parity of engine"}),
    (replace(FACTS, parity={"int8": True}), {"parity of fp32"}),
    (replace(FACTS, parity={"fp32": "not compared"}), {"parity of fp32"}),
    (replace(FACTS, required="fp16"), {"parity of fp16"}),
    (replace(FACTS, withdrawn="by Ann"), {"not withdrawn"}),
    (replace(FACTS, withdrawn="by Ann", approved_by="Bob"), set()),
    (of_challenger(map50=0.1, mib=9.0, ap50=ap(scooter=0.0)), {"mAP@0.5", "AP@0.5 of scooter", "size in MiB"}),
]


@pytest.mark.parametrize(("facts", "failed"), TRUTH_TABLE)
def test_truth_table(facts: Facts, failed: set[str]) -> None:
    decision = decide(facts, LIMITS)
    assert set(decision.failed) == failed
    assert decision.promote == (not failed)
    document = decision.document()
    assert document["decision"] == ("reject" if failed else "promote")
    assert {check["name"] for check in document["checks"] if not check["passed"]} == failed


def test_every_check_is_listed_with_the_champion_beside_it() -> None:
    checks = {check.name: check for check in decide(FACTS, LIMITS).checks}
    assert len(checks) == 13
    assert checks["mAP@0.5"] == Check("mAP@0.5", 0.5, 0.45, "at least 0.3", True)
    assert checks["AP@0.5 of scooter"] == Check("AP@0.5 of scooter", 0.4, 0.4, "at least 0.2", True)
    assert checks["parity of engine"].value == "engine not built: no CUDA device"


def test_approval_is_needed_where_asked_for_and_lifts_nothing_else() -> None:
    asked = replace(LIMITS, approval=True)
    assert decide(FACTS, asked).failed == ("approval",)
    assert decide(replace(FACTS, approved_by="Bob"), asked).promote
    assert decide(replace(of_challenger(map50=0.1), approved_by="Bob"), asked).failed == ("mAP@0.5",)


def test_a_class_that_cannot_be_measured_needs_a_floor_of_0() -> None:
    facts = of_challenger(ap50=ap(scooter=None))
    assert decide(facts, LIMITS).failed == ("AP@0.5 of scooter",)
    assert decide(facts, replace(LIMITS, ap50={"default": 0.1, "scooter": 0.0})).promote


def test_further_checks_decide_too() -> None:
    assert decide(FACTS, LIMITS, [Check("signature", "none", None, "a trusted one", False)]).failed == ("signature",)


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, difference=None),
        replace(FACTS, champion=None),
        replace(FACTS, champion=replace(CHAMPION, version="2")),
    ],
)
def test_facts_that_contradict_each_other_are_refused(facts: Facts) -> None:
    with pytest.raises(ValueError, match="expected"):
        decide(facts, LIMITS)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 0.2))
def test_a_better_challenger_is_never_rejected_for_being_better(
    map50: float, gain: float, value: float, lower: float, step: float
) -> None:
    facts = replace(of_challenger(map50=map50), difference=Bounds(value, min(value, lower), 1.0))
    better = replace(
        of_challenger(map50=map50 + gain), difference=Bounds(value + step, min(value, lower) + step, 1.0 + step)
    )
    assert set(decide(better, LIMITS).failed) <= set(decide(facts, LIMITS).failed)


def test_the_page_tells_everything_and_escapes_it(tmp_path: Path) -> None:
    facts = of_challenger(ap50={"<script>": 0.05, "vehicle": 0.6})
    samples = np.linspace(-0.01, 0.11, 200)
    write_gate_page(tmp_path / "a.html", decide(facts, LIMITS), facts, LIMITS, samples, {"Digest": "abc & def"})
    page = (tmp_path / "a.html").read_text()
    assert "Version 2 is rejected: 1 of 12 checks failed." in page
    assert "&lt;script&gt;" in page and "<script>" not in page and "abc &amp; def" in page
    assert page.count("data:image/png;base64,") == 1 and "http" not in page.replace("http-equiv", "")
    assert page.count('<tr class="fell">') == 1 and page.count(">passed</td>") == 11

    write_gate_page(tmp_path / "b.html", decide(FIRST, LIMITS), FIRST, LIMITS, None, {})
    page = (tmp_path / "b.html").read_text()
    assert "may become the first champion" in page and "There is no champion to compare with." in page


# --- the bootstrap ----------------------------------------------------------------------------------------------------


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
    scored = ResampledMap50(truth, found, CLASSES)
    counts = draws[: scored.frames]
    document, results = repeated(truth, found, counts)
    ours = scored.map50(np.array(counts, np.int64))
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
    found = paired_bootstrap(both, hits(1), hits(1, 2), names, resamples=2000, seed=1)
    half = 1 - 51 / 101
    assert found.value == pytest.approx(half)
    values, counts = np.unique(found.samples.round(9), return_counts=True)
    assert values == pytest.approx([0, half, 1])
    assert counts / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    assert (found.lower, found.upper) == (0, 1)
    mirrored = paired_bootstrap(both, hits(1, 2), hits(1), names, resamples=2000, seed=1)
    assert np.array_equal(mirrored.samples, -found.samples)


def test_a_model_is_no_better_than_itself_and_draws_are_repeatable() -> None:
    truth, found = random_set(3)
    _, other = random_set(3)
    other = other[::2]
    same = paired_bootstrap(truth, found, list(reversed(found)), CLASSES, resamples=50)
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    one, two, three = (
        paired_bootstrap(truth, found, other, CLASSES, resamples=50, seed=seed).samples for seed in (1, 1, 2)
    )
    assert np.array_equal(one, two) and not np.array_equal(one, three)


def test_draws_without_a_box_are_drawn_anew(truth: Callable[..., dict[str, Any]]) -> None:
    one = truth((1, 0, [0, 0, 10, 10]), images=6)
    found = paired_bootstrap(one, [], hits(1), ("vehicle", "pedestrian"), resamples=100)
    assert found.samples == pytest.approx(np.ones(100))


def test_no_box_at_all_is_said(truth: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="bootstrap: expected a box to find, found none in 2 frames"):
        paired_bootstrap(truth(), [], [], ("vehicle", "pedestrian"))


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.4}])
def test_senseless_settings_are_refused(wrong: dict[str, Any], truth: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="at least 1 draw"):
        paired_bootstrap(truth(), [], [], ("vehicle", "pedestrian"), **wrong)
