"""The gate's truth table, and its page."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.evaluation.gate import Bounds, Candidate, Check, Facts, Limits, Scored, TestSet, decide
from mobile_centernet.reports.gate_page import write_gate_page

CLASSES = ("vehicle", "pedestrian", "scooter")
LIMITS = Limits(map50=0.3, ap50={"default": 0.1, "scooter": 0.2}, epsilon=0.01, mib=8, latency_ms=50, unseen=0.5)
CHALLENGER = Candidate(0.5, {"vehicle": 0.6, "pedestrian": 0.5, "scooter": 0.4}, 6.5, 20.0)
CHAMPION = Candidate(0.45, {"vehicle": 0.55, "pedestrian": 0.4, "scooter": 0.4}, 6.5, 21.0)
FP32 = Scored(CHALLENGER, CHAMPION, Bounds(0.05, 0.01, 0.09))
FACTS = Facts(
    challenger="2",
    champion="1",
    scored={"fp32": FP32},
    test_set=TestSet("ivslab test", frames=80, scored=80),
    parity={"fp32": True, "int8": True, "engine": "engine not built: no CUDA device"},
    required="fp32",
)
FIRST = replace(FACTS, champion=None, scored={"fp32": Scored(CHALLENGER)})
BETTER, BOUND = "better than the champion", "lower bound of the difference, fp32"


def of_challenger(**changes: Any) -> Facts:
    return replace(FACTS, scored={"fp32": replace(FP32, challenger=replace(CHALLENGER, **changes))})


def differing(**bounds: Bounds) -> Facts:
    """Both have these precisions, with such differences."""
    scored = {name: Scored(CHALLENGER, CHAMPION, found) for name, found in bounds.items()}
    return replace(FACTS, scored=scored, parity=dict.fromkeys(bounds, True))


def of_test(**changes: Any) -> Facts:
    return replace(FACTS, test_set=replace(FACTS.test_set, **changes))


def ap(**values: float | None) -> dict[str, float | None]:
    return {**CHALLENGER.ap50, **values}


TRUTH_TABLE: list[tuple[Facts, set[str]]] = [
    (FACTS, set()),
    (FIRST, set()),
    (of_challenger(map50=0.3), set()),
    (of_challenger(map50=0.2999), {"mAP@0.5 of fp32"}),
    (replace(FIRST, scored={"fp32": Scored(replace(CHALLENGER, map50=0.29))}), {"mAP@0.5 of fp32"}),
    (of_challenger(map50=math.nan), {"mAP@0.5 of fp32"}),
    (of_challenger(ap50=ap(pedestrian=0.1)), set()),
    (of_challenger(ap50=ap(pedestrian=0.0999)), {"AP@0.5 of pedestrian, fp32"}),
    (of_challenger(ap50=ap(scooter=0.15)), {"AP@0.5 of scooter, fp32"}),
    (of_challenger(ap50=ap(vehicle=None)), {"AP@0.5 of vehicle, fp32"}),
    (of_challenger(ap50=ap(vehicle=math.nan)), {"AP@0.5 of vehicle, fp32"}),
    (differing(fp32=Bounds(0.0, 0.0, 0.0)), {BETTER}),
    (differing(fp32=Bounds(-0.01, -0.03, 0.01)), {BETTER, BOUND}),
    (differing(fp32=Bounds(0.001, -0.01, 0.02)), {BOUND}),
    (differing(fp32=Bounds(0.001, -0.0099, 0.02)), set()),
    (differing(fp32=Bounds(0.2, -0.05, 0.4)), {BOUND}),
    (differing(fp32=Bounds(math.nan, math.nan, math.nan)), {BETTER, BOUND}),
    (of_challenger(mib=8.0), set()),
    (of_challenger(mib=8.01), {"size in MiB of fp32"}),
    (of_challenger(latency_ms=50.1), {"latency in ms per image of fp32"}),
    (of_challenger(latency_ms=math.inf), {"latency in ms per image of fp32"}),
    (of_test(leaked=("ivslab/a.mp4",)), {"test material seen in training"}),
    (of_test(left_out=("ivslab/a.mp4",), scored=40), set()),
    (of_test(left_out=("ivslab/a.mp4",), scored=39), {"share of test frames scored"}),
    (of_test(frames=0, scored=0), {"share of test frames scored"}),
    (replace(FACTS, parity={"fp32": False}), {"parity of fp32"}),
    (replace(FACTS, parity={"fp32": True, "int8": False}), {"parity of int8"}),
    (replace(FACTS, parity={"fp32": True, "engine": False}), {"parity of engine"}),
    (replace(FACTS, parity={"int8": True}), {"parity of fp32"}),
    (replace(FACTS, parity={"fp32": "not compared"}), {"parity of fp32"}),
    # Two precisions: the mean must be better, and none worse by more than ε.
    (differing(fp32=Bounds(0.0, 0.0, 0.0), int8=Bounds(0.006, 0.001, 0.01)), set()),
    (differing(fp32=Bounds(0.002, 0.0, 0.01), int8=Bounds(-0.004, -0.006, 0.0)), {BETTER}),
    (differing(fp32=Bounds(0.03, 0.01, 0.05), int8=Bounds(0.01, -0.02, 0.04)), {"lower bound of the difference, int8"}),
    (replace(FACTS, scored={"fp32": FP32, "int8": Scored(CHALLENGER)}), set()),  # the champion has none
    (
        replace(FACTS, scored={"fp32": FP32, "int8": Scored(replace(CHALLENGER, map50=0.2, mib=9.0))}),
        {"mAP@0.5 of int8", "size in MiB of int8"},
    ),
    (replace(FACTS, scored={"fp32": FP32, "fp16": FP32}), {"parity of fp16"}),
    (replace(FACTS, missing=("int8",)), {"a file of int8"}),
    # Another export of the champion's network: ties win, and nothing else changes.
    (replace(differing(fp32=Bounds(0.0, 0.0, 0.0), int8=Bounds(0.0, 0.0, 0.0)), same_weights=True), set()),
    (replace(differing(fp32=Bounds(0.0, 0.0, 0.0), int8=Bounds(-0.002, -0.005, 0.0)), same_weights=True), {BETTER}),
    (
        replace(differing(fp32=Bounds(0.0, 0.0, 0.0), int8=Bounds(0.01, -0.02, 0.03)), same_weights=True),
        {"lower bound of the difference, int8"},
    ),
    (replace(FACTS, withdrawn="by Ann"), {"not withdrawn"}),
    (replace(FACTS, withdrawn="by Ann", approved_by="Bob"), set()),
    (
        of_challenger(map50=0.1, mib=9.0, ap50=ap(scooter=0.0)),
        {"mAP@0.5 of fp32", "AP@0.5 of scooter, fp32", "size in MiB of fp32"},
    ),
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
    name = "mAP@0.5 of fp32"
    assert checks[name] == Check(name, 0.5, 0.45, "at least 0.3", True)
    name = "AP@0.5 of scooter, fp32"
    assert checks[name] == Check(name, 0.4, 0.4, "at least 0.2", True)
    assert checks[BETTER].value == 0.05
    assert checks["parity of engine"].value == "engine not built: no CUDA device"


def test_approval_is_needed_where_asked_for_and_lifts_nothing_else() -> None:
    asked = replace(LIMITS, approval=True)
    assert decide(FACTS, asked).failed == ("approval",)
    assert decide(replace(FACTS, approved_by="Bob"), asked).promote
    assert decide(replace(of_challenger(map50=0.1), approved_by="Bob"), asked).failed == ("mAP@0.5 of fp32",)


def test_a_class_that_cannot_be_measured_needs_a_floor_of_0() -> None:
    facts = of_challenger(ap50=ap(scooter=None))
    assert decide(facts, LIMITS).failed == ("AP@0.5 of scooter, fp32",)
    assert decide(facts, replace(LIMITS, ap50={"default": 0.1, "scooter": 0.0})).promote


def test_further_checks_decide_too() -> None:
    assert decide(FACTS, LIMITS, [Check("signature", "none", None, "a trusted one", False)]).failed == ("signature",)


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, scored={"fp32": Scored(CHALLENGER)}),
        replace(FACTS, champion=None),
        replace(FACTS, champion="2"),
        replace(FACTS, required="int8"),
        replace(FIRST, scored={"fp32": Scored(CHALLENGER), "int8": FP32}),
    ],
)
def test_facts_that_contradict_each_other_are_refused(facts: Facts) -> None:
    with pytest.raises(ValueError, match="expected"):
        decide(facts, LIMITS)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 0.2))
def test_a_better_challenger_is_never_rejected_for_being_better(
    map50: float, gain: float, value: float, lower: float, step: float
) -> None:
    def facts(score: float, more: float) -> Facts:
        found = Bounds(value + more, min(value, lower) + more, 1.0 + more)
        return replace(FACTS, scored={"fp32": Scored(replace(CHALLENGER, map50=score), CHAMPION, found)})

    better, worse = facts(map50 + gain, step), facts(map50, 0.0)
    assert set(decide(better, LIMITS).failed) <= set(decide(worse, LIMITS).failed)


def test_the_page_tells_everything_and_escapes_it(tmp_path: Path) -> None:
    facts = of_challenger(ap50={"<script>": 0.05, "vehicle": 0.6})
    samples = np.linspace(-0.01, 0.11, 200)
    write_gate_page(
        tmp_path / "a.html", decide(facts, LIMITS), facts, LIMITS, {"fp32": samples}, {"Digest": "abc & def"}
    )
    page = (tmp_path / "a.html").read_text()
    assert "Version 2 is rejected: 1 of 12 checks failed." in page
    assert "&lt;script&gt;" in page and "<script>" not in page and "abc &amp; def" in page
    assert page.count("data:image/png;base64,") == 1 and "http" not in page.replace("http-equiv", "")
    assert page.count('<tr class="fell">') == 1 and page.count(">passed</td>") == 11

    write_gate_page(tmp_path / "b.html", decide(FIRST, LIMITS), FIRST, LIMITS, {}, {})
    page = (tmp_path / "b.html").read_text()
    assert "may become the first champion" in page and "There is no champion to compare with." in page
