"""Parity tells a faithful export from an unfaithful one. Small cases by hand, then injected faults."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.errors import ModelError
from mobile_centernet.export.accuracy import Accuracy
from mobile_centernet.export.parity import Parity, ParityLimits, ParityReport, compare_found
from mobile_centernet.images import read_image, to_input
from mobile_centernet.inference.detector import Runner
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.models.centernet import CenterNet

SIZE = (96, 128)
BLANK = [np.zeros((96, 128, 3), np.uint8)]

BOXES = [[10, 10, 30, 30], [50, 10, 60, 50], [80, 40, 90, 60]]
SCORES = [0.9, 0.5, 0.2]
LABELS = [0, 1, 0]


def says(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Runner:
    """A detector that answers the same to every image."""

    def detect(_images: NDArray[np.float32]) -> NumpyBatch:
        return DetectionBatch(np.float32(boxes)[None], np.float32(scores)[None], np.int64(labels)[None])

    return detect


def compared(reference: Runner, candidate: Runner, images: Sequence[NDArray[np.uint8]]) -> Parity:
    """Both over the same images."""
    inputs = [to_input(image, SIZE) for image in images]
    return compare_found([reference(image) for image in inputs], candidate, inputs)


def measured(candidate: Runner) -> Parity:
    return compared(says(BOXES, SCORES, LABELS), candidate, BLANK)


def test_a_detector_agrees_with_itself() -> None:
    parity = measured(says(BOXES, SCORES, LABELS))
    assert (parity.images, parity.detections, parity.labels_agreement, parity.worst_unmatched) == (1, 3, 1, 0)
    assert all(tensor.max_abs == tensor.mean_abs == 0 for tensor in parity.tensors)


def test_differences_by_hand() -> None:
    moved = [[10, 10, 30, 33], *BOXES[1:]]
    boxes, scores = measured(says(moved, [0.9, 0.5, 0.25], LABELS)).tensors
    assert (boxes.tensor, boxes.unit, boxes.max_abs) == ("boxes", "input px", 3)
    assert boxes.mean_abs == pytest.approx(3 / 12)
    assert (scores.tensor, scores.max_abs) == ("scores", pytest.approx(0.05))
    assert scores.mean_abs == pytest.approx(0.05 / 3)


def test_overlap_and_scores_of_confident_detections_by_hand() -> None:
    """Of 0.9, 0.5 and 0.2 two count; the first is 20 x 20 and grows by 20 x 3, the second loses its partner."""
    confident = measured(says([[10, 10, 30, 33], *BOXES[1:]], [0.8, 0.5, 0.2], [0, 3, 0])).confident
    assert (confident.threshold, confident.detections, confident.matched) == (0.3, 2, 1)
    assert confident.mean_iou == confident.min_iou == pytest.approx(400 / 460)
    assert confident.max_score_difference == confident.mean_score_difference == pytest.approx(0.1)


def test_without_confident_detections_nothing_is_said_of_them() -> None:
    unsure = says(BOXES, [0.2, 0.1, 0.05], LABELS)
    confident = compared(unsure, unsure, BLANK).confident
    assert (confident.detections, confident.matched, confident.mean_iou) == (0, 0, None)


def test_an_empty_box_overlaps_nothing() -> None:
    empty = says([[10, 10, 10, 10]], [0.9], [0])
    assert compared(empty, empty, BLANK).confident.mean_iou == 0


def test_limits_by_hand() -> None:
    """Scores 0.05 and boxes 3 px apart; bicycle loses 6 points, vehicle wins 2: 2 points in the mean of two."""
    parity = measured(says([[10, 10, 30, 33], *BOXES[1:]], [0.9, 0.5, 0.25], LABELS))
    before, after = (
        Accuracy(6, map50, {"vehicle": vehicle, "bicycle": bicycle, "tram": None}, np.zeros(0))
        for map50, vehicle, bicycle in ((0.4, 0.5, 0.3), (0.38, 0.52, 0.24))
    )
    assert ParityReport(parity, before, after, ParityLimits(map50_drop=0.021)).violations == []
    assert ParityReport(parity, before, after, ParityLimits(0.021, scores=0.051, boxes=3.1)).violations == []
    report = ParityReport(parity, before, after, ParityLimits(0.015, scores=0.04, boxes=2.9))
    assert report.map50_drop == pytest.approx(0.02)
    assert report.violations == [
        "scores differ by up to 0.05 (limit 0.04)",
        "boxes differ by up to 3 (limit 2.9)",
        "mAP@0.5 falls by 2.00 points (limit 1.5); class bicycle fell most, from AP 0.300 to 0.240",
    ]


def test_swapped_ranks_are_no_difference() -> None:
    order = [0, 2, 1]
    parity = measured(says([BOXES[i] for i in order], [SCORES[i] for i in order], [LABELS[i] for i in order]))
    assert parity.labels_agreement == 1
    assert [tensor.max_abs for tensor in parity.tensors] == [0, 0]


def test_another_class_is_no_partner() -> None:
    parity = measured(says(BOXES, SCORES, [2, 1, 0]))
    assert parity.labels_agreement == pytest.approx(2 / 3)
    assert parity.worst_unmatched == pytest.approx(0.9 - 0.2)


def test_another_place_is_no_partner() -> None:
    parity = measured(says([[20, 10, 40, 30], *BOXES[1:]], SCORES, LABELS))
    assert parity.labels_agreement == pytest.approx(2 / 3)


def test_a_swap_at_the_cut_off_shows_as_harmless() -> None:
    parity = measured(says([*BOXES[:2], [0, 70, 9, 80]], [0.9, 0.5, 0.2001], LABELS))
    assert parity.labels_agreement == pytest.approx(2 / 3)
    assert parity.worst_unmatched == pytest.approx(0.0001, abs=1e-6)


def test_empty_boxes_agree_too() -> None:
    """An untrained model says sizes of 0; overlap could not match them."""
    empty = says([[10, 10, 10, 10]], [0.1], [0])
    assert compared(empty, empty, BLANK).labels_agreement == 1


def test_nothing_in_common_is_told_without_nan() -> None:
    parity = measured(says(BOXES, SCORES, [3, 3, 3]))
    assert parity.labels_agreement == 0
    json.dumps(asdict(parity), allow_nan=False)


def test_no_pictures_prove_nothing() -> None:
    with pytest.raises(ModelError, match="at least one image"):
        compared(says(BOXES, SCORES, LABELS), says(BOXES, SCORES, LABELS), [])


def scale_first_weights(model: onnx.ModelProto) -> None:
    weights = {name: tensor for tensor in model.graph.initializer for name in [tensor.name]}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    tensor = weights[first.input[1]]
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.01, tensor.name))


def round_up_when_upsampling(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Resize" and attribute.name == "nearest_mode":
                attribute.s = b"ceil"


@pytest.mark.parametrize("fault", [scale_first_weights, round_up_when_upsampling])
def test_an_unfaithful_file_is_seen(
    fault: Callable[[onnx.ModelProto], None],
    student: CenterNet,
    exported: Path,
    pictures: list[NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    model = onnx.load(exported)
    fault(model)
    onnx.save(model, tmp_path / "faulty.onnx")
    parity = compared(TorchRunner(student), Detector(tmp_path / "faulty.onnx").run, pictures[:3])
    assert parity.labels_agreement < 1 or parity.tensors[0].max_abs > 0.02
    assert parity.tensors[1].max_abs > 1e-4


def test_parity_on_photos(student: CenterNet, exported: Path, street_photos: Path) -> None:
    photos = [read_image(photo) for photo in sorted(street_photos.iterdir())]
    parity = compared(TorchRunner(student), Detector(exported).run, photos)
    assert (parity.images, parity.detections) == (len(photos), 100 * len(photos))
    assert parity.labels_agreement > 0.99 and parity.worst_unmatched < 1e-5
    assert parity.tensors[0].max_abs < 2e-3
    assert parity.tensors[1].max_abs < 1e-5
