"""Which detection stands for which object, at one score threshold and one IoU: what becomes of every single box.

And which class is taken for which, the confusion matrix of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import box_iou, xywh_to_xyxy
from mobile_centernet.evaluation.coco_eval import CocoDocument, CocoResult, evaluated_images, is_ignored

SCORE_THRESHOLD, IOU_THRESHOLD = 0.3, 0.5

Box = Mapping[str, Any]
"""An annotation of a COCO document, or a result: `image_id`, `category_id`, `bbox` as x, y, width, height."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxOutcome:
    """An object and its detection; `found` is None for a missed object, `truth` for a detection of nothing."""

    truth: Box | None
    found: Box | None

    @property
    def image_id(self) -> int:
        """The frame on which this happened."""
        return int((self.truth or self.found or {})["image_id"])

    @property
    def correct(self) -> bool:
        """Found, and named as what it is."""
        return bool(self.truth and self.found and self.truth["category_id"] == self.found["category_id"])


def box_outcomes(
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    *,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = IOU_THRESHOLD,
) -> list[BoxOutcome]:
    """Pair objects with detections of at least `score_threshold`, each at most once.

    Pairs of the same class come first, then those with the larger IoU, which must be `iou_threshold` or more: the
    order of supervision's confusion matrix, which says how many but not which. Unlabelled frames are left out, and
    so are detections that lie in an ignore region and on no object.
    """
    annotations = by_image(ground_truth["annotations"])
    detections = by_image(result for result in results if result["score"] >= score_threshold)
    outcomes: list[BoxOutcome] = []
    for image in evaluated_images(ground_truth):
        labelled = annotations.get(image["id"], [])
        truths = [box for box in labelled if not is_ignored(box)]
        regions = [box for box in labelled if is_ignored(box)]
        found: list[Box] = list(detections.get(image["id"], []))
        if found and regions:
            on_object = overlaps(found, truths).max(axis=1, initial=0) >= iou_threshold
            in_region = overlaps(found, regions, crowd=True).max(axis=1, initial=0) >= iou_threshold
            found = [box for box, keep in zip(found, on_object | ~in_region, strict=True) if keep]

        overlap = overlaps(found, truths)
        same = np.array([[box["category_id"] == truth["category_id"] for truth in truths] for box in found], bool)
        rows, columns = np.nonzero(overlap >= iou_threshold)
        best_first = np.lexsort((-overlap[rows, columns], ~same.reshape(overlap.shape)[rows, columns]))
        open_truths, open_found = dict(enumerate(truths)), dict(enumerate(found))
        for row, column in zip(rows[best_first].tolist(), columns[best_first].tolist(), strict=True):
            if row in open_found and column in open_truths:
                outcomes.append(BoxOutcome(open_truths.pop(column), open_found.pop(row)))
        outcomes += [BoxOutcome(box, None) for box in open_truths.values()]
        outcomes += [BoxOutcome(None, box) for box in open_found.values()]
    return outcomes


def confusion_labels(outcomes: Iterable[BoxOutcome], classes: Sequence[str]) -> list[tuple[int, int]]:
    """(true label, predicted label) of every outcome; background, the label after the last class, has no partner."""
    return [
        (
            outcome.truth["category_id"] - 1 if outcome.truth else len(classes),
            outcome.found["category_id"] - 1 if outcome.found else len(classes),
        )
        for outcome in outcomes
    ]


def confusion_matrix(outcomes: Iterable[BoxOutcome], classes: Sequence[str]) -> NDArray[np.int64]:
    """Counts int64 [C + 1, C + 1]: row = true class, column = predicted class, the last of each = background.

    So the last column holds missed objects and the last row false alarms.
    """
    total = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    for true, predicted in confusion_labels(outcomes, classes):
        total[true, predicted] += 1
    return total


AnyBox = TypeVar("AnyBox", bound=Box)


def by_image(boxes: Iterable[AnyBox]) -> dict[int, list[AnyBox]]:
    """The boxes of every frame that has some."""
    groups: dict[int, list[AnyBox]] = {}
    for box in boxes:
        groups.setdefault(box["image_id"], []).append(box)
    return groups


def overlaps(found: Sequence[Box], others: Sequence[Box], *, crowd: bool = False) -> NDArray[np.float64]:
    """IoU [M, N] of M boxes with N others; with `crowd` the share of the box that the other one covers."""
    if not found or not others:
        return np.zeros((len(found), len(others)))
    ours, theirs = (np.array([box["bbox"] for box in side], np.float64) for side in (found, others))
    areas = (ours[:, 2] * ours[:, 3])[:, None], theirs[:, 2] * theirs[:, 3]
    return box_iou(xywh_to_xyxy(ours)[:, None], xywh_to_xyxy(theirs), areas, crowd)
