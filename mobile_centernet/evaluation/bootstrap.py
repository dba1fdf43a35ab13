"""How sure a difference in mAP@0.5 is: the paired bootstrap over frames (Efron and Tibshirani, 1993, chapter 13).

Frames are drawn with replacement, as many as there are, and both models are scored on the same draw. pycocotools
matches boxes within a frame, so it runs once; a draw only repeats and drops frames, and gives exactly the mAP@0.5 that
`evaluate_map50` would find on a set in which each frame lies as often as it was drawn.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.coco_eval import (
    ALL_AREAS,
    MAX_DETECTIONS,
    CocoDocument,
    CocoResult,
    evaluated_images,
    is_ignored,
)

RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
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
) -> Difference:
    """How much better `second` is than `first`; the arguments are those of `evaluate_map50`, checked by it before.

    A class without a box in a draw does not count there, as in `evaluate_map50`; a draw without any box is drawn anew.
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
        counts = _draw(ours, generator)
        samples[draw] = ours.map50(counts) - theirs.map50(counts)
    lower, upper = np.quantile(samples, [1 - confidence, confidence])
    once = np.ones(ours.frames, np.int64)
    return Difference(ours.map50(once) - theirs.map50(once), float(lower), float(upper), samples)


class ResampledMap50:
    """One model's boxes, matched frame by frame, ready to be scored on any choice of the evaluated frames.

    `frames`: how many there are, in the order of their ids. `boxes`: int64 [C, F], boxes to find.
    """

    def __init__(self, ground_truth: CocoDocument, results: Sequence[CocoResult], classes: Sequence[str]) -> None:
        ids = sorted(image["id"] for image in evaluated_images(ground_truth))
        matched = _match(ground_truth, results, ids, len(classes))
        self.frames = len(ids)
        self.boxes = np.zeros((len(classes), len(ids)), np.int64)
        self._ranked: list[_Ranked] = []
        for label in range(len(classes)):
            rows = matched[label * len(ids) : (label + 1) * len(ids)]
            for position, row in enumerate(rows):
                self.boxes[label, position] = 0 if row is None else np.count_nonzero(row["gtIgnore"] == 0)
            self._ranked.append(_Ranked.of(rows))

    def map50(self, counts: NDArray[np.int64]) -> float:
        """mAP@0.5 on a set with each frame `counts` times, int64 [F]; NaN where these frames have no box to find."""
        boxes = self.boxes @ counts
        scored = [ranked.ap50(counts, int(found)) for ranked, found in zip(self._ranked, boxes, strict=True) if found]
        return float(np.mean(scored)) if scored else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """All detections of one class, best score first, cut behind the run of the last hit: what follows changes nothing.

    Detections of one frame with one score are a run: a frame drawn twice repeats the run, not each detection of it.
    """

    hit: NDArray[np.bool_]  # [D]
    start: NDArray[np.int64]  # [runs], into `hit`
    length: NDArray[np.int64]  # [runs]
    frame: NDArray[np.int64]  # [runs], positions

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any] | None]) -> "_Ranked":
        """From pycocotools' match of each frame."""
        parts = [(position, row) for position, row in enumerate(rows) if row is not None and len(row["dtScores"])]
        none: NDArray[np.float64] = np.empty(0)
        frame = np.concatenate([none, *(np.full(len(row["dtScores"]), position) for position, row in parts)])
        scores = np.concatenate([none, *(np.asarray(row["dtScores"]) for _, row in parts)])
        hit = np.concatenate([none, *(row["dtMatches"][0] > 0 for _, row in parts)]).astype(bool)
        ignored = np.concatenate([none, *(row["dtIgnore"][0] for _, row in parts)]).astype(bool)
        order = np.argsort(-scores, kind="stable")
        order = order[~ignored[order]]
        hit, frame, scores = hit[order], frame[order].astype(np.int64), scores[order]
        changes = (np.diff(frame) != 0) | (np.diff(scores) != 0)
        ends = np.append(np.flatnonzero(changes) + 1, len(hit))
        end = int(ends[ends > np.flatnonzero(hit)[-1]][0]) if hit.any() else 0
        start = np.concatenate([[0], ends[ends < end]]) if end else np.empty(0, np.int64)
        hit = hit[:end]
        return cls(hit, start, np.diff(np.append(start, end)), frame[start])

    def ap50(self, counts: NDArray[np.int64], boxes: int) -> float:
        """COCO's 101-point average precision, step by step as COCOeval.accumulate computes it."""
        hit = self.hit[self._drawn(counts)]
        if not len(hit):
            return 0.0
        hits = np.cumsum(hit, dtype=np.float64)
        precision = hits / (np.arange(1, len(hit) + 1) + np.spacing(1))
        best = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(hits / boxes, RECALLS, side="left")
        reached = places < len(best)
        return float(np.where(reached, best[np.minimum(places, len(best) - 1)], 0.0).mean())

    def _drawn(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices into `hit`, each run as often as its frame was drawn."""
        length = self.length * counts[self.frame]
        run = np.repeat(np.arange(len(length)), length)
        place = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
        drawn: NDArray[np.int64] = self.start[run] + place % self.length[run]
        return drawn


def _draw(scored: ResampledMap50, generator: np.random.Generator) -> NDArray[np.int64]:
    """How often each frame was drawn, int64 [F], with at least one box to find among them."""
    while True:
        drawn = generator.integers(scored.frames, size=scored.frames)
        counts: NDArray[np.int64] = np.bincount(drawn, minlength=scored.frames)
        if (scored.boxes @ counts).any():
            return counts


def _match(
    ground_truth: CocoDocument, results: Sequence[CocoResult], ids: Sequence[int], classes: int
) -> list[Mapping[str, Any] | None]:
    """pycocotools' matches at IoU 0.5, by class, then by frame; None where a frame has nothing of the class."""
    truth = [
        {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"iscrowd": int(is_ignored(box))}
        for box in ground_truth["annotations"]
    ]
    # The order of evaluate_map50: equal scores are ranked by position.
    found = sorted(results, key=lambda result: (result["image_id"], result["category_id"], result["bbox"]))
    evaluation = COCOeval(_coco(truth, ids, classes), _coco([dict(result) for result in found], ids, classes), "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.params.areaRng = [list(ALL_AREAS)]
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    matches: list[Mapping[str, Any] | None] = evaluation.evalImgs
    return matches


def _coco(boxes: Sequence[dict[str, Any]], ids: Sequence[int], classes: int) -> COCO:
    known = set(ids)
    kept = [box for box in boxes if box["image_id"] in known]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in ids],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
        "annotations": [
            {"iscrowd": 0, **box, "id": number, "area": box["bbox"][2] * box["bbox"][3]}
            for number, box in enumerate(kept, start=1)
        ],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
