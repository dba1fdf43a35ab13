"""Which class is taken for which: a confusion matrix at one IoU and one score threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import supervision as sv
from numpy.typing import NDArray
from pycocotools.mask import iou

from mobile_centernet.evaluation.coco_eval import CocoDocument, CocoResult, evaluated_images, is_ignored


def confusion_matrix(
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    classes: Sequence[str],
    *,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> NDArray[np.int64]:
    """Counts int64 [C + 1, C + 1]: row = true class, column = predicted class, last = background.

    So the last column holds missed objects and the last row false alarms. Matching is supervision's: one to one,
    same class first, then by IoU, at `iou_threshold` or more. Unlabelled frames are left out, and so are
    detections that lie in an ignore region and on no object.
    """
    truth_by_image, found_by_image = _by_image(ground_truth["annotations"]), _by_image(results)
    total = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    for image in evaluated_images(ground_truth):
        truth = [box for box in truth_by_image.get(image["id"], []) if not is_ignored(box)]
        ignored = [box for box in truth_by_image.get(image["id"], []) if is_ignored(box)]
        found = [box for box in found_by_image.get(image["id"], []) if box["score"] >= score_threshold]
        found = _without_excused(found, truth, ignored, iou_threshold)
        total += sv.ConfusionMatrix.evaluate_detection_batch(
            _rows(found, scores=True),
            _rows(truth, scores=False),
            num_classes=len(classes),
            conf_threshold=score_threshold,
            # supervision wants more than the threshold, COCO the threshold or more; IoU is float32 there
            iou_threshold=float(np.nextafter(np.float32(iou_threshold), np.float32(0))),
        )
    return total


def _by_image(boxes: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for box in boxes:
        groups.setdefault(box["image_id"], []).append(box)
    return groups


def _without_excused(
    found: list[Mapping[str, Any]],
    truth: list[Mapping[str, Any]],
    ignored: list[Mapping[str, Any]],
    iou_threshold: float,
) -> list[Mapping[str, Any]]:
    """The detections without those that an ignore region covers and no object claims."""
    if not found or not ignored:
        return found
    on_object = _overlap(found, truth, crowd=False) >= iou_threshold
    in_region = _overlap(found, ignored, crowd=True) >= iou_threshold
    return [box for box, keep in zip(found, on_object | ~in_region, strict=True) if keep]


def _overlap(found: list[Mapping[str, Any]], others: list[Mapping[str, Any]], *, crowd: bool) -> NDArray[np.float64]:
    """Largest overlap [N] of each detection: IoU, or with `crowd` the covered share of the detection."""
    if not others:
        return np.zeros(len(found))
    boxes = [np.array([box["bbox"] for box in side], dtype=np.float64) for side in (found, others)]
    overlaps: NDArray[np.float64] = iou(boxes[0], boxes[1], [int(crowd)] * len(others))
    return np.asarray(overlaps.max(axis=1), np.float64)


def _rows(boxes: list[Mapping[str, Any]], *, scores: bool) -> NDArray[np.float32]:
    """Rows x1, y1, x2, y2, label and, on demand, score: what supervision reads."""
    rows = np.zeros((len(boxes), 6 if scores else 5), dtype=np.float32)
    for row, box in zip(rows, boxes, strict=True):
        x, y, width, height = box["bbox"]
        row[:5] = x, y, x + width, y + height, box["category_id"] - 1
        if scores:
            row[5] = 1.0  # the threshold has been applied already, on the full-precision score
    return rows
