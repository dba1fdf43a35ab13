"""How sure a difference in mAP@0.5 is: the paired bootstrap over frames and seeds (Efron and Tibshirani, 1993, ch. 13).

Frames are drawn with replacement, as many as there are, and both models are scored on the same draw. Where a model was
trained with several seeds, seeds are drawn in the same way, again the same ones for both. Boxes are matched within a
frame, so that is done once; a draw only repeats and drops frames, and gives exactly the mAP@0.5 that `evaluate_map50`
would find on a set in which each frame lies as often as it was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.coco_eval import (
    ALL_AREAS,
    IOUS,
    RECALLS,
    CocoDocument,
    CocoResult,
    evaluated_images,
    match_boxes,
)

CHUNK = 4_000_000
"""Numbers in the largest array of `map50`: draws are scored in groups, so that memory stays bounded."""


@dataclass(frozen=True, slots=True, eq=False)
class MapDifference:
    """mAP@0.5 of the second model minus that of the first, in -1..1.

    `value`: on all frames, the mean over the seeds. `lower`, `upper`: with the given confidence it is not below, and
    not above, these (percentiles of `samples`, one-sided each). `samples`: float64 [R], one for each draw.
    """

    value: float
    lower: float
    upper: float
    samples: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFrames:
    """One model's boxes, matched frame by frame at IoU 0.5: all that its mAP@0.5 on any choice of frames rests on.

    Detections are ordered by class, then best score first, those of one frame with one score side by side: a run, which
    a frame drawn twice repeats as a whole. What follows a class's last hit is left out, since it changes nothing. So
    this is a few bytes a detection, and is scored without images, labels or scores.

    boxes: [C, F], boxes to find by class and frame, frames in the order of their ids
    label: [D], each detection's class
    frame: [D], each detection's frame, its place in `boxes`
    hit:   [D], whether it found a box that had to be found
    first: [D], whether a run begins with it
    """

    boxes: NDArray[np.uint16]
    label: NDArray[np.uint8]
    frame: NDArray[np.uint32]
    hit: NDArray[np.bool_]
    first: NDArray[np.bool_]

    @classmethod
    def of(cls, ground_truth: CocoDocument, results: Sequence[CocoResult], classes: Sequence[str]) -> Self:
        """Match detections with labels; the arguments are those of `evaluate_map50`, checked as it does."""
        place = {image: number for number, image in enumerate(sorted(i["id"] for i in evaluated_images(ground_truth)))}
        boxes = np.zeros((len(classes), len(place)), np.uint16)
        columns = [np.empty((0, 4))]
        for pair in match_boxes(ground_truth, results, classes, ALL_AREAS, IOUS[:1]).eval_imgs:
            if pair is None:  # nothing to find and nothing found
                continue
            label, frame = pair["category_id"] - 1, place[pair["image_id"]]
            boxes[label, frame] = len(pair["gtIgnore"]) - sum(pair["gtIgnore"])
            counts = ~np.asarray(pair["dtIgnore"], bool).reshape(-1)
            scores = np.asarray(pair["dtScores"], np.float64)[counts]
            hit = np.asarray(pair["dtMatched"], bool).reshape(-1)[counts]
            columns.append(np.stack([np.full(len(hit), label), np.full(len(hit), frame), scores, hit], axis=1))
        label, frame, score, hit = np.concatenate(columns).T
        order = np.lexsort((frame, -score, label))  # stable: those of one frame stay ordered by place
        label, frame, score, hit = label[order], frame[order], score[order], hit[order] > 0
        run = np.cumsum(np.any(np.diff(np.stack([label, frame, score]), axis=1, prepend=-1), axis=0))
        last = np.zeros(len(classes), np.int64)  # run of each class's last hit, -1 and below: none
        np.maximum.at(last, label[hit].astype(np.int64), run[hit])
        kept = run <= last[label.astype(np.int64)]
        first = np.diff(run[kept], prepend=0) > 0
        return cls(boxes, label[kept].astype(np.uint8), frame[kept].astype(np.uint32), hit[kept], first)

    def map50(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """mAP@0.5 on sets with each frame `counts` times, int64 [R, F]: float64 [R], NaN without a box to find."""
        boxes = counts @ self.boxes.T.astype(np.int64)  # [R, C]
        ap50 = np.zeros(boxes.shape)
        for label in np.unique(self.label):
            of_class = self.label == label
            frame, hit, first = self.frame[of_class], self.hit[of_class], self.first[of_class]
            rows = max(1, CHUNK // (len(frame) * max(1, int(counts.max(initial=1)))))
            for start in range(0, len(counts), rows):
                part = slice(start, start + rows)
                ap50[part, label] = _ap50(frame, hit, first, counts[part], boxes[part, label])
        known = boxes > 0
        with np.errstate(invalid="ignore"):
            mean: NDArray[np.float64] = np.where(known, ap50, 0.0).sum(axis=1) / known.sum(axis=1)
        return mean


def paired_bootstrap(
    first: Sequence[MatchedFrames],
    second: Sequence[MatchedFrames],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> MapDifference:
    """How much better `second` is than `first`, scored on the same frames, with the same seeds in the same order.

    A class without a box in a draw does not count there, as in `evaluate_map50`; a draw without any box is drawn again.
    With one seed each, frames alone are drawn: how other seeds would do is not in the interval then.

    Raises:
        DataError: no frame has a box to find, or the two were not scored on the same frames.
        ValueError: fewer than 1 draw, a confidence not in 0.5..1, or not as many seeds on both sides.
    """
    if resamples < 1 or not 0.5 <= confidence < 1:
        raise ValueError(f"expected at least 1 draw and a confidence in [0.5, 1), found {resamples} and {confidence}")
    if len(first) != len(second) or not first:
        raise ValueError(f"expected both models with the same seeds, found {len(first)} and {len(second)}")
    boxes = first[0].boxes.astype(np.int64)
    frames = boxes.shape[1]
    if not all(np.array_equal(each.boxes, boxes) for each in (*first, *second)):
        raise DataError("bootstrap: expected both models scored on the same frames, found other boxes to find")
    if not boxes.any():
        raise DataError(f"bootstrap: expected a box to find, found none in {frames} frames")
    generator = np.random.default_rng(seed)
    counts = np.zeros((1 + resamples, frames), np.int64)
    counts[0] = 1  # the set itself
    for draw in counts[1:]:
        while not (boxes @ draw).any():
            draw[:] = np.bincount(generator.integers(frames, size=frames), minlength=frames)
    seeds = generator.integers(len(first), size=(resamples, len(first)))
    by_seed = np.stack([ours.map50(counts) - theirs.map50(counts) for theirs, ours in zip(first, second, strict=True)])
    samples = by_seed[seeds, np.arange(1, 1 + resamples)[:, None]].mean(axis=1)
    lower, upper = np.quantile(samples, [1 - confidence, confidence])
    return MapDifference(float(by_seed[:, 0].mean()), float(lower), float(upper), samples)


def _ap50(
    frame: NDArray[np.uint32],
    hit: NDArray[np.bool_],
    first: NDArray[np.bool_],
    counts: NDArray[np.int64],
    boxes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """One class's AP by COCO's 101 points on R choices of frames [R, F] with `boxes` [R] to find: float64 [R].

    Interpolated precision only needs the places of hits. A detection that is a run of its own, as nearly all are, needs
    but the place of its last copy: precision rises from copy to copy. Longer runs need every copy's place.
    """
    start = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    length: NDArray[np.int64] = np.diff(start, append=len(frame))
    found = np.cumsum(hit)
    before: NDArray[np.int64] = found[start] - hit[start]  # hits before each run
    hits: NDArray[np.int64] = np.diff(before, append=found[-1])  # hits in each run

    # One place per hit, or per hit and copy, in the order in which they come; copy -1 is the last one.
    at, copy = np.flatnonzero(hit), np.full(int(hit.sum()), -1)
    if (length[run[at]] > 1).any():
        copies = np.where(length[run[at]] > 1, max(1, int(counts.max())), 1)
        within = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
        at, copy = np.repeat(at, copies), np.where(np.repeat(copies, copies) > 1, within, -1)
        order = np.lexsort((at, copy, run[at]))
        at, copy = at[order], copy[order]
    begin, own = start[run[at]], run[at]

    drawn = counts[:, frame]
    times = drawn[:, at]
    nth = np.where(copy < 0, times - 1, copy)
    ranked = np.cumsum(drawn, axis=1)[:, begin] - times + nth * length[own] + at - begin + 1
    right = np.cumsum(drawn * hit, axis=1)[:, begin] - times * hit[begin]
    absent = nth >= times
    right += np.where(absent, times * hits[own], nth * hits[own] + found[at] - before[own])

    precision = np.where(absent, 0.0, right / (ranked + np.spacing(1)))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, right / np.maximum(boxes, 1)[:, None], side="right")
    ap50: NDArray[np.float64] = (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return ap50
