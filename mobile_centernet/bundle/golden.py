"""Golden images: what a release found on them when it was built, and whether a device finds the same.

Detections are compared by class and place, not by rank, because near-tied scores may swap ranks on another device.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.manifest import Manifest, Tolerance
from mobile_centernet.detections import Detections
from mobile_centernet.images import read_image

COMPARED = 20
"""The best so many detections of an image must come back: below them, chance decides who is among the best K."""

Detect = Callable[[NDArray[np.uint8]], Detections]
"""A detector of one image, RGB uint8 [H, W, 3], such as `Detector.detect`."""


@dataclass(frozen=True)
class Agreement:
    """The largest differences on all golden images: `score` absolute, `box` in pixels of the image."""

    score: float
    box: float


def self_test(folder: Path, manifest: Manifest, precision: str, detect: Detect) -> Agreement:
    """Run the golden images of a release.

    Args:
        folder: of the release, whose files were verified.
        manifest: its manifest.
        precision: which variant.
        detect: the detector under test.

    Raises:
        BundleError: the device finds something else than the release did when it was built; it names the image.
    """
    variant = manifest.variants[precision]
    golden = from_json((folder / variant.golden).read_bytes(), variant.golden)
    worst = Agreement(0.0, 0.0)
    for name in manifest.pictures:
        if name not in golden:
            raise BundleError(f"{variant.golden}: expected detections for {name}, found none")
        agreement = compare(golden[name], detect(read_image(folder / name)), variant.tolerance, f"{precision}: {name}")
        worst = Agreement(max(worst.score, agreement.score), max(worst.box, agreement.box))
    return worst


def compare(golden: Detections, found: Detections, tolerance: Tolerance, where: str) -> Agreement:
    """The golden COMPARED best must be there, and nothing else may be as good. Raises BundleError, naming `where`."""
    count = min(COMPARED, len(golden))
    if not count:
        raise BundleError(f"{where}: expected golden detections, found none")
    score, box = _nearest(golden, found, tolerance)
    missing = np.flatnonzero(np.isinf(score[:count]))
    if missing.size:
        limits = f"{tolerance.box} px and {tolerance.score} in score"
        raise BundleError(f"{where}: expected {_describe(golden, missing[0])} within {limits}, found none")
    is_as_good = found.scores > golden.scores[count - 1] + tolerance.score
    extra = np.flatnonzero(np.isinf(_nearest(found, golden, tolerance)[0]) & is_as_good)
    if extra.size:
        raise BundleError(f"{where}: expected nothing but the golden detections, found {_describe(found, extra[0])}")
    return Agreement(float(score[:count].max()), float(box[:count].max()))


def to_json(golden: Mapping[str, Detections]) -> bytes:
    """By name of the image. Raises ValueError for scores or boxes that are no finite numbers."""
    document = {
        name: {"boxes": each.boxes.tolist(), "scores": each.scores.tolist(), "labels": each.labels.tolist()}
        for name, each in sorted(golden.items())
    }
    return f"{json.dumps(document, allow_nan=False)}\n".encode()


def from_json(content: bytes, where: str) -> dict[str, Detections]:
    """The inverse of `to_json`, to the last digit. Raises BundleError, naming `where`."""
    golden = {}
    try:
        for name, value in json.loads(content.decode()).items():
            boxes = np.asarray(value["boxes"], np.float32).reshape(-1, 4)
            scores, labels = np.asarray(value["scores"], np.float32), np.asarray(value["labels"], np.int64)
            if not scores.shape == labels.shape == (len(boxes),):
                raise ValueError("as many boxes as scores and labels")
            golden[name] = Detections(boxes, scores, labels)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{where}: expected golden boxes, scores and labels, found something else") from error
    return golden


def _nearest(
    wanted: Detections, offered: Detections, tolerance: Tolerance
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each wanted detection, its differences [K] in score and box to the best partner; inf where there is none."""
    score = np.abs(wanted.scores[:, None].astype(np.float64) - offered.scores[None])
    box = np.abs(wanted.boxes[:, None].astype(np.float64) - offered.boxes[None]).max(axis=2)
    is_partner = (wanted.labels[:, None] == offered.labels[None]) & (score <= tolerance.score) & (box <= tolerance.box)
    distance = np.where(is_partner, box, np.inf)
    if not distance.shape[1]:
        return np.full(len(distance), np.inf), np.full(len(distance), np.inf)
    rows, best = np.arange(len(distance)), distance.argmin(axis=1)
    return np.where(is_partner[rows, best], score[rows, best], np.inf), distance[rows, best]


def _describe(found: Detections, row: int) -> str:
    corners = ", ".join(f"{corner:.1f}" for corner in found.boxes[row])
    return f"a detection of class {found.labels[row]} at ({corners}) with score {found.scores[row]:.3f}"
