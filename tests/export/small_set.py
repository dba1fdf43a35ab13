"""A prepared set of a few small images, made by the project's own preparation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare

CLASSES = ("car", "bus")
PICTURE = (64, 96)

# What each frame shows: a class, nothing for sure (""), or nobody knows what (None).
LABELS: Mapping[str, Sequence[str | None]] = {
    "train": ["car", "car", None, "car", "car", "", "car", "bus", "car", "car"],
    "val": ["car", "bus", None, "car"],
    "test": ["car", "bus", "", "car", None, "bus"],
}


def small_set(
    folder: Path, labels: Mapping[str, Sequence[str | None]] = LABELS, classes: Sequence[str] = CLASSES
) -> Path:
    """One bright rectangle a frame; returns the root of the prepared set."""
    rng = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    frames = [
        _frame(raw, f"{split}-{i}", split, label, rng) for split, row in labels.items() for i, label in enumerate(row)
    ]
    class_map = ClassMap(tuple(classes), {name: name for name in classes})
    out = folder / "prepared"
    prepare(RawSet(raw, tuple(frames), ()), frames, class_map, out, max_size=PICTURE, workers=1, progress=False)
    return out


def _frame(raw: Path, name: str, split: str, label: str | None, rng: np.random.Generator) -> Frame:
    image = rng.integers(0, 80, (*PICTURE, 3)).astype(np.uint8)
    x, y = int(rng.integers(4, 40)), int(rng.integers(4, 24))
    cv2.rectangle(image, (x, y), (x + 39, y + 29), (230, 230, 230), -1)
    path = raw / f"{name}.jpg"
    cv2.imwrite(str(path), image)
    state = {None: FrameState.UNLABELLED, "": FrameState.EMPTY}.get(label, FrameState.LABELLED)
    boxes = (Box(label, (x, y, x + 40, y + 30)),) if label else ()
    return Frame(path, name, name, split, state, boxes)
