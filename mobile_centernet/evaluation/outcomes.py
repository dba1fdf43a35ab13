"""Which detection stands for which object, at one score threshold and one IoU: what becomes of every single box."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pycocotools.mask import iou

from mobile_centernet.evaluation.coco_eval import CocoDocument, CocoResult, evaluated_images, is_ignored

SCORE_THRESHOLD, IOU_THRESHOLD = 0.3, 0.5

Box = Mapping[str, Any]
"""An annotation of a COCO document, or a result: `image_id`, `category_id`, `bbox` as x, y, width, height."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
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


def match(
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    *,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = IOU_THRESHOLD,
) -> list[Outcome]:
    """Pair objects with detections of at least `score_threshold`, each at most once.

    Pairs of the same class come first, then those with the larger IoU, which must be `iou_threshold` or more: the
    order of supervision's confusion matrix, which says how many but not which. Unlabelled frames are left out, and
    so are detections that lie in an ignore region and on no object.
    """
    truths, detections = by_image(ground_truth["annotations"]), by_image(results)
    frames = (
        _match_frame(
            truths.get(image["id"], []),
            [box for box in detections.get(image["id"], []) if box["score"] >= score_threshold],
            iou_threshold,
        )
        for image in evaluated_images(ground_truth)
    )
    return list(chain.from_iterable(frames))


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
    boxes = [np.array([box["bbox"] for box in side], dtype=np.float64) for side in (found, others)]
    return np.asarray(iou(boxes[0], boxes[1], [int(crowd)] * len(others)), np.float64)


def _match_frame(annotations: Sequence[Box], detections: Sequence[Box], iou_threshold: float) -> list[Outcome]:
    truths = [box for box in annotations if not is_ignored(box)]
    regions = [box for box in annotations if is_ignored(box)]
    found = _without_excused(detections, truths, regions, iou_threshold)
    outcomes, open_truths, open_found = [], dict(enumerate(truths)), dict(enumerate(found))
    for row, column in _pairs(found, truths, iou_threshold):
        if row in open_found and column in open_truths:
            outcomes.append(Outcome(open_truths.pop(column), open_found.pop(row)))
    missed = [Outcome(box, None) for box in open_truths.values()]
    return [*outcomes, *missed, *(Outcome(None, box) for box in open_found.values())]


def _pairs(found: Sequence[Box], truths: Sequence[Box], iou_threshold: float) -> list[tuple[int, int]]:
    """Candidates (detection, object), the best first."""
    overlap = overlaps(found, truths)
    same = np.array([[box["category_id"] == truth["category_id"] for truth in truths] for box in found], bool)
    rows, columns = np.nonzero(overlap >= iou_threshold)
    order = np.lexsort((-overlap[rows, columns], ~same.reshape(overlap.shape)[rows, columns]))
    return [(int(rows[i]), int(columns[i])) for i in order]


def _without_excused(
    found: Sequence[Box], truths: Sequence[Box], regions: Sequence[Box], iou_threshold: float
) -> list[Box]:
    """The detections without those that an ignore region covers and no object claims."""
    if not found or not regions:
        return list(found)
    on_object = overlaps(found, truths).max(axis=1, initial=0) >= iou_threshold
    in_region = overlaps(found, regions, crowd=True).max(axis=1, initial=0) >= iou_threshold
    return [box for box, keep in zip(found, on_object | ~in_region, strict=True) if keep]
