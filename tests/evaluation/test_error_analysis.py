"""Every mistake has one reason; small scenes that can be checked by eye."""

import pytest

from mobile_centernet.evaluation.error_analysis import (
    AgreementRow,
    agreement,
    false_negatives,
    false_positives,
    operating_point,
    spread,
)
from mobile_centernet.evaluation.outcomes import box_outcomes

CLASSES = ("vehicle", "pedestrian")
A, B, FAR = [10.0, 10, 40, 20], [100.0, 10, 40, 20], [200.0, 200, 40, 20]
SHIFTED = [34.0, 10, 40, 20]  # IoU with A: 16 / 64 = 0.25


@pytest.mark.parametrize(
    ("label", "box", "also_at_a", "why", "detail"),
    [
        (1, A, False, "wrong class", "it is a vehicle"),
        (0, [12.0, 10, 40, 20], True, "double", ""),
        (0, SHIFTED, False, "misplaced", "IoU 0.25"),
        (0, FAR, False, "nothing there", ""),
    ],
)
def test_why_a_detection_is_wrong(truth, result, label, box, also_at_a, why, detail):
    ground_truth = truth((1, 0, A))
    results = [result(1, label, box, 0.8)] + ([result(1, 0, A, 0.9)] if also_at_a else [])
    (mistake,) = false_positives(box_outcomes(ground_truth, results), ground_truth, CLASSES)
    assert (mistake.why, mistake.detail, mistake.label) == (why, detail, label)


@pytest.mark.parametrize(
    ("results", "why", "detail"),
    [
        ([(0, A, 0.21)], "scored too low", "21%"),
        ([(0, SHIFTED, 0.9)], "misplaced", "IoU 0.25"),
        ([(0, A, 0.01)], "not seen", ""),  # nothing that anyone would call noticed
        ([(0, FAR, 0.9)], "not seen", ""),
        ([(1, SHIFTED, 0.9)], "not seen", ""),
        ([], "not seen", ""),
    ],
)
def test_why_an_object_is_missed(truth, result, results, why, detail):
    found = [result(1, *row) for row in results]
    (mistake,) = false_negatives(box_outcomes(truth((1, 0, A)), found), found, 0.3)
    assert (mistake.why, mistake.detail, mistake.label) == (why, detail, 0)


def test_one_box_on_two_objects_stands_for_one(truth, result):
    found = [result(1, 0, [12.0, 10, 40, 20], 0.9)]
    (mistake,) = false_negatives(box_outcomes(truth((1, 0, A), (1, 0, [16.0, 10, 40, 20])), found), found, 0.3)
    assert mistake.why == "shared"


def test_the_surest_false_alarms_and_the_largest_misses_come_first(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, [100.0, 100, 80, 80]))
    found = [result(1, 0, FAR, 0.4), result(2, 0, FAR, 0.9)]
    outcomes = box_outcomes(ground_truth, found)
    assert [mistake.box["score"] for mistake in false_positives(outcomes, ground_truth, CLASSES)] == [0.9, 0.4]
    assert [mistake.box["bbox"][2] for mistake in false_negatives(outcomes, found, 0.3)] == [80, 40]


def test_what_is_shown_takes_turns_between_classes(truth, result):
    ground_truth = truth((2, 1, A))
    found = [result(1, 0, [50.0 * i, 100, 20, 20], 0.9 - i / 100) for i in range(5)] + [result(1, 1, FAR, 0.5)]
    alarms = false_positives(box_outcomes(ground_truth, found), ground_truth, CLASSES)
    assert [mistake.label for mistake in spread(alarms, 4)] == [0, 1, 0, 0]
    assert {mistake.why for mistake in alarms} == {"nothing there"}


def test_the_operating_point_counts_what_a_user_sees(truth, result):
    outcomes = box_outcomes(
        truth((1, 0, A), (1, 0, B)), [result(1, 0, A, 0.9), result(1, 1, B, 0.9), result(1, 0, FAR, 0.9)]
    )
    point = operating_point(outcomes, 0.3)
    assert (point.objects, point.reported, point.correct) == (2, 3, 1)


def test_agreement_says_who_finds_what(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B), (2, 0, A), (2, 0, B))
    teacher = box_outcomes(ground_truth, [result(1, 0, A, 0.9), result(1, 0, B, 0.9)])
    student = box_outcomes(ground_truth, [result(1, 0, A, 0.9), result(2, 0, A, 0.9), result(2, 1, B, 0.9)])
    assert agreement(ground_truth, teacher, student, CLASSES) == [AgreementRow("vehicle", 1, 1, 1, 1)]
