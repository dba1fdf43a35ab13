"""What a detector finds: on one image, and on a batch of inputs before its boxes are carried back to the images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array")


@dataclass(frozen=True, eq=False)
class Detections:
    """All that a detector found on one image, best score first. `len()` counts them.

    Attributes:
        boxes: float32 [K, 4], xyxy in absolute pixels of the original image.
        scores: float32 [K] in 0..1.
        labels: int64 [K], 0-based places in `class_names`.
        class_names: the detector's classes; empty where they are kept elsewhere.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float | Mapping[str, float]) -> "Detections":
        """Those that score high enough.

        Args:
            threshold: the least score, 0..1, of every class, or of each by its name.

        Returns:
            The detections with a score of at least `threshold`, in the same order.

        Raises:
            KeyError: `threshold` lacks a class.
        """
        if isinstance(threshold, Mapping):
            limits = np.array([threshold[name] for name in self.class_names], np.float64)[self.labels]
        else:
            limits = np.full(len(self), threshold, np.float64)
        kept = self.scores >= limits
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept], self.class_names)


@dataclass(frozen=True, eq=False)
class DetectionBatch(Generic[Array]):
    """The K best detections of each of B inputs, best first: torch tensors or numpy arrays. Unpacks into the three.

    Attributes:
        boxes: float32 [B, K, 4], xyxy in pixels of the input, not clipped to it.
        scores: float32 [B, K] in 0..1.
        labels: int64 [B, K], 0-based.
    """

    boxes: Array
    scores: Array
    labels: Array

    def __iter__(self) -> Iterator[Array]:
        return iter((self.boxes, self.scores, self.labels))


NumpyBatch = DetectionBatch[NDArray[Any]]
