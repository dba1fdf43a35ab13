"""Pseudo-labels: the teacher's boxes on unlabelled frames, as a COCO document that a person may look through and fix.

Beyond COCO, annotations have a `score` and `info` says which mode, teacher and threshold they come from. Frames are
known by `file_name`, which is also the image's name in the prepared set's shards (`tar xf` unpacks them).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.annotations import Box, Finding, Frame, FrameState, normalise
from mobile_centernet.data.convert import SMALLEST, CheckedBoxes, ClassMap, convert
from mobile_centernet.data.readers.common import quarantined
from mobile_centernet.data.store.coco import Document
from mobile_centernet.data.store.prepared import PreparedSet, StoredFrame
from mobile_centernet.detections import Detections
from mobile_centernet.errors import DataError

MODE = "pseudo"
"""`info.mode` of a document that holds pseudo-labels; under any other mode it is empty."""


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """A document, read and checked. `frames` (by frame name) all have a box: without one, a frame stays unlabelled."""

    frames: Mapping[str, CheckedBoxes]
    findings: tuple[Finding, ...]


def coco_document(
    info: Mapping[str, Any],
    classes: Sequence[str],
    images: Sequence[Document] = (),
    annotations: Sequence[Document] = (),
) -> Document:
    """A COCO document in the classes of a model; without images that of a mode that makes no pseudo-labels."""
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes)]
    return {
        "info": dict(info),
        "licenses": [],
        "categories": categories,
        "images": list(images),
        "annotations": list(annotations),
    }


def pseudo_document(
    found: Iterable[tuple[StoredFrame, Detections]],
    classes: Sequence[str],
    *,
    score_threshold: float,
    teacher: Mapping[str, str],
) -> Document:
    """The document of every frame in `found`, with those of the detections that score at least `score_threshold`.

    `teacher` are facts about who found them. Boxes of less than one pixel are left out, since nothing can be trained on
    them, and counted in `info`.
    """
    images: list[Document] = []
    annotations: list[Document] = []
    labelled, too_small = 0, 0
    for frame, detections in found:
        objects, before = detections.above(score_threshold), len(annotations)
        image = {"id": frame.id, "file_name": f"{frame.name}.jpg", "width": frame.width, "height": frame.height}
        images.append(image)
        boxes = xyxy_to_xywh(objects.boxes.astype(np.float64)).tolist()
        for xywh, score, label in zip(boxes, objects.scores.tolist(), objects.labels.tolist(), strict=True):
            if min(xywh[2:]) < SMALLEST:
                too_small += 1
                continue
            annotations.append({
                "id": len(annotations) + 1,
                "image_id": frame.id,
                "category_id": label + 1,
                "bbox": [round(value, 3) for value in xywh],
                "area": round(xywh[2] * xywh[3], 3),
                "iscrowd": 0,
                "score": score,
            })  # fmt: skip
        labelled += len(annotations) > before
    info = {
        "description": "The teacher's boxes on unlabelled training frames; the student trains on them as labels.",
        "mode": MODE,
        "score_threshold": score_threshold,
        **teacher,
        "frames": len(images),
        "frames_without_a_box": len(images) - labelled,
        "boxes_under_one_pixel_left_out": too_small,
    }
    return coco_document(info, classes, images, annotations)


def read_pseudo_labels(path: Path, prepared: PreparedSet) -> PseudoLabels:
    """Read and check the pseudo-labels of a prepared set's unlabelled frames, edited by hand or not.

    Every box passes the checks of real labels (`convert`), categories are known by name, `iscrowd` makes a region to
    ignore. Bad boxes and frames are quarantined; the finding's item is the frame, or `<frame>#<n>` for its n-th box.
    Raises DataError where the file is missing, no COCO document, or of another mode.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: expected a COCO document of pseudo-labels ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: expected a COCO document, found broken JSON ({error})") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(
        isinstance(document.get(part), list) and all(isinstance(entry, dict) for entry in document[part])
        for part in parts
    ):
        raise DataError(f"{path}: expected a COCO document with lists of images, annotations and categories")
    info = document.get("info")
    mode = info.get("mode", MODE) if isinstance(info, dict) else MODE  # some editors drop what COCO doesn't know
    if mode != MODE:
        raise DataError(f"{path}: expected pseudo-labels, found a file of mode '{mode}'; run the stage pseudo_label")

    unlabelled = {}
    for frame in map(prepared.frame, range(len(prepared))):
        if frame.state is FrameState.UNLABELLED:
            unlabelled[f"{frame.name}.jpg"] = frame
    names = {str(entry.get("id")): str(entry.get("name")) for entry in document["categories"]}
    boxes: dict[str, list[Box]] = {str(image.get("id")): [] for image in document["images"]}
    findings: list[Finding] = []
    for entry in document["annotations"]:
        image_id, category = str(entry.get("image_id")), str(entry.get("category_id"))
        if image_id not in boxes:
            item = f"annotation {entry.get('id')}"
            findings.append(quarantined("missing_image", item, "an image id of this file", image_id))
            continue
        try:
            x, y, width, height = (float(value) for value in entry.get("bbox"))
        except (TypeError, ValueError):
            x = y = width = height = math.nan  # which `convert` quarantines
        name = normalise(names.get(category, f"category {category}"))
        boxes[image_id].append(Box(name, (x, y, x + width, y + height), ignore=bool(entry.get("iscrowd"))))
    class_map = ClassMap(prepared.classes, {name: name for name in prepared.classes})
    frames: dict[str, CheckedBoxes] = {}
    seen: set[str] = set()
    for image in document["images"]:
        name = str(image.get("file_name"))
        if name in seen or name not in unlabelled:
            if name in seen:
                findings.append(quarantined("duplicate_frame", name, "every frame once", "twice"))
            else:
                expected = "an unlabelled frame of the prepared set"
                findings.append(quarantined("missing_image", name, expected, "none of that name"))
            continue
        seen.add(name)
        frame = unlabelled[name]
        raw = Frame(
            prepared.root / name,
            frame.name,
            frame.video,
            prepared.split,
            FrameState.LABELLED,
            tuple(boxes[str(image.get("id"))]),
        )
        converted = convert(raw, class_map, (frame.height, frame.width))
        findings += converted.findings
        if converted.state is FrameState.LABELLED:
            frames[frame.name] = converted
    return PseudoLabels(frames, tuple(findings))
