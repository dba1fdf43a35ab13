"""Does an exported file or engine still detect what its model detects? As mAP@0.5, and detection by detection."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import box_iou
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.detections import NumpyBatch
from mobile_centernet.errors import ModelError
from mobile_centernet.export.accuracy import Accuracy, measure
from mobile_centernet.images import to_input
from mobile_centernet.inference.detector import Runner
from mobile_centernet.models.centernet import CenterNet

SAME_PEAK = float(CenterNet.stride)
"""Two detections of one class are the same peak when their centres are no further apart, in input pixels.

Peaks of one class lie at least two cells apart. Not IoU: an empty box has none, not even with itself.
"""

CONFIDENT = 0.3
"""From this score on a detection is one that a user would look at; the other of the K are noise of the network."""


@dataclass(frozen=True)
class TensorDifference:
    """How far one output tensor is from the reference, over all matched detections, in `unit`."""

    tensor: str
    unit: str
    max_abs: float
    mean_abs: float


@dataclass(frozen=True)
class Confident:
    """The reference's detections with a score of at least `threshold`: how many, how many of them found a partner,
    and how well these agree: overlap of the two boxes, 0..1, and difference of the scores. None where there are none.
    """

    threshold: float
    detections: int
    matched: int
    mean_iou: float | None
    min_iou: float | None
    mean_score_difference: float | None
    max_score_difference: float | None


@dataclass(frozen=True)
class Parity:
    """Detections of a candidate beside the reference's on the same images; `dataclasses.asdict` makes it JSON.

    Rows are matched by class and place, because near-tied scores may swap ranks.

    images, detections: how many were compared (K detections per image)
    labels_agreement:   the part of all detections, 0..1, that found a partner of the same class
    worst_unmatched:    how far the best detection without a partner scores above the other side's last one; about
                        0 when the only ones are at the cut-off of the top K, where it is chance who makes it
    tensors:            boxes and scores of the matched ones
    confident:          the same for the detections that matter to a user
    """

    images: int
    detections: int
    labels_agreement: float
    worst_unmatched: float
    tensors: tuple[TensorDifference, ...]
    confident: Confident


@dataclass(frozen=True)
class ParityLimits:
    """How far a file may be from torch: mAP@0.5 lost, 0..1; a score, 0..1; a coordinate, input pixels. None: any."""

    map50_drop: float
    scores: float | None = None
    boxes: float | None = None


@dataclass(frozen=True, eq=False)
class Reference:
    """What every export is compared with: torch on `frames`, detection by detection (`found`) on the first few."""

    frames: PreparedSet
    inputs: Sequence[NDArray[np.float32]]
    found: Sequence[NumpyBatch]
    input_size: tuple[int, int]
    accuracy: Accuracy

    @classmethod
    def of(cls, detect: Runner, frames: PreparedSet, parity_frames: int, input_size: tuple[int, int]) -> "Reference":
        """Run the reference.

        Args:
            detect: takes one image at a time.
            frames: mAP@0.5 is measured on all of them.
            parity_frames: on how many, the first ones, detections are compared one by one.
            input_size: (height, width).

        Raises:
            DataError: `frames` hold no box to find.
        """
        inputs = [to_input(frames.image(i), input_size) for i in range(min(parity_frames, len(frames)))]
        found = [detect(image) for image in inputs]
        return cls(frames, inputs, found, input_size, measure(frames, detect, input_size))


@dataclass(frozen=True, eq=False)
class ParityReport:
    """One comparison: detections beside the reference's (`parity`), and mAP@0.5 of both, on the same frames."""

    parity: Parity
    reference: Accuracy
    accuracy: Accuracy
    limits: ParityLimits

    @property
    def map50_drop(self) -> float:
        """mAP@0.5 lost, 0..1; negative where some was won."""
        return self.reference.map50 - self.accuracy.map50

    @property
    def violations(self) -> list[str]:
        """What is past its limit, one sentence each; with none it passes."""
        worst = {row.tensor: row.max_abs for row in self.parity.tensors}
        sentences = [
            f"{tensor} differ by up to {worst[tensor]:.3g} (limit {limit:g})"
            for tensor, limit in (("scores", self.limits.scores), ("boxes", self.limits.boxes))
            if limit is not None and worst[tensor] > limit
        ]
        reference, found = self.reference.ap50, self.accuracy.ap50
        drops = {
            name: before - after
            for name, before in reference.items()
            if before is not None and (after := found[name]) is not None
        }
        drop = sum(drops.values()) / len(drops) if drops else 0.0
        if drop > self.limits.map50_drop:
            most = max(drops, key=lambda name: drops[name])
            sentences.append(
                f"mAP@0.5 falls by {100 * drop:.2f} points (limit {100 * self.limits.map50_drop:g}); "
                f"class {most} fell most, from AP {reference[most]:.3f} to {found[most]:.3f}"
            )
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """As parity.json holds it."""
        return {
            "passed": not self.violations,
            "objections": self.violations,
            "map50": self.accuracy.map50,
            "map50_drop": self.map50_drop,
            "ap50": dict(self.accuracy.ap50),
            "limits": asdict(self.limits),
            **asdict(self.parity),
        }


