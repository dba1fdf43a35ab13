"""Confusion matrices counted by hand."""

import numpy as np
import pytest

from mobile_centernet.evaluation.confusion import confusion_matrix

CLASSES = ("vehicle", "pedestrian")
A, B, C, FAR = [10.0, 10, 20, 10], [60.0, 10, 20, 10], [110.0, 10, 20, 10], [200.0, 200, 20, 10]


def test_hit_mistaken_class_miss_and_false_alarm(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B), (2, 1, C))
    results = [
        result(1, 0, A, 0.9),  # hit
        result(1, 1, B, 0.9),  # vehicle taken for a pedestrian
        result(2, 1, FAR, 0.9),  # false alarm; the pedestrian at C is missed
        result(2, 1, C, 0.1),  # under the threshold
    ]
    matrix = confusion_matrix(ground_truth, results, CLASSES, score_threshold=0.3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(("height", "hits"), [(5.0, 1), (4.9, 0)])
def test_iou_of_one_half_is_a_match(truth, result, height, hits):
    matrix = confusion_matrix(truth((1, 0, A)), [result(1, 0, [10.0, 10, 20, height], 0.9)], CLASSES)
    np.testing.assert_array_equal(matrix, [[hits, 0, 1 - hits], [0, 0, 0], [1 - hits, 0, 0]])


def test_threshold_is_applied_at_full_precision(truth, result):
    results = [result(1, 0, A, 0.3), result(1, 0, FAR, 0.3 - 1e-12)]
    np.testing.assert_array_equal(
        confusion_matrix(truth((1, 0, A)), results, CLASSES, score_threshold=0.3),
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
    )


def test_ignore_regions_excuse_false_alarms_but_not_misses(truth, result):
    ground_truth = truth((1, 0, A), (1, 0, B), crowd=((1, [0.0, 0, 300, 300]),))
    results = [result(1, 0, A, 0.9), result(1, 1, FAR, 0.9)]
    np.testing.assert_array_equal(confusion_matrix(ground_truth, results, CLASSES), [[1, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_unlabelled_frames_are_left_out(truth, result):
    matrix = confusion_matrix(truth((1, 0, A), states={2: "unlabelled"}), [result(2, 0, A, 0.9)], CLASSES)
    np.testing.assert_array_equal(matrix, [[0, 0, 1], [0, 0, 0], [0, 0, 0]])
