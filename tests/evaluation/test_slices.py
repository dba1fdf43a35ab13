"""The same score on parts of the frames and on objects of one size."""

import pytest

from mobile_centernet.evaluation.slices import SIZES, measure_slice, slice_by_attribute

CLASSES = ("vehicle", "pedestrian")
SMALL, MEDIUM, LARGE = [0.0, 0.0, 20.0, 20.0], [100.0, 0.0, 60.0, 60.0], [300.0, 0.0, 200.0, 200.0]


def test_sizes_are_judged_apart(truth, result):
    ground_truth = truth((1, 0, SMALL), (1, 0, MEDIUM), (2, 1, MEDIUM))
    results = [result(1, 0, SMALL, 0.9), result(1, 0, MEDIUM, 0.8)]
    slices = [measure_slice(name, ground_truth, results, CLASSES, area) for name, area in SIZES.items()]
    assert [(part.boxes, part.images) for part in slices] == [(1, 2), (2, 2), (0, 2)]
    assert slices[0].map50 == pytest.approx(1.0)
    assert slices[1].map50 == pytest.approx(0.5)  # the pedestrian is missed
    assert slices[2].map50 is None


def test_attributes_cut_the_frames(truth, result):
    ground_truth = truth(
        (1, 0, SMALL),
        (2, 0, LARGE),
        attributes={1: {"timeofday": "night"}, 2: {"timeofday": "daytime"}, 3: {"timeofday": "dawn"}},
        states={3: "empty"},
        images=5,
    )
    slices = slice_by_attribute(ground_truth, [result(1, 0, SMALL, 0.9)], CLASSES, "timeofday")
    assert [(part.name, part.images, part.boxes, part.map50) for part in slices] == [
        ("dawn", 1, 0, None),
        ("daytime", 1, 1, 0.0),
        ("night", 1, 1, pytest.approx(1.0)),
    ]


def test_unknown_attribute_gives_no_slices(truth):
    assert slice_by_attribute(truth((1, 0, SMALL)), [], CLASSES, "weather") == []
