"""Against the long tail of traffic data: class weights (the paper's equation 4), frames that are drawn more often."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def class_weights(counts: Sequence[int], w_max: float = 10.0, gamma: float = 0.75) -> list[float]:
    """Weights of the category-balanced focal loss, from the number of boxes of each class in the training frames.

    w_c = (w_max - 1) / (r_max^gamma - 1) * (r_c^gamma - 1) + 1, with r_c = max(counts) / counts[c]: the most frequent
    class weighs 1, the rarest `w_max`. Equal counts weigh 1 each. A class without boxes weighs 1, with a warning.
    """
    if any(count < 0 for count in counts):
        raise ValueError(f"expected counts from 0, found {list(counts)}")
    if missing := [label for label, count in enumerate(counts) if count == 0]:
        warnings.warn(f"no boxes of class number {missing} in the training frames: weight 1", stacklevel=2)
    most = max(counts, default=0)
    rarity = [(most / count) ** gamma - 1 if count else 0.0 for count in counts]  # r_c^gamma - 1
    rarest = max(rarity, default=0.0)
    return [(w_max - 1) * excess / rarest + 1 if rarest else 1.0 for excess in rarity]


def repeat_factors(labels: Sequence[NDArray[np.int64]], classes: int, threshold: float) -> NDArray[np.float64]:
    """How many times as often as a frame without rare classes each frame should be drawn, [frames], from 1.

    `labels` holds each frame's labels [N], 0-based. A class in a share f of the frames has the factor
    max(1, sqrt(threshold / f)), a frame that of its rarest class; so a class in fewer than `threshold` (0..1) of the
    frames is rare, and 0 means that none is. Source: LVIS (Gupta, Dollár and Girshick, CVPR 2019), repeat factor
    sampling. Raises ValueError where `threshold` is not in 0..1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a share of the frames, 0..1, found {threshold}")
    frames_with = np.zeros(classes, np.int64)
    for own in labels:
        frames_with[np.unique(own)] += 1
    shares = np.maximum(frames_with, 1) / max(1, len(labels))  # a class in no frame multiplies none
    of_class = np.maximum(1.0, np.sqrt(threshold / shares))
    return np.array([of_class[own].max(initial=1.0) for own in labels], np.float64)


def draw(factors: NDArray[np.float64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As many frames as there are factors, in random order: their numbers, and which copy each one is, from 0.

    The mean number of times that a frame is drawn is its share of all factors times their number, and every draw is
    that rounded up or down (systematic sampling). With equal factors every frame is drawn once.
    """
    count = len(factors)
    order = rng.permutation(count)
    ends = np.cumsum(factors[order])
    points = (np.arange(count) + rng.random()) * (ends[-1] / count)
    drawn = np.minimum(np.searchsorted(ends, points, side="right"), count - 1)  # rising: copies lie side by side
    copies = np.arange(count) - np.searchsorted(drawn, drawn)
    mixed = rng.permutation(count)
    return order[drawn[mixed]], copies[mixed]


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One class in the training frames: the share of all boxes that are its, and of all frames that show it, 0..1.

    `sampled_*` is the same as an epoch sees it on average.
    """

    boxes: float
    sampled_boxes: float
    frames: float
    sampled_frames: float


def class_shares(
    labels: Sequence[NDArray[np.int64]], classes: int, factors: NDArray[np.float64]
) -> tuple[ClassShare, ...]:
    """What drawing frames by `factors` [frames] does to each class, given each frame's labels [N]."""
    counts = np.array([np.bincount(own, minlength=classes) for own in labels]).reshape(-1, classes)
    rows = []
    for weights in (np.ones(len(counts)), factors):
        boxes, frames = weights @ counts, weights @ (counts > 0)
        rows += [boxes / max(1.0, boxes.sum()), frames / max(1.0, weights.sum())]
    return tuple(ClassShare(*map(float, column)) for column in zip(rows[0], rows[2], rows[1], rows[3], strict=True))
