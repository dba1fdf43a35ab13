"""Pseudo-labels: any COCO tool opens them, reading gives back what was written, and bad edits are quarantined."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.coco import Document
from mobile_centernet.data.store.prepared import PreparedSet, StoredFrame
from mobile_centernet.data.training.loader import unlabelled_frames
from mobile_centernet.data.training.pseudo_labels import (
    coco_document,
    pseudo_document,
    read_pseudo_labels,
)
from mobile_centernet.detections import DetectionBatch, Detections
from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.detect import detect_frames
from mobile_centernet.files import write_json as write_document

CLASSES = ("Vehicle", "pedestrian")
HEIGHT, WIDTH = 36, 64
TEACHER = {"teacher": "teacher.safetensors", "teacher_sha256": "0123"}


@pytest.fixture
def prepared(tmp_path: Path, write_image: Callable[..., Path]) -> PreparedSet:
    """Frames 0 and 1 are labelled, 2 to 4 are not."""
    frames = []
    for i in range(5):
        state = FrameState.LABELLED if i < 2 else FrameState.UNLABELLED
        boxes = (Box("car", (2, 2, 30, 30)), Box("man", (5, 5, 20, 30))) if i < 2 else ()
        frames.append(Frame(write_image(tmp_path / f"raw/{i}.jpg"), f"clip/{i}", "clip", "train", state, boxes))
    class_map = ClassMap(CLASSES, {"car": "Vehicle", "man": "pedestrian"})
    raw = RawSet(tmp_path / "raw", tuple(frames), ())
    prepare(raw, frames, class_map, tmp_path / "set", workers=1, progress=False)
    return PreparedSet(tmp_path / "set", "train")


def found(prepared: PreparedSet, index: int, *rows: tuple[list[float], float, int]) -> tuple[StoredFrame, Detections]:
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in rows], np.float32)
    labels = np.array([label for *_, label in rows], np.int64)
    return prepared.frame(index), Detections(boxes, scores, labels)


@pytest.fixture
def document(prepared: PreparedSet) -> Document:
    """Two boxes on frame 2, one on frame 3, none on frame 4."""
    objects = [
        found(prepared, 2, ([1, 2, 21.5, 12], 0.75, 0), ([30, 3, 40, 33], 0.5, 1), ([5, 5, 5.5, 30], 0.9, 1)),
        found(prepared, 3, ([0, 0, 64, 36], 0.625, 0)),
        found(prepared, 4),
    ]
    return pseudo_document(objects, CLASSES, score_threshold=0.5, teacher=TEACHER)


def read(document: Mapping[str, Any], prepared: PreparedSet) -> Any:
    path = prepared.root / "pseudo.json"
    write_document(path, document)
    return read_pseudo_labels(path, prepared)


def test_coco_tools_open_it(document: Document, tmp_path: Path) -> None:
    write_document(tmp_path / "pseudo.json", document)
    coco = COCO(tmp_path / "pseudo.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [f"clip/{i}.jpg" for i in (2, 3, 4)]
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=3))
    assert (first["bbox"], first["area"], first["score"]) == ([1, 2, 20.5, 10], 205, 0.75)
    assert (second["bbox"], second["category_id"]) == ([30, 3, 10, 30], 2)
    assert all(image["width"] == WIDTH and image["height"] == HEIGHT for image in document["images"])


def test_info_says_whose_boxes_they_are(document: Document) -> None:
    info = document["info"]
    assert (info["mode"], info["score_threshold"], info["teacher_sha256"]) == ("pseudo", 0.5, "0123")
    assert (info["frames"], info["frames_without_a_box"], info["boxes_under_one_pixel_left_out"]) == (3, 1, 1)


def test_reading_gives_back_what_was_written(document: Document, prepared: PreparedSet) -> None:
    labels = read(document, prepared)
    assert labels.findings == ()
    assert set(labels.frames) == {"clip/2", "clip/3"}  # a frame without a box is still unlabelled
    np.testing.assert_allclose(labels.frames["clip/2"].boxes, [[1, 2, 21.5, 12], [30, 3, 40, 33]])
    assert labels.frames["clip/2"].labels.tolist() == [0, 1]
    assert labels.frames["clip/2"].state is FrameState.LABELLED


def test_an_editor_may_renumber_and_drop_what_coco_does_not_know(document: Document, prepared: PreparedSet) -> None:
    before = read(document, prepared)
    plain = {
        "categories": [{"id": 7, "name": "pedestrian"}, {"id": 9, "name": "vehicle"}],
        "images": [{"id": image["id"] + 50, "file_name": image["file_name"]} for image in document["images"]],
        "annotations": [
            {
                "image_id": entry["image_id"] + 50,
                "category_id": {1: 9, 2: 7}[entry["category_id"]],
                "bbox": entry["bbox"],
            }
            for entry in document["annotations"]
        ],
    }
    after = read(plain, prepared)
    assert after.findings == ()
    for name, converted in before.frames.items():
        np.testing.assert_array_equal(after.frames[name].boxes, converted.boxes)
        np.testing.assert_array_equal(after.frames[name].labels, converted.labels)


def test_a_region_marked_as_crowd_is_one_to_ignore(document: Document, prepared: PreparedSet) -> None:
    document["annotations"][1]["iscrowd"] = 1
    document["annotations"][2]["iscrowd"] = 1
    labels = read(document, prepared)
    assert labels.frames["clip/2"].boxes.tolist() == [[1, 2, 21.5, 12]]
    assert labels.frames["clip/2"].ignore_boxes.tolist() == [[30, 3, 40, 33]]
    assert "clip/3" not in labels.frames


@pytest.mark.parametrize(
    ("change", "kind", "item", "boxes"),
    [
        ({"bbox": [1, 2, None, 4]}, "nan_box", "clip/2#0", 1),
        ({"bbox": [1, 2]}, "nan_box", "clip/2#0", 1),
        ({"bbox": [100, 100, 5, 5]}, "outside_box", "clip/2#0", 1),
        ({"bbox": [1, 2, 0.2, 5]}, "tiny_box", "clip/2#0", 1),
        ({"category_id": 77}, "unknown_category", "clip/2#0", 1),
        ({"image_id": 77}, "missing_image", "annotation 1", 1),
        ({"bbox": [21.5, 12, -20.5, -10]}, "inverted_box", "clip/2#0", 2),
    ],
)
def test_a_bad_box_is_a_finding_and_the_others_stay(
    document: Document, prepared: PreparedSet, change: dict[str, Any], kind: str, item: str, boxes: int
) -> None:
    document["annotations"][0].update(change)
    labels = read(document, prepared)
    assert [(finding.kind, finding.item) for finding in labels.findings] == [(kind, item)]
    assert len(labels.frames["clip/2"].boxes) == boxes
    assert len(labels.frames["clip/3"].boxes) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("clip/0.jpg", "missing_image"), ("stranger.jpg", "missing_image"), ("clip/2.jpg", "duplicate_frame")],
)
def test_labelled_unknown_and_repeated_frames_are_findings(
    document: Document, prepared: PreparedSet, name: str, kind: str
) -> None:
    document["images"][1]["file_name"] = name
    labels = read(document, prepared)
    assert [(finding.kind, finding.item) for finding in labels.findings] == [(kind, name)]
    assert set(labels.frames) == {"clip/2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a COCO document, found broken JSON"),
        ("[]", "expected a COCO document with lists of images, annotations and categories"),
        ('{"images": [], "annotations": [3], "categories": []}', "expected a COCO document with lists"),
        (json.dumps(coco_document({"mode": "skip"}, CLASSES)), "expected pseudo-labels, found a file of mode 'skip'"),
    ],
)
def test_a_file_that_is_none_is_named(prepared: PreparedSet, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pseudo.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        read_pseudo_labels(path, prepared)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.json: expected a COCO document of pseudo-labels"):
        read_pseudo_labels(tmp_path / "nowhere.json", prepared)


def test_only_unlabelled_frames_are_shown_to_the_teacher_and_only_sure_boxes_kept(prepared: PreparedSet) -> None:
    seen = []

    def detect(images: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        """Answers with a box in input pixels that names the position within the batch."""
        seen.append(len(images))
        rows = np.arange(len(images), dtype=np.float32)
        boxes = np.stack([np.stack([rows, rows, rows + 20, rows + 10], axis=1)] * 3, axis=1)
        scores = np.tile(np.array([0.9, 0.5, 0.4999], np.float32), (len(images), 1))
        return DetectionBatch(boxes, scores, np.tile(np.array([1, 0, 0], np.int64), (len(images), 1)))

    size = (HEIGHT // 2, WIDTH // 2)
    found = list(detect_frames(prepared, detect, size, unlabelled_frames(prepared), batch_size=2))
    objects = [one.above(0.5) for _, one in found]
    assert seen == [2, 1]
    assert [frame.name for frame, _ in found] == ["clip/2", "clip/3", "clip/4"]
    assert all(one.labels.tolist() == [1, 0] and len(one.scores) == 2 for one in objects)
    assert objects[1].boxes.tolist() == [[2, 2, 42, 22]] * 2  # twice the input's pixels
    assert objects[2].boxes.tolist() == [[0, 0, 40, 20]] * 2
