"""Confusion matrices counted by hand, and by supervision."""

import numpy as np
import pytest
import supervision as sv

from mobile_centernet.evaluation.outcomes import box_outcomes, confusion_labels, confusion_matrix

CLASSES = ("vehicle", "pedestrian")
A, B, C, FAR = [10.0, 10, 20, 10], [60.0, 10, 20, 10], [110.0, 10, 20, 10], [200.0, 200, 20, 10]


def matrix_of(ground_truth, results, **thresholds):
    return confusion_matrix(box_outcomes(ground_truth, results, **thresholds), CLASSES)


def test_hit_mistaken_class_miss_and_false_alarm(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B), (2, 1, C))
    results = [
        result(1, 0, A, 0.9),  # hit
        result(1, 1, B, 0.9),  # vehicle taken for a pedestrian
        result(2, 1, FAR, 0.9),  # false alarm; the pedestrian at C is missed
        result(2, 1, C, 0.1),  # under the threshold
    ]
    np.testing.assert_array_equal(matrix_of(ground_truth, results), [[1, 1, 0], [0, 0, 1], [0, 1, 0]])
    assert sorted(confusion_labels(box_outcomes(ground_truth, results), CLASSES)) == [(0, 0), (0, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize(("height", "hits"), [(5.0, 1), (4.9, 0)])
def test_iou_of_one_half_is_a_match(truth, result, height, hits):
    matrix = matrix_of(truth((1, 0, A)), [result(1, 0, [10.0, 10, 20, height], 0.9)])
    np.testing.assert_array_equal(matrix, [[hits, 0, 1 - hits], [0, 0, 0], [1 - hits, 0, 0]])


def test_threshold_is_applied_at_full_precision(truth, result):
    results = [result(1, 0, A, 0.3), result(1, 0, FAR, 0.3 - 1e-12)]
    matrix = matrix_of(truth((1, 0, A)), results, score_threshold=0.3)
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_ignore_regions_excuse_false_alarms_but_not_misses(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B), crowd=((1, [0.0, 0, 300, 300]),))
    results = [result(1, 0, A, 0.9), result(1, 1, FAR, 0.9)]
    np.testing.assert_array_equal(matrix_of(ground_truth, results), [[1, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_unlabelled_frames_are_left_out(truth, result):
    matrix = matrix_of(truth((1, 0, A), states={2: "unlabelled"}), [result(2, 0, A, 0.9)])
    np.testing.assert_array_equal(matrix, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("seed", range(20))
def test_crowded_scenes_are_counted_as_supervision_counts_them(truth, result, seed):
    rng = np.random.default_rng(seed)
    objects, boxes = (np.hstack([rng.uniform(0, 60, (n, 2)), rng.uniform(20, 60, (n, 2))]) for n in (15, 25))
    true_labels, labels = rng.integers(0, 2, 15), rng.integers(0, 2, 25)
    ground_truth = truth(*[(1, int(label), box.tolist()) for box, label in zip(objects, true_labels, strict=True)])
    results = [result(1, int(label), box.tolist(), 0.9) for box, label in zip(boxes, labels, strict=True)]

    def rows(corners, classes):
        return np.column_stack([corners[:, :2], corners[:, :2] + corners[:, 2:], classes]).astype(np.float32)

    expected = sv.ConfusionMatrix.evaluate_detection_batch(
        np.column_stack([rows(boxes, labels), np.ones(25, np.float32)]),
        rows(objects, true_labels),
        num_classes=2,
        conf_threshold=0.3,
        iou_threshold=0.5,
    )
    np.testing.assert_array_equal(matrix_of(ground_truth, results), expected)
