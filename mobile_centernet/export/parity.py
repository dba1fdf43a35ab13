"""Does an exported file still say what its model says? Measured detection by detection, and as mAP@0.5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import box_iou
from mobile_centernet.detections import NumpyBatch
from mobile_centernet.errors import ModelError
from mobile_centernet.images import to_input
from mobile_centernet.inference.detector import Runner
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.models.centernet import CenterNet

SAME_PEAK = float(CenterNet.stride)
"""Two detections of one class are the same peak when their centres are no further apart, in input pixels.

Peaks of one class lie at least two cells apart. Not IoU: an empty box has none, not even with itself.
"""

CONFIDENT = 0.3
"""From this score on a detection is one that a user would look at; the other of the K are noise of the network."""


@dataclass(frozen=True)
class Difference:
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
    """The table for one hop, such as torch → ONNX fp32; `dataclasses.asdict` makes it JSON.

    Rows are matched by class and place, because near-tied scores may swap ranks.

    images, detections: how many were compared (K detections an image)
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
    tensors: tuple[Difference, ...]
    confident: Confident

    def worst(self, tensor: str) -> float:
        """The largest difference of `tensor`."""
        return next(row.max_abs for row in self.tensors if row.tensor == tensor)


@dataclass(frozen=True)
class Limits:
    """How far a file may be from torch: mAP@0.5 lost, 0..1; a score, 0..1; a coordinate, input pixels. None: any."""

    map50_drop: float
    scores: float | None = None
    boxes: float | None = None


def exceeded(
    parity: Parity, reference: Mapping[str, float | None], found: Mapping[str, float | None], limits: Limits
) -> list[str]:
    """What is past its limit, one sentence each. `reference` and `found` are AP@0.5 by class, None without truth."""
    sentences = [
        f"{tensor} differ by up to {parity.worst(tensor):.3g} (limit {limit:g})"
        for tensor, limit in (("scores", limits.scores), ("boxes", limits.boxes))
        if limit is not None and parity.worst(tensor) > limit
    ]
    drops = {
        name: before - after
        for name, before in reference.items()
        if before is not None and (after := found[name]) is not None
    }
    drop = sum(drops.values()) / len(drops) if drops else 0.0
    if drop > limits.map50_drop:
        worst = max(drops, key=lambda name: drops[name])
        sentences.append(
            f"mAP@0.5 falls by {100 * drop:.2f} points (limit {100 * limits.map50_drop:g}); class {worst} fell most, "
            f"from AP {reference[worst]:.3f} to {found[worst]:.3f}"
        )
    return sentences


def compare(
    model: CenterNet, onnx_path: Path, images: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]
) -> Parity:
    """Run the PyTorch model (in eval mode) and its exported file over RGB pictures of any size.

    Raises ModelError when there are no pictures or the file was made for another `input_size` (height, width).
    """
    exported = Detector(onnx_path)
    if exported.input_size != input_size:
        raise ModelError(f"{onnx_path}: expected input size {input_size}, found {exported.input_size}")
    return compare_detectors(TorchRunner(model), exported.run, images, input_size)


def compare_detectors(
    reference: Runner, candidate: Runner, images: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]
) -> Parity:
    """Any hop: both take [1, 3, h, w], RGB 0..255, and give boxes in input pixels, scores and labels."""
    inputs = [to_input(image, input_size) for image in images]
    return compare_found([reference(image) for image in inputs], candidate, inputs)


def compare_found(reference: Sequence[NumpyBatch], candidate: Runner, inputs: Sequence[NDArray[np.float32]]) -> Parity:
    """The same for a reference that has been run over `inputs`. Raises ModelError when there are none."""
    if not inputs:
        raise ModelError("parity needs at least one picture, found none")
    pairs = [_Pairs.of(found, candidate(image)) for found, image in zip(reference, inputs, strict=True)]
    detections = sum(pair.detections for pair in pairs)
    matched = sum(len(pair.scores) for pair in pairs)
    return Parity(
        images=len(inputs),
        detections=detections,
        labels_agreement=matched / detections,
        worst_unmatched=max(pair.worst_unmatched for pair in pairs),
        tensors=(
            _difference("boxes", "input px", np.concatenate([pair.boxes for pair in pairs])),
            _difference("scores", "1", np.concatenate([pair.scores for pair in pairs])),
        ),
        confident=_confident(pairs),
    )


@dataclass(frozen=True)
class _Pairs:
    """One picture's matched detections: absolute differences of boxes [M, 4] and scores [M], overlap [M], and which
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
        ours, theirs = _one_image(reference), _one_image(candidate)
        i, j = _match(ours, theirs)
        return cls(
            detections=len(ours[1]),
            confident_detections=int((ours[1] >= CONFIDENT).sum()),
            confident=ours[1][i] >= CONFIDENT,
            iou=box_iou(ours[0][i], theirs[0][j]),
            boxes=np.abs(ours[0][i] - theirs[0][j]),
            scores=np.abs(ours[1][i] - theirs[1][j]),
            worst_unmatched=max(_surplus(ours[1], i, theirs[1]), _surplus(theirs[1], j, ours[1])),
        )


_Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def _one_image(found: NumpyBatch) -> _Rows:
    boxes, scores, labels = found
    return boxes[0].astype(np.float64), scores[0].astype(np.float64), labels[0]


def _match(ours: _Rows, theirs: _Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of partners: same class, each the other's nearest centre, at most SAME_PEAK apart."""
    gap = _centres(ours[0])[:, None] - _centres(theirs[0])[None]
    distance = np.hypot(gap[..., 0], gap[..., 1])
    distance[ours[2][:, None] != theirs[2][None]] = np.inf
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(distance))
    mutual = distance.argmin(axis=0)[nearest] == rows
    close = distance[rows, nearest] <= SAME_PEAK
    i = np.flatnonzero(mutual & close)
    return i, nearest[i]


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _surplus(scores: NDArray[np.float64], matched: NDArray[np.intp], others: NDArray[np.float64]) -> float:
    alone = np.delete(scores, matched)
    return max(0.0, float(alone.max() - others.min())) if len(alone) else 0.0


def _difference(tensor: str, unit: str, gaps: NDArray[np.float64]) -> Difference:
    """NaN-free: with nothing matched there is no difference to tell, and `labels_agreement` is 0."""
    if not gaps.size:
        return Difference(tensor, unit, 0.0, 0.0)
    return Difference(tensor, unit, float(gaps.max()), float(gaps.mean()))


def _confident(pairs: Sequence[_Pairs]) -> Confident:
    iou = np.concatenate([pair.iou[pair.confident] for pair in pairs])
    scores = np.concatenate([pair.scores[pair.confident] for pair in pairs])
    detections = sum(pair.confident_detections for pair in pairs)
    if not len(iou):
        return Confident(CONFIDENT, detections, 0, None, None, None, None)
    figures = (iou.mean(), iou.min(), scores.mean(), scores.max())
    return Confident(CONFIDENT, detections, len(iou), *(float(figure) for figure in figures))
