"""mAP@0.5 against values worked out by hand from COCO's 101-point interpolation."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.coco_eval import count_boxes, evaluate_map50

CLASSES = ("vehicle", "pedestrian")
A, B, FAR = [10.0, 10.0, 20.0, 10.0], [60.0, 10.0, 20.0, 10.0], [200.0, 200.0, 20.0, 10.0]


def test_perfect_detections_give_one(truth, result):
    ground_truth = truth((1, 0, A), (2, 1, B))
    measured = evaluate_map50(ground_truth, [result(1, 0, A, 0.3), result(2, 1, B, 0.9)], CLASSES)
    assert measured.map50 == pytest.approx(1.0)
    assert measured.ap50 == pytest.approx({"vehicle": 1.0, "pedestrian": 1.0})
    assert measured.counts == {"vehicle": 1, "pedestrian": 1}
    assert measured.images == 2
    assert measured.recall.shape == measured.precision["vehicle"].shape == (101,)


def test_one_of_two_missed_gives_the_51_thresholds_up_to_half_recall(truth, result):
    measured = evaluate_map50(truth((1, 0, A), (1, 0, B)), [result(1, 0, A, 0.9)], CLASSES)
    assert measured.ap50["vehicle"] == pytest.approx(51 / 101)


def test_false_alarm_counts_by_its_rank(truth, result):
    ground_truth = truth((1, 0, A))
    below = [result(1, 0, A, 0.9), result(1, 0, FAR, 0.5)]
    above = [result(1, 0, A, 0.5), result(1, 0, FAR, 0.9)]
    assert evaluate_map50(ground_truth, below, CLASSES).ap50["vehicle"] == pytest.approx(1.0)
    assert evaluate_map50(ground_truth, above, CLASSES).ap50["vehicle"] == pytest.approx(0.5)


def test_hit_false_alarm_hit_is_interpolated(truth, result):
    results = [result(1, 0, A, 0.9), result(1, 0, FAR, 0.8), result(1, 0, B, 0.7)]
    measured = evaluate_map50(truth((1, 0, A), (1, 0, B)), results, CLASSES)
    assert measured.ap50["vehicle"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    np.testing.assert_allclose(measured.precision["vehicle"][[0, 50, 51, 100]], [1, 1, 2 / 3, 2 / 3])


def test_second_detection_of_one_object_is_a_false_alarm(truth, result):
    results = [result(1, 0, A, 0.9), result(1, 0, A, 0.8), result(1, 0, B, 0.7)]
    measured = evaluate_map50(truth((1, 0, A), (1, 0, B)), results, CLASSES)
    assert measured.ap50["vehicle"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)


@pytest.mark.parametrize(("height", "expected"), [(5.0, 1.0), (4.99, 0.0)])
def test_iou_of_one_half_is_a_hit_and_less_is_none(truth, result, height, expected):
    measured = evaluate_map50(truth((1, 0, A)), [result(1, 0, [10.0, 10.0, 20.0, height], 0.9)], CLASSES)
    assert measured.map50 == pytest.approx(expected)


def test_wrong_class_is_a_miss_and_a_class_without_truth_stays_out_of_the_mean(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B))
    measured = evaluate_map50(ground_truth, [result(1, 1, A, 0.9), result(1, 0, B, 0.8)], CLASSES)
    assert measured.ap50 == {"vehicle": pytest.approx(51 / 101), "pedestrian": None}
    assert measured.map50 == pytest.approx(51 / 101)
    assert set(measured.precision) == {"vehicle"}


def test_no_detections_give_zero(truth):
    measured = evaluate_map50(truth((1, 0, A)), [], CLASSES)
    assert measured.map50 == 0.0
    assert measured.ap50 == {"vehicle": 0.0, "pedestrian": None}


def test_ignore_region_is_neither_hit_nor_false_alarm(truth, result):
    region = [100.0, 0.0, 100.0, 100.0]
    inside = [result(1, label, [110.0, 10.0, 20.0, 10.0], 0.99) for label in (0, 1)]
    results = [result(1, 0, A, 0.5), *inside]
    with_region = evaluate_map50(truth((1, 0, A), crowd=((1, region),)), results, CLASSES)
    assert with_region.ap50["vehicle"] == pytest.approx(1.0)
    assert with_region.counts == {"vehicle": 1, "pedestrian": 0}
    without = evaluate_map50(truth((1, 0, A)), results, CLASSES)
    assert without.ap50["vehicle"] == pytest.approx(0.5)


def test_unlabelled_frames_are_left_out_and_empty_ones_count(truth, result):
    results = [result(1, 0, A, 0.5), result(2, 0, A, 0.9)]
    unlabelled = evaluate_map50(truth((1, 0, A), states={2: "unlabelled"}), results, CLASSES)
    assert (unlabelled.images, unlabelled.map50) == (1, pytest.approx(1.0))
    empty = evaluate_map50(truth((1, 0, A), states={2: "empty"}), results, CLASSES)
    assert (empty.images, empty.map50) == (2, pytest.approx(0.5))


def test_only_a_hundred_detections_a_frame_count(truth, result):
    false_alarms = [result(1, 0, [200.0 + i, 200.0, 5.0, 5.0], 0.9) for i in range(100)]
    assert evaluate_map50(truth((1, 0, A)), [*false_alarms, result(1, 0, A, 0.1)], CLASSES).map50 == 0.0
    assert evaluate_map50(truth((1, 0, A)), [*false_alarms[1:], result(1, 0, A, 0.1)], CLASSES).map50 > 0.0


def test_full_precision_scores_rank(truth, result):
    results = [result(1, 0, FAR, 0.5), result(1, 0, A, 0.5 + 1e-12)]
    assert evaluate_map50(truth((1, 0, A)), results, CLASSES).map50 == pytest.approx(1.0)


def test_a_detection_without_area_is_a_false_alarm(truth, result):
    results = [result(1, 0, [0.0, 0.0, 0.0, 0.0], 0.9), result(1, 0, A, 0.5)]
    assert evaluate_map50(truth((1, 0, A)), results, CLASSES).map50 == pytest.approx(0.5)


def test_nothing_is_printed_and_the_arguments_stay_as_they_were(truth, result, capsys):
    ground_truth, results = truth((1, 0, A)), [result(1, 0, A, 0.5)]
    before = (repr(ground_truth), repr(results))
    evaluate_map50(ground_truth, results, CLASSES)
    assert capsys.readouterr().out == ""
    assert (repr(ground_truth), repr(results)) == before


def test_annotation_ids_do_not_matter(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B))
    for annotation in ground_truth["annotations"]:
        annotation["id"] = 0
    results = [result(1, 0, A, 0.9), result(1, 0, B, 0.8)]
    assert evaluate_map50(ground_truth, results, CLASSES).map50 == pytest.approx(1.0)


def test_count_boxes_by_area(truth):
    ground_truth = truth((1, 0, A), (1, 0, [0.0, 0.0, 100.0, 100.0]), (2, 1, B), states={2: "unlabelled"})
    assert count_boxes(ground_truth, CLASSES) == {"vehicle": 2, "pedestrian": 0}
    assert count_boxes(ground_truth, CLASSES, (0, 1024)) == {"vehicle": 1, "pedestrian": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "results: expected image ids .* found 1 unknown: 77"),
        ({"category_id": 0}, "results: expected category ids .* found 1 unknown: 0"),
        ({"category_id": 3}, "results: expected category ids .* found 1 unknown: 3"),
        ({"score": float("nan")}, "results: expected a finite score"),
        ({"bbox": [0.0, 0.0, float("inf"), 1.0]}, "results: expected bbox"),
        ({"bbox": [0.0, 0.0, -1.0, 1.0]}, "results: expected bbox"),
        ({"bbox": [0.0, 0.0, 1.0]}, "results: expected bbox"),
    ],
)
def test_bad_results_are_refused_by_name(truth, result, change, message):
    with pytest.raises(DataError, match=message):
        evaluate_map50(truth((1, 0, A)), [result(1, 0, A, 0.5) | change], CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "ground truth: expected image ids"),
        ({"category_id": 9}, "ground truth: expected category ids"),
        ({"bbox": [0.0, 0.0, float("nan"), 1.0]}, "ground truth: expected bbox"),
    ],
)
def test_bad_ground_truth_is_refused_by_name(truth, change, message):
    ground_truth = truth((1, 0, A))
    ground_truth["annotations"][0].update(change)
    with pytest.raises(DataError, match=message):
        evaluate_map50(ground_truth, [], CLASSES)


def test_another_class_list_is_refused(truth):
    with pytest.raises(DataError, match="expected the categories"):
        evaluate_map50(truth((1, 0, A)), [], ("pedestrian", "vehicle"))


def test_nothing_to_find_is_refused(truth):
    with pytest.raises(DataError, match="undefined without ground truth"):
        evaluate_map50(truth((1, 0, A), states={1: "unlabelled"}), [], CLASSES)


coordinates = st.integers(0, 3).map(lambda value: value * 6.0)
detections = st.lists(
    st.tuples(st.integers(1, 2), st.integers(0, 1), coordinates, coordinates, st.sampled_from([0.2, 0.5, 0.9])),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=detections, seed=st.integers(0, 99))
def test_the_order_of_results_does_not_matter(truth, result, found: list[Any], seed: int):
    """Equal scores included: they are ranked by position, not by who wrote them first."""
    ground_truth = truth(
        (1, 0, [0.0, 0.0, 20.0, 20.0]), (1, 0, [12.0, 6.0, 20.0, 20.0]), (2, 1, [6.0, 6.0, 20.0, 20.0])
    )
    results = [result(image, label, [x, y, 20.0, 20.0], score) for image, label, x, y, score in found]
    shuffled = random.Random(seed).sample(results, len(results))
    first, second = (evaluate_map50(ground_truth, some, CLASSES) for some in (results, shuffled))
    assert first.ap50 == second.ap50
    assert 0.0 <= first.map50 <= 1.0
