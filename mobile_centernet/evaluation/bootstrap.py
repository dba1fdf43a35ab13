"""How sure a difference in mAP@0.5 is: the paired bootstrap over frames (Efron and Tibshirani, 1993, chapter 13).

Frames are drawn with replacement, as many as there are, and both models are scored on the same draw. Boxes are matched
within a frame, so that is done once; a draw only repeats and drops frames, and gives exactly the mAP@0.5 that
`evaluate_map50` would find on a set in which each frame lies as often as it was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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

Columns = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]
"""Of some detections: position of the frame, score, and whether it found a box that had to be found."""


@dataclass(frozen=True, slots=True, eq=False)
class MapDifference:
    """mAP@0.5 of the second model minus that of the first, in -1..1.

    `value`: on all frames. `lower`, `upper`: with the given confidence it is not below, and not above, these
    (percentiles of `samples`, one-sided each). `samples`: float64 [R], one for each draw.
    """

    value: float
    lower: float
    upper: float
    samples: NDArray[np.float64]


def paired_bootstrap(
    ground_truth: CocoDocument,
    first: Sequence[CocoResult],
    second: Sequence[CocoResult],
    classes: Sequence[str],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> MapDifference:
    """How much better `second` is than `first`; the arguments are those of `evaluate_map50`, checked by it before.

    A class without a box in a draw does not count there, as in `evaluate_map50`; a draw without any box is drawn again.
    Raises DataError where no frame has a box to find; ValueError for fewer than 1 draw or a confidence not in 0.5..1.
    """
    if resamples < 1 or not 0.5 <= confidence < 1:
        raise ValueError(f"expected at least 1 draw and a confidence in [0.5, 1), found {resamples} and {confidence}")
    ours, theirs = (ResampledMap50(ground_truth, results, classes) for results in (second, first))
    if not ours.boxes.any():
        raise DataError(f"bootstrap: expected a box to find, found none in {ours.frames} frames")
    generator = np.random.default_rng(seed)
    samples = np.empty(resamples)
    for draw in range(resamples):
        counts = np.zeros(ours.frames, np.int64)
        while not (ours.boxes @ counts).any():
            counts = np.bincount(generator.integers(ours.frames, size=ours.frames), minlength=ours.frames)
        samples[draw] = ours.map50(counts) - theirs.map50(counts)
    lower, upper = np.quantile(samples, [1 - confidence, confidence])
    once = np.ones(ours.frames, np.int64)
    return MapDifference(ours.map50(once) - theirs.map50(once), float(lower), float(upper), samples)


class ResampledMap50:
    """One model's boxes, matched frame by frame, ready to be scored on any choice of the evaluated frames.

    `frames`: how many there are, in the order of their ids. `boxes`: int64 [C, F], boxes to find.
    """

    def __init__(self, ground_truth: CocoDocument, results: Sequence[CocoResult], classes: Sequence[str]) -> None:
        place = {image: number for number, image in enumerate(sorted(i["id"] for i in evaluated_images(ground_truth)))}
        self.frames = len(place)
        self.boxes = np.zeros((len(classes), self.frames), np.int64)
        found: list[list[Columns]] = [[] for _ in classes]
        for pair in match_boxes(ground_truth, results, classes, ALL_AREAS, IOUS[:1]).eval_imgs:
            if pair is None:  # nothing to find and nothing found
                continue
            label, frame = pair["category_id"] - 1, place[pair["image_id"]]
            self.boxes[label, frame] = len(pair["gtIgnore"]) - sum(pair["gtIgnore"])
            counts = ~np.asarray(pair["dtIgnore"], bool).reshape(-1)
            scores = np.asarray(pair["dtScores"], np.float64)[counts]
            hit = np.asarray(pair["dtMatched"], bool).reshape(-1)[counts]
            found[label].append((np.full(len(scores), frame), scores, hit))
        self._ranked = [_Ranked.of(columns) for columns in found]

    def map50(self, counts: NDArray[np.int64]) -> float:
        """mAP@0.5 on a set with each frame `counts` times, int64 [F]; NaN where these frames have no box to find."""
        boxes = self.boxes @ counts
        scored = [ranked.ap50(counts, int(found)) for ranked, found in zip(self._ranked, boxes, strict=True) if found]
        return float(np.mean(scored)) if scored else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """All detections of one class, best score first, cut after the run of the last hit: what follows changes nothing.

    Detections of one frame with one score are a run: a frame drawn twice repeats the run, not each detection of it.
    """

    hit: NDArray[np.bool_]  # [D]
    start: NDArray[np.int64]  # [runs], into `hit`
    length: NDArray[np.int64]  # [runs]
    frame: NDArray[np.int64]  # [runs], positions

    @classmethod
    def of(cls, found: Sequence[Columns]) -> "_Ranked":
        none = (np.empty(0, np.int64), np.empty(0), np.empty(0, bool))
        frame, scores, hit = (np.concatenate(column) for column in zip(none, *found, strict=True))
        order = np.lexsort((frame, -scores))  # stable: those of one frame stay ordered by place
        frame, scores, hit = frame[order], scores[order], hit[order]
        changes = (np.diff(frame) != 0) | (np.diff(scores) != 0)
        ends = np.append(np.flatnonzero(changes) + 1, len(hit))
        end = int(ends[ends > np.flatnonzero(hit)[-1]][0]) if hit.any() else 0
        start = np.concatenate([[0], ends[ends < end]]) if end else np.empty(0, np.int64)
        return cls(hit[:end], start, np.diff(np.append(start, end)), frame[start])

    def ap50(self, counts: NDArray[np.int64], boxes: int) -> float:
        """COCO's 101-point average precision on frames that lie there `counts` times [F], with `boxes` to find."""
        # Each run as often as its frame was drawn.
        length = self.length * counts[self.frame]
        run = np.repeat(np.arange(len(length)), length)
        place = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
        drawn = self.start[run] + place % self.length[run]
        if not len(drawn):
            return 0.0

        hits = np.cumsum(self.hit[drawn], dtype=np.float64)
        precision = hits / (np.arange(1, len(hits) + 1) + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(hits / boxes, RECALLS, side="left")
        return float(np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0).mean())
