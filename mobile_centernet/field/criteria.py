"""Why a frame is worth a label, each reason with its weight in 0..1. It is told frame by frame, in order."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.detections import Detections
from mobile_centernet.field.view import BITS, FrameView, distances

UNCERTAIN, FLICKER, RARE, NOVEL, CONTROL = "uncertain", "flicker", "rare", "novel", "control"

_TRUST: Mapping[str, float] = {UNCERTAIN: 0.6, FLICKER: 0.8, RARE: 0.9, NOVEL: 0.5}
"""How much each reason says: a class that is hardly seen more than a view that is only new."""

_NEIGHBOURS_S = 0.5
"""Seconds between two frames up to which objects cannot come or go but at the border."""

_BORDER = 0.03
"""Of the frame's sides: nearer than that objects come and go."""

_FRAMES = 100_000
"""The classes' shares are those of about so many last frames."""


class Criteria:
    """Judges frames.

    Args:
        margin: a score so near its threshold, above or below, is uncertain; 0..1.
        rare_share: a class that fewer than this share of all frames show is rare.
        near_bits: a view that differs from one taken before by fewer bits of 256 is the same one.
        novel_bits: one that differs from all of them by more is new.
        memory: so many views are remembered, the newest.
    """

    def __init__(
        self, *, margin: float, rare_share: float, near_bits: int, novel_bits: int, memory: int = 1024
    ) -> None:
        self._margin, self._rare_share = margin, rare_share
        self._near_bits, self._novel_bits = near_bits, novel_bits
        self._views = np.zeros((memory, BITS // 8), np.uint8)
        self._taken = 0
        self._frames = 0
        self._shown: Counter[int] = Counter()
        self._classes: tuple[str, ...] = ()
        self._last: tuple[float, tuple[int, int], Detections, Detections] | None = None

    def judge(
        self, view: FrameView, size: tuple[int, int], detections: Detections, thresholds: Mapping[str, float], at: float
    ) -> dict[str, float]:
        """The reasons for a frame, strongest first; none where nothing is special, or its view was taken before.

        Args:
            view: of the frame.
            size: its (height, width).
            detections: all that was found on it, in its pixels.
            thresholds: the least score worth showing, by class.
            at: seconds since 1970; a clock that is set back only makes neighbours strangers.
        """
        if detections.class_names != self._classes:  # another release
            self._classes, self._last = detections.class_names, None
            self._shown, self._frames = Counter(), 0
        seen = detections.above(thresholds)
        reasons: dict[str, float] = {}
        limits = np.array([thresholds[name] for name in self._classes], np.float64)[detections.labels]
        doubts = np.maximum(1 - np.abs(detections.scores - limits) / self._margin, 0) if self._margin else limits * 0
        reasons[UNCERTAIN] = float(min(1.0, doubts.sum() / 2))

        sure = detections.above({name: score + self._margin for name, score in thresholds.items()})
        if self._last and 0 < at - self._last[0] <= _NEIGHBOURS_S and self._last[1] == size:
            lost = _without(self._last[2], seen, size) + _without(sure, self._last[3], size)
            reasons[FLICKER] = lost / (lost + 1)
        self._last = (at, size, sure, seen)

        self._frames += 1
        present = set(seen.labels.tolist())
        self._shown.update(present)
        if self._frames * self._rare_share >= 1:
            shares = [self._shown[label] / self._frames for label in present]
            reasons[RARE] = max((1 - share / self._rare_share for share in shares), default=0.0)
        if self._frames >= _FRAMES:
            self._frames //= 2
            self._shown = Counter({label: count // 2 for label, count in self._shown.items()})

        known = self._views[: self._taken]
        nearest = int(distances(view.bits, known).min()) if len(known) else BITS // 2
        if nearest < self._near_bits:
            return {}
        reasons[NOVEL] = min(1.0, (nearest - self._novel_bits) / max(BITS // 2 - self._novel_bits, 1))
        found = [(name, value) for name, value in reasons.items() if value > 0]
        return dict(sorted(found, key=lambda each: -_TRUST[each[0]] * each[1]))

    def take(self, view: FrameView) -> None:
        """Remember the view of a frame that is kept."""
        if self._taken == len(self._views):
            self._views = np.roll(self._views, -1, axis=0)
        self._taken = min(self._taken + 1, len(self._views))
        self._views[self._taken - 1] = view.bits


def usefulness(reasons: Mapping[str, float]) -> float:
    """All reasons together, 0..1: each adds to the others, none makes up for none."""
    return float(1 - np.prod([1 - _TRUST[name] * value for name, value in reasons.items()]))


def _without(ours: Detections, theirs: Detections, size: tuple[int, int]) -> int:
    """How many of `ours`, border apart, have none of their class among `theirs` within a box's width and height."""
    if not len(ours):
        return 0
    height, width = size
    inside = (ours.boxes > np.array([width, height, 0, 0], np.float32) * _BORDER)[:, :2].all(axis=1)
    inside &= (ours.boxes[:, 2:] < np.array([width, height], np.float32) * (1 - _BORDER)).all(axis=1)
    apart: NDArray[np.float32] = np.abs(_centres(ours)[:, None] - _centres(theirs))  # [M, N, 2]
    near = (apart <= (ours.boxes[:, 2:] - ours.boxes[:, :2])[:, None]).all(axis=2)
    near &= ours.labels[:, None] == theirs.labels
    return int((inside & ~near.any(axis=1)).sum())


def _centres(detections: Detections) -> NDArray[np.float32]:
    centres: NDArray[np.float32] = (detections.boxes[:, :2] + detections.boxes[:, 2:]) * np.float32(0.5)
    return centres
