"""From prepared frames to COCO results: coordinates, batches, the one sigmoid."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.models.centernet import CenterNetOutput
from mobile_centernet.models.variants import build_model

SIZES = [(100, 200), (50, 80), (64, 64)]


class Frames:
    """Three frames of different sizes, every pixel of frame i being i."""

    classes = ("vehicle", "pedestrian")

    def __len__(self) -> int:
        return len(SIZES)

    def image(self, index: int) -> np.ndarray:
        return np.full((*SIZES[index], 3), index, np.uint8)

    def frame(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(id=index + 10, height=SIZES[index][0], width=SIZES[index][1])


class Recorder:
    """A detector that finds the given box in every image and remembers what it was shown."""

    def __init__(self, box: list[float]) -> None:
        self.box = box
        self.shown: list[np.ndarray] = []

    def __call__(self, images: np.ndarray) -> NumpyBatch:
        self.shown.append(images)
        count = len(images)
        boxes = np.tile(np.array(self.box, np.float32), (count, 1, 1))
        scores = np.full((count, 1), 0.1, np.float32)
        return DetectionBatch(boxes, scores, np.ones((count, 1), np.int64))


def test_boxes_come_back_in_pixels_of_each_stored_frame():
    results = results_for(Frames(), Recorder([8, 4, 24, 12]), (32, 64))
    assert [item["image_id"] for item in results] == [10, 11, 12]
    assert {item["category_id"] for item in results} == {2}
    for item, (height, width) in zip(results, SIZES, strict=True):
        expected = [8 * width / 64, 4 * height / 32, 16 * width / 64, 8 * height / 32]
        assert item["bbox"] == pytest.approx(expected)


def test_scores_keep_their_precision():
    results = results_for(Frames(), Recorder([0, 0, 1, 1]), (32, 64))
    assert results[0]["score"] == float(np.float32(0.1))


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1, 1, 1]), (2, [2, 1]), (8, [3])])
def test_batches_hold_every_frame_once_in_order(batch_size, batches):
    detector = Recorder([0, 0, 1, 1])
    results_for(Frames(), detector, (32, 64), batch_size=batch_size)
    assert [len(images) for images in detector.shown] == batches
    shown = np.concatenate(detector.shown)
    assert shown.shape == (3, 3, 32, 64)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown[:, 0, 0, 0], [0, 1, 2])


def test_box_outside_the_frame_is_clipped_and_an_inverted_one_has_no_area():
    assert results_for(Frames(), Recorder([-9, -9, 99, 99]), (32, 64))[0]["bbox"] == [0, 0, 200, 100]
    assert results_for(Frames(), Recorder([32, 16, 16, 8]), (32, 64))[0]["bbox"] == [100, 50, 0, 0]


def test_batch_size_zero_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        results_for(Frames(), Recorder([0, 0, 1, 1]), (32, 64), batch_size=0)


class OnePeak(nn.Module):
    """Heads that always see class 1, 4 × 2 cells large, at cell (x 3, y 2) plus (0.5, 0.25), logit 1."""

    stride = 4

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, image: Tensor) -> CenterNetOutput:
        heatmap = torch.full((len(image), 2, 16, 16), -20.0) + self.zero
        heatmap[:, 1, 2, 3] = 1.0
        size = torch.tensor([4.0, 2.0]).view(1, 2, 1, 1).expand(len(image), 2, 16, 16) + self.zero
        offset = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1).expand(len(image), 2, 16, 16) + self.zero
        return CenterNetOutput(heatmap, size, offset, heatmap)


def test_torch_runner_applies_one_sigmoid_and_decodes():
    boxes, scores, labels = TorchRunner(OnePeak().eval())(np.zeros((2, 3, 64, 64), np.float32))
    assert boxes.shape == (2, 100, 4)
    np.testing.assert_allclose(boxes[:, 0], [[6, 5, 22, 13]] * 2)
    np.testing.assert_allclose(scores[:, 0], 1 / (1 + np.exp(-1)), rtol=1e-6)
    assert labels[:, 0].tolist() == [1, 1]


def test_torch_runner_refuses_a_model_in_training_mode():
    with pytest.raises(ValueError, match="eval mode"):
        TorchRunner(OnePeak().train())


def test_torch_runner_ignores_autocast_and_the_batch():
    torch.manual_seed(0)
    detect = TorchRunner(build_model("hrnet_w16", 2).eval())
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 64, 96)).astype(np.float32)
    together = detect(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_autocast = detect(images)
    for left, right in zip(together, in_autocast, strict=True):
        np.testing.assert_array_equal(left, right)
    alone = detect(images[1:])
    np.testing.assert_allclose(together.scores[1], alone.scores[0], atol=1e-5)


def test_a_perfect_detector_scores_one_on_a_real_prepared_set(tmp_path: Path):
    """Whole way: raw frames → prepared set → results → mAP, an unlabelled frame and an ignored box among them."""
    boxes = (Box("car", (40, 20, 120, 80)), Box("person", (200, 30, 230, 110)), Box("blimp", (260, 10, 300, 50)))
    states = {"a": FrameState.LABELLED, "b": FrameState.EMPTY, "c": FrameState.UNLABELLED}
    frames = []
    for name, state in states.items():
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.full((180, 320, 3), 90, np.uint8))
        labelled = boxes if state is FrameState.LABELLED else ()
        frames.append(Frame(tmp_path / f"{name}.jpg", name, "clip", "val", state, labelled))
    class_map = ClassMap(("vehicle", "pedestrian"), {"car": "vehicle", "person": "pedestrian"})
    prepare(RawSet(tmp_path, tuple(frames), ()), frames, class_map, tmp_path / "out", workers=1, progress=False)
    prepared = PreparedSet(tmp_path / "out", "val")

    def sees_everything(images: np.ndarray) -> NumpyBatch:
        found = np.array([box.xyxy for box in boxes], np.float32)[None] * [2, 2, 2, 2]
        scores, labels = np.array([[0.5, 0.5, 0.9]], np.float32), np.array([[0, 1, 0]])
        return DetectionBatch(*(part.repeat(len(images), 0) for part in (found, scores, labels)))

    results = results_for(prepared, sees_everything, (360, 640), batch_size=2)
    only_labelled = [item for item in results if item["image_id"] != prepared.frame(1).id]
    measured = evaluate_map50(prepared.coco, only_labelled, prepared.classes)
    assert measured.map50 == pytest.approx(1.0)
    assert measured.images == 2
    # in the empty frame the vehicle class gets a false alarm above its hit, the pedestrian class one below
    assert evaluate_map50(prepared.coco, results, prepared.classes).map50 == pytest.approx((0.5 + 1.0) / 2)
