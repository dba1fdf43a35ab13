"""Which detections hit which boxes at IoU 0.5, by COCO's rules, for a whole set at once.

The rules, ties included, are those of pycocotools (COCOeval.evaluateImg and accumulate, maskApi.c bbIou), and the tests
hold both to the same answers. It looks only at pairs of one frame and class that overlap enough, which numpy finds for
all frames at once; what is left for a loop is a pair or two a box.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import box_iou, xywh_to_xyxy

IOU = 0.5
MAX_DETECTIONS = 100  # per frame and class; the decoder emits no more than 100 a frame
RECALLS = np.linspace(0.0, 1.0, 101)

AreaRange = tuple[float, float]
"""Smallest and largest box area that counts, in square pixels of the stored frame, both ends included."""

_CHUNK = 1 << 20  # pairs that are looked at together: bounds memory


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """N boxes: `frame` and `label` int64 [N], from 0; `bbox` float64 [N, 4] x, y, width, height in pixels."""

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    bbox: NDArray[np.float64]

    @property
    def area(self) -> NDArray[np.float64]:
        """[N], in square pixels."""
        return self.bbox[:, 2] * self.bbox[:, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The detections that count, ordered by label, then by score, best first, then by frame, then by place.

    label, frame: int64 [D]
    score:        float64 [D]
    hit:          bool [D], whether it found a box that had to be found; the others are false alarms
    boxes:        int64 [C, F], boxes to find by label and frame
    """

    label: NDArray[np.int64]
    frame: NDArray[np.int64]
    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    boxes: NDArray[np.int64]


def match_detections(
    truth: BoxTable,
    crowd: NDArray[np.bool_],
    found: BoxTable,
    score: NDArray[np.float64],
    shape: tuple[int, int],
    area_range: AreaRange,
) -> Matched:
    """Each detection in turn, best first, takes the box that it overlaps most, unless a better one has taken it.

    Boxes to find come before ignored ones; of equal overlaps the last box is taken. A crowd may be hit any number of
    times, and like a box outside `area_range` it counts neither as a box to find nor, when it is hit, as a hit or a
    false alarm; nor does a detection outside `area_range` that hits nothing.

    Args:
        truth: N boxes.
        crowd: bool [N], which of them are crowds.
        found: D detections.
        score: float64 [D], their scores.
        shape: (classes, frames).
        area_range: which areas count, in square pixels.
    """
    # By label and frame, the best MAX_DETECTIONS of each; equal scores by place, not by who wrote them first.
    order = np.lexsort((*found.bbox.T[::-1], -score, found.frame, found.label))
    label, frame = found.label[order], found.frame[order]
    begins = np.append(True, (np.diff(label) != 0) | (np.diff(frame) != 0))[: len(order)]
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    order = order[np.arange(len(order)) - start < MAX_DETECTIONS]
    found, score = BoxTable(found.frame[order], found.label[order], found.bbox[order]), score[order]

    ignored = crowd | ~_within(truth.area, area_range)
    detection, box, overlap = _overlapping_pairs(truth, crowd, found, shape[1])
    order = np.lexsort((-box, -overlap, ignored[box], detection))
    hit, excused = np.zeros(len(found.frame), bool), np.zeros(len(found.frame), bool)
    taken, matched = set[int](), -1
    for i, j in zip(detection[order].tolist(), box[order].tolist(), strict=True):
        if i != matched and j not in taken:
            matched = i
            (excused if ignored[j] else hit)[i] = True
            if not crowd[j]:
                taken.add(j)

    counts = ~excused & (hit | _within(found.area, area_range))
    ranked = np.lexsort((-score[counts], found.label[counts]))  # stable: equal scores stay ordered by frame and place
    kept = np.flatnonzero(counts)[ranked]
    boxes = np.zeros(shape, np.int64)
    np.add.at(boxes, (truth.label[~ignored], truth.frame[~ignored]), 1)
    return Matched(found.label[kept], found.frame[kept], score[kept], hit[kept], boxes)


def interpolated_precision(hit: NDArray[np.bool_], boxes: int) -> NDArray[np.float64]:
    """Precision [101] at RECALLS of detections [D] of one class, best first, of which `boxes` > 0 could have been hits.

    The mean over all of them is COCO's average precision.
    """
    if not len(hit):
        return np.zeros_like(RECALLS)
    hits = np.cumsum(hit, dtype=np.float64)
    precision = hits / (np.arange(1, len(hit) + 1) + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / boxes, RECALLS, side="left")
    return np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0)


def _within(area: NDArray[np.float64], area_range: AreaRange) -> NDArray[np.bool_]:
    return (area >= area_range[0]) & (area <= area_range[1])


def _overlapping_pairs(
    truth: BoxTable, crowd: NDArray[np.bool_], found: BoxTable, frames: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Detections and boxes of one frame and class that overlap by at least IOU, and by how much.

    In a crowd, the part of the detection that lies in it counts.
    """
    ours = truth.label * frames + truth.frame
    by_group = np.argsort(ours, kind="stable")
    theirs = found.label * frames + found.frame
    first = np.searchsorted(ours[by_group], theirs, side="left")
    count = np.searchsorted(ours[by_group], theirs, side="right") - first

    truth_corners, found_corners = xywh_to_xyxy(truth.bbox), xywh_to_xyxy(found.bbox)
    truth_area, found_area = truth.area, found.area
    total = np.cumsum(count)
    pieces = int(total[-1]) // _CHUNK + 1 if len(total) else 1
    parts = []
    for rows in np.split(np.arange(len(count)), np.searchsorted(total, _CHUNK * np.arange(1, pieces))):
        detection = np.repeat(rows, count[rows])
        # first[0], first[0] + 1, ... count[0] of them, then those of the next row
        begin = np.cumsum(count[rows]) - count[rows]
        box = by_group[np.repeat(first[rows] - begin, count[rows]) + np.arange(count[rows].sum())]
        areas = (found_area[detection], truth_area[box])
        overlap = box_iou(found_corners[detection], truth_corners[box], areas, crowd[box])
        enough = overlap >= IOU
        parts.append((detection[enough], box[enough], overlap[enough]))
    detections, boxes, overlaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return detections, boxes, overlaps
