"""mAP of a detector on frames of a prepared set, and whether one comparison passes its limits."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.export.accuracy import SomeFrames, measure
from mobile_centernet.export.parity import ParityLimits, ParityReport, Reference, compare_found
from mobile_centernet.inference.detector import Runner
from tests.export.small_set import CLASSES, PICTURE, small_set


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_set(tmp_path_factory.mktemp("set"))


def finds_rectangles(calls_all: str | None = None, shift: float = 0.0, second: float = 0.8) -> Runner:
    """The bright rectangle of each image, as every class; `calls_all` takes one class for all there is."""

    def detect(images: NDArray[np.float32]) -> NumpyBatch:
        y, x = np.nonzero(images[0].mean(axis=0) > 155)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        labels = np.arange(len(CLASSES)) if calls_all is None else np.full(len(CLASSES), CLASSES.index(calls_all))
        boxes = np.float32([box, box])[None] + np.float32(shift)
        return DetectionBatch(boxes, np.float32([[0.9, second]]), labels[None].astype(np.int64))

    return detect


def test_only_known_frames_spread_over_the_split(prepared: Path) -> None:
    """test: car bus empty car (nobody knows) bus."""
    some = SomeFrames(prepared, "test", 3)
    whole = PreparedSet(prepared, "test")
    names = [some.frame(i).name for i in range(len(some))]
    assert names == [whole.frame(i).name for i in (0, 2, 5)]
    np.testing.assert_array_equal(some.image(2), whole.image(5))
    assert [image["file_name"] for image in some.coco["images"]] == [f"{name}.jpg" for name in names]
    assert {row["image_id"] for row in some.coco["annotations"]} == {whole.frame(0).id, whole.frame(5).id}
    assert len(SomeFrames(prepared, "test", 100)) == 5


def test_map_of_a_part_is_that_parts(prepared: Path) -> None:
    perfect = measure(SomeFrames(prepared, "val", 3), finds_rectangles(), PICTURE)
    assert perfect.scores.shape == (6,)
    blind_to_buses = measure(SomeFrames(prepared, "val", 3), finds_rectangles("car"), PICTURE)
    assert blind_to_buses.ap50["bus"] == 0 < blind_to_buses.ap50["car"]
    assert blind_to_buses.map50 < perfect.map50


def test_scores_are_compared_rank_by_rank(prepared: Path) -> None:
    """Of two scores a frame the second differs by 0.1."""
    frames = SomeFrames(prepared, "test", 100)
    found, other = (measure(frames, finds_rectangles(second=second), PICTURE) for second in (0.8, 0.7))
    assert found.score_difference(found) == 0
    assert found.score_difference(other) == pytest.approx(0.05)


@pytest.fixture(scope="module")
def reference(prepared: Path) -> Reference:
    return Reference.of(finds_rectangles(), PreparedSet(prepared, "test"), 4, PICTURE)


def compared_with(reference: Reference, detect: Runner, limits: ParityLimits) -> ParityReport:
    parity = compare_found(reference.found, detect, reference.inputs)
    return ParityReport(parity, reference.accuracy, measure(reference.frames, detect, PICTURE), limits)


def test_a_comparison_with_itself_passes_any_limit(reference: Reference) -> None:
    compared = compared_with(reference, finds_rectangles(), ParityLimits(map50_drop=0, scores=0, boxes=0))
    assert compared.violations == [] and compared.map50_drop == 0 and compared.parity.images == 4
    record = compared.to_dict()
    assert record["passed"] and record["ap50"].keys() == set(CLASSES)
    assert json.loads(json.dumps(record, allow_nan=False))["confident"]["mean_iou"] == 1


def test_an_export_that_loses_a_class_names_it(reference: Reference) -> None:
    compared = compared_with(reference, finds_rectangles("car"), ParityLimits(map50_drop=0.01))
    (violation,) = compared.violations
    assert "class bus fell most, from AP" in violation and "to 0.000" in violation
    assert not compared.to_dict()["passed"]
    assert (
        compared.map50_drop == pytest.approx(reference.accuracy.map50 - compared.accuracy.map50)
        and compared.map50_drop > 0.1
    )


def test_an_export_that_moves_boxes_is_told_by_how_much(reference: Reference) -> None:
    compared = compared_with(reference, finds_rectangles(shift=0.5), ParityLimits(map50_drop=1, boxes=0.05))
    assert compared.violations == ["boxes differ by up to 0.5 (limit 0.05)"]
