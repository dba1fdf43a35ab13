"""Which detections hit which boxes at IoU 0.5, by COCO's rules, for a whole set at once.

The rules, ties included, are those of pycocotools (COCOeval.evaluateImg and accumulate, maskApi.c bbIou), and the tests
hold both to the same answers. It looks only at pairs of one frame and class that overlap enough, which numpy finds for
all frames at once; what is left for a loop is a pair or two a box.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IOU = 0.5
MAX_DETECTIONS = 100  # per frame and class; the decoder emits no more than 100 a frame
RECALLS = np.linspace(0.0, 1.0, 101)

AreaRange = tuple[float, float]
"""Smallest and largest box area that counts, in square pixels of the stored frame, both ends included."""

_CHUNK = 1 << 20  # pairs that are looked at together: bounds memory


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
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


def match(
    truth: Boxes,
    crowd: NDArray[np.bool_],
    found: Boxes,
    score: NDArray[np.float64],
    shape: tuple[int, int],
    area_range: AreaRange,
) -> Matched:
    """`crowd` [N] of `truth`, `score` [D] of `found`; `shape` = (classes, frames).

    A crowd may be hit any number of times, and like a box outside `area_range` it counts neither as a box to find nor,
    when it is hit, as a hit or a false alarm; nor does a detection outside `area_range` that hits nothing.
    """
    ignored = crowd | ~_within(truth.area, area_range)
    order = _best_first(found, score)
    found = Boxes(found.frame[order], found.label[order], found.bbox[order])
    score = score[order]
    hit, excused = _greedy(truth, crowd, ignored, found, shape[1])
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


def _best_first(found: Boxes, score: NDArray[np.float64]) -> NDArray[np.intp]:
    """By label and frame, the best MAX_DETECTIONS of each; equal scores by place, not by who wrote them first."""
    order = np.lexsort((*found.bbox.T[::-1], -score, found.frame, found.label))
    label, frame = found.label[order], found.frame[order]
    begins = np.append(True, (np.diff(label) != 0) | (np.diff(frame) != 0))[: len(order)]
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    return order[np.arange(len(order)) - start < MAX_DETECTIONS]


def _greedy(
    truth: Boxes, crowd: NDArray[np.bool_], ignored: NDArray[np.bool_], found: Boxes, frames: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Each detection in turn, best first, takes the box that it overlaps most, unless a better one has taken it.

    Boxes to find come before ignored ones; of equal overlaps the last box is taken. Returns for each detection [D]
    whether it took a box to find, and whether it took an ignored one.
    """
    detection, box, overlap = _pairs(truth, crowd, found, frames)
    order = np.lexsort((-box, -overlap, ignored[box], detection))
    hit, excused = np.zeros(len(found.frame), bool), np.zeros(len(found.frame), bool)
    taken, matched = set[int](), -1
    for i, j in zip(detection[order].tolist(), box[order].tolist(), strict=True):
        if i != matched and j not in taken:
            matched = i
            (excused if ignored[j] else hit)[i] = True
            if not crowd[j]:
                taken.add(j)
    return hit, excused


def _pairs(
    truth: Boxes, crowd: NDArray[np.bool_], found: Boxes, frames: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Detections and boxes of one frame and class that overlap by at least IOU, and by how much."""
    ours = truth.label * frames + truth.frame
    order = np.argsort(ours, kind="stable")
    theirs = found.label * frames + found.frame
    first = np.searchsorted(ours[order], theirs, side="left")
    count = np.searchsorted(ours[order], theirs, side="right") - first
    parts = [
        _overlapping(truth, crowd, found, np.repeat(rows, count[rows]), order[_ranges(first[rows], count[rows])])
        for rows in _chunks(count)
    ]
    detection, box, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return detection, box, overlap


def _chunks(count: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Rows [.] in turn, as many at once as make _CHUNK pairs."""
    total = np.cumsum(count)
    pieces = int(total[-1]) // _CHUNK + 1 if len(total) else 1
    yield from np.split(np.arange(len(count)), np.searchsorted(total, _CHUNK * np.arange(1, pieces)))


def _ranges(first: NDArray[np.intp], count: NDArray[np.intp]) -> NDArray[np.intp]:
    """first[0], first[0] + 1, ... `count[0]` of them, then those of the next."""
    begin = np.cumsum(count) - count
    return np.repeat(first - begin, count) + np.arange(count.sum())


def _overlapping(
    truth: Boxes, crowd: NDArray[np.bool_], found: Boxes, detection: NDArray[np.intp], box: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Those of the pairs [P] that overlap enough. In a crowd, the part of the detection that lies in it counts."""
    ours, theirs = truth.bbox[box], found.bbox[detection]
    width, height = (
        np.minimum(ours[:, i] + ours[:, i + 2], theirs[:, i] + theirs[:, i + 2]) - np.maximum(ours[:, i], theirs[:, i])
        for i in (0, 1)
    )
    touch = np.flatnonzero((width > 0) & (height > 0))
    detection, box, shared = detection[touch], box[touch], width[touch] * height[touch]
    own = found.area[detection]
    overlap = shared / np.where(crowd[box], own, own + truth.area[box] - shared)
    enough = overlap >= IOU
    return detection[enough], box[enough], overlap[enough]