def compare_found(reference: Sequence[NumpyBatch], candidate: Runner, inputs: Sequence[NDArray[np.float32]]) -> Parity:
    """Match the candidate's detections with the reference's.

    Args:
        reference: what the reference found in each of `inputs`.
        candidate: run over them here, one by one.
        inputs: [1, 3, h, w] each, RGB 0..255.

    Raises:
        ModelError: there are no inputs.
    """
    if not inputs:
        raise ModelError("parity needs at least one image, found none")
    pairs = [_Pairs.of(found, candidate(image)) for found, image in zip(reference, inputs, strict=True)]
    detections = sum(pair.detections for pair in pairs)
    matched = sum(len(pair.scores) for pair in pairs)

    confident = Confident(CONFIDENT, sum(pair.confident_detections for pair in pairs), 0, None, None, None, None)
    iou = np.concatenate([pair.iou[pair.confident] for pair in pairs])
    scores = np.concatenate([pair.scores[pair.confident] for pair in pairs])
    if len(iou):
        figures = (float(figure) for figure in (iou.mean(), iou.min(), scores.mean(), scores.max()))
        confident = Confident(CONFIDENT, confident.detections, len(iou), *figures)
    return Parity(
        images=len(inputs),
        detections=detections,
        labels_agreement=matched / detections,
        worst_unmatched=max(pair.worst_unmatched for pair in pairs),
        tensors=(
            _difference("boxes", "input px", np.concatenate([pair.boxes for pair in pairs])),
            _difference("scores", "1", np.concatenate([pair.scores for pair in pairs])),
        ),
        confident=confident,
    )


@dataclass(frozen=True)
class _Pairs:
    """One image's matched detections: absolute differences of boxes [M, 4] and scores [M], overlap [M], and which
    of them are `confident` [M]; `confident_detections` counts those without a partner, too."""

    detections: int
    confident_detections: int
    confident: NDArray[np.bool_]
    iou: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    worst_unmatched: float

    @classmethod
    def of(cls, reference: NumpyBatch, candidate: NumpyBatch) -> "_Pairs":
        (boxes, scores, labels), (other_boxes, other_scores, other_labels) = _rows(reference), _rows(candidate)
        # Partners are of the same class, each the other's nearest centre, at most SAME_PEAK apart.
        gap = _centres(boxes)[:, None] - _centres(other_boxes)[None]
        distance = np.hypot(gap[..., 0], gap[..., 1])
        distance[labels[:, None] != other_labels[None]] = np.inf
        nearest = distance.argmin(axis=1)
        every = np.arange(len(distance))
        mutual = distance.argmin(axis=0)[nearest] == every
        i = np.flatnonzero(mutual & (distance[every, nearest] <= SAME_PEAK))
        j = nearest[i]

        ours, theirs = boxes[i], other_boxes[j]
        return cls(
            detections=len(scores),
            confident_detections=int((scores >= CONFIDENT).sum()),
            confident=scores[i] >= CONFIDENT,
            iou=box_iou(ours, theirs),
            boxes=np.abs(ours - theirs),
            scores=np.abs(scores[i] - other_scores[j]),
            worst_unmatched=max(_surplus(scores, i, other_scores), _surplus(other_scores, j, scores)),
        )


def _rows(found: NumpyBatch) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    boxes, scores, labels = found
    return boxes[0].astype(np.float64), scores[0].astype(np.float64), labels[0]


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _surplus(scores: NDArray[np.float64], matched: NDArray[np.intp], others: NDArray[np.float64]) -> float:
    alone = np.delete(scores, matched)
    return max(0.0, float(alone.max() - others.min())) if len(alone) else 0.0


def _difference(tensor: str, unit: str, gaps: NDArray[np.float64]) -> TensorDifference:
    """NaN-free: with nothing matched there is no difference to tell, and `labels_agreement` is 0."""
    if not gaps.size:
        return TensorDifference(tensor, unit, 0.0, 0.0)
    return TensorDifference(tensor, unit, float(gaps.max()), float(gaps.mean()))
