"""mAP@0.5 of an exported graph on frames of a prepared set, before any device sees it."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.coco import Document
from mobile_centernet.data.store.prepared import PreparedSet, StoredFrame
from mobile_centernet.evaluation.coco_eval import evaluate_map50, restricted
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.inference.detector import Runner
from mobile_centernet.inference.onnx import Detector


@dataclass(frozen=True, eq=False)
class Accuracy:
    """mAP@0.5, AP@0.5 by class (None without ground truth), and all scores [N], frame by frame, best first.

    `frames`: how many were scored: those about which something is known.
    """

    frames: int
    map50: float
    ap50: Mapping[str, float | None]
    scores: NDArray[np.float64]

    def score_difference(self, other: "Accuracy") -> float:
        """Mean absolute difference of the scores, rank by rank; both are of the same frames and K."""
        return float(np.abs(self.scores - other.scores).mean())


class SomeFrames(PreparedSet):
    """A part of a split: `count` frames about which something is known, spread evenly over it."""

    _chosen: list[int] | None = None  # all of them, until the split is read

    def __init__(self, root: Path, split: str, count: int) -> None:
        super().__init__(root, split)
        known = [i for i in range(len(self)) if self.frame(i).state is not FrameState.UNLABELLED]
        picked = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
        self._chosen = [known[i] for i in picked.tolist()]

    def __len__(self) -> int:
        return super().__len__() if self._chosen is None else len(self._chosen)

    def image(self, index: int) -> NDArray[np.uint8]:
        return super().image(self._row(index))

    def frame(self, index: int) -> StoredFrame:
        return super().frame(self._row(index))

    @property
    def coco(self) -> Document:
        """The COCO document of these frames alone."""
        document = super().coco
        if self._chosen is None:
            return document
        return restricted(document, [document["images"][i] for i in self._chosen])

    def _row(self, index: int) -> int:
        return index if self._chosen is None else self._chosen[index]


def measure(frames: PreparedSet, detect: Runner, input_size: tuple[int, int]) -> Accuracy:
    """Run a detector over all frames, one by one.

    Args:
        frames: all are looked at, those about which something is known are scored.
        detect: takes one input at a time.
        input_size: (height, width).

    Raises:
        DataError: no box at all has to be found.
    """
    results = results_for(frames, detect, input_size, batch_size=1)
    measured = evaluate_map50(frames.coco, results, frames.classes)
    return Accuracy(
        measured.images, measured.map50, measured.ap50, np.array([row["score"] for row in results], np.float64)
    )


@contextmanager
def running(graph: ModelProto) -> Iterator[Detector]:
    """An ONNX Runtime detector for a graph that is in no file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.onnx")
        path.write_bytes(graph.SerializeToString())
        yield Detector(path, provider="cpu")
