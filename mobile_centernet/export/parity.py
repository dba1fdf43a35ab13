"""Does an exported file still say what its model says? Measured detection by detection, on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.edge.runtime import Detector
from mobile_centernet.errors import ModelError
from mobile_centernet.evaluation.detect import Detect, torch_detector
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.preprocessing import to_input

SAME_PEAK = float(CenterNet.stride)
"""Two detections of one class are the same peak when their centres are no further apart, in input pixels.

Peaks of one class lie at least two cells apart. Not IoU: an empty box has none, not even with itself.
"""


@dataclass(frozen=True)
class Difference:
    """How far one output tensor is from the reference, over all matched detections, in `unit`."""

    tensor: str
    unit: str
    max_abs: float
    mean_abs: float


@dataclass(frozen=True)
class Parity:
    """The table for one hop, such as torch → ONNX fp32; `dataclasses.asdict` makes it JSON.

    Rows are matched by class and place, because near-tied scores may swap ranks.

    images, detections: how many were compared (K detections an image)
    labels_agreement:   the part of all detections, 0..1, that found a partner of the same class
    worst_unmatched:    how far the best detection without a partner scores above the other side's last one; about
                        0 when the only ones are at the cut-off of the top K, where it is chance who makes it
    tensors:            boxes and scores of the matched ones
    """

    images: int
    detections: int
    labels_agreement: float
    worst_unmatched: float
    tensors: tuple[Difference, ...]


def compare(
    model: CenterNet, onnx_path: Path, images: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]
) -> Parity:
    """Run the PyTorch model (in eval mode) and its exported file over RGB pictures of any size.

    Raises ModelError when there are no pictures or the file was made for another `input_size` (height, width).
    """
    exported = Detector(onnx_path)
    if exported.input_size != input_size:
        raise ModelError(f"{onnx_path}: expected input size {input_size}, found {exported.input_size}")
    return compare_detectors(torch_detector(model), exported.run, images, input_size)


def compare_detectors(
    reference: Detect, candidate: Detect, images: Sequence[NDArray[np.uint8]], input_size: tuple[int, int]
) -> Parity:
    """Any hop: both take [1, 3, h, w], RGB 0..255, and give boxes in input pixels, scores and labels."""
    if not images:
        raise ModelError("parity needs at least one picture, found none")
    inputs = [to_input(image, input_size) for image in images]
    pairs = [_Pairs.of(reference(image), candidate(image)) for image in inputs]
    detections = sum(pair.detections for pair in pairs)
    matched = sum(len(pair.scores) for pair in pairs)
    return Parity(
        images=len(images),
        detections=detections,
        labels_agreement=matched / detections,
        worst_unmatched=max(pair.worst_unmatched for pair in pairs),
        tensors=(
            _difference("boxes", "input px", np.concatenate([pair.boxes for pair in pairs])),
            _difference("scores", "1", np.concatenate([pair.scores for pair in pairs])),
        ),
    )


Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class _Pairs:
    """One picture's matched detections: absolute differences of boxes [M, 4] and scores [M]."""

    detections: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    worst_unmatched: float

    @classmethod
    def of(cls, reference: Found, candidate: Found) -> "_Pairs":
        ours, theirs = _one_image(reference), _one_image(candidate)
        i, j = _match(ours, theirs)
        return cls(
            detections=len(ours[1]),
            boxes=np.abs(ours[0][i] - theirs[0][j]),
            scores=np.abs(ours[1][i] - theirs[1][j]),
            worst_unmatched=max(_surplus(ours[1], i, theirs[1]), _surplus(theirs[1], j, ours[1])),
        )


_Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def _one_image(found: Found) -> _Rows:
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
