"""One hop from torch to a device: an exported file or engine beside the model it came from, and whether it passes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.detections import NumpyBatch
from mobile_centernet.export.accuracy import Accuracy, measure
from mobile_centernet.export.parity import Limits, Parity, compare_found, exceeded
from mobile_centernet.images import to_input
from mobile_centernet.inference.detector import Runner


@dataclass(frozen=True, eq=False)
class Reference:
    """What every hop is compared with: torch on `frames`, detection by detection (`found`) on the first few."""

    frames: PreparedSet
    inputs: Sequence[NDArray[np.float32]]
    found: Sequence[NumpyBatch]
    input_size: tuple[int, int]
    accuracy: Accuracy

    @classmethod
    def of(cls, detect: Runner, frames: PreparedSet, parity_frames: int, input_size: tuple[int, int]) -> "Reference":
        """Raises DataError where `frames` hold no box to find."""
        inputs = [to_input(frames.image(i), input_size) for i in range(min(parity_frames, len(frames)))]
        found = [detect(image) for image in inputs]
        return cls(frames, inputs, found, input_size, measure(frames, detect, input_size))


@dataclass(frozen=True, eq=False)
class Hop:
    """What came of one. `objections` says what is past its limit, one sentence each; with none it passes."""

    parity: Parity
    accuracy: Accuracy
    map50_drop: float
    objections: tuple[str, ...]
    limits: Limits

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": not self.objections,
            "objections": list(self.objections),
            "map50": self.accuracy.map50,
            "map50_drop": self.map50_drop,
            "ap50": dict(self.accuracy.ap50),
            "limits": asdict(self.limits),
            **asdict(self.parity),
        }


def compare_with(reference: Reference, detect: Runner, limits: Limits) -> Hop:
    """Measure `detect`, which takes one picture at a time, on the reference's frames."""
    parity = compare_found(reference.found, detect, reference.inputs)
    accuracy = measure(reference.frames, detect, reference.input_size)
    before = reference.accuracy
    objections = exceeded(parity, before.ap50, accuracy.ap50, limits)
    return Hop(parity, accuracy, before.map50 - accuracy.map50, tuple(objections), limits)
