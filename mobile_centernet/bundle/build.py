"""Making a bundle from exported models: runs them over the golden pictures and pins everything in the manifest."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_centernet.bundle.bundle import write_bundle
from mobile_centernet.bundle.card import model_card
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.golden import to_json
from mobile_centernet.bundle.manifest import Manifest, PinnedFile, Tolerance, Variant
from mobile_centernet.images import read_image
from mobile_centernet.inference.onnx import Detector

CARD = "MODEL_CARD.md"

# Devices compute fp32 in TF32 and fuse layers, so even one precision differs between them.
TOLERANCES = {"fp32": Tolerance(0.01, 1.0), "fp16": Tolerance(0.02, 2.0), "int8": Tolerance(0.05, 4.0)}


def build_bundle(
    out: Path,
    models: Sequence[Path],
    *,
    name: str,
    version: str,
    release: int,
    pictures: Sequence[Path],
    thresholds: Mapping[str, float],
    latency_ms: Mapping[str, float],
    lineage: Mapping[str, str] | None = None,
    card: str | None = None,
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> Manifest:
    """Write an unsigned bundle to `out`; the same arguments give the same bytes.

    models:     exported ONNX files of one model, each of another precision
    pictures:   golden pictures of any size; kept losslessly, with what each model finds on them on this CPU
    thresholds: by class; `default` stands for those that are not named
    latency_ms: by device profile; `default` is needed
    card:       markdown; None writes one from the manifest
    Raises ModelError or DataError for a file that does not load, BundleError for things that do not fit together.
    """
    detectors = _load(models)
    some = next(iter(detectors.values()))
    images = {f"golden/{number:03d}.png": read_image(path) for number, path in enumerate(pictures)}
    files = {picture: _png(image) for picture, image in images.items()}
    variants = {}
    for precision, detector in detectors.items():
        variant = Variant(f"model.{precision}.onnx", f"golden/{precision}.json", tolerances[precision])
        variants[precision] = variant
        files[variant.model] = detector.path.read_bytes()
        files[variant.golden] = _golden(detector, images)
    parts = Manifest(
        name=name,
        version=version,
        release=release,
        classes=some.classes,
        input_size=some.input_size,
        thresholds=_for_classes(thresholds, some.classes),
        latency_ms=latency_ms,
        variants=variants,
        pictures=tuple(images),
        card=CARD,
        lineage=lineage or {},
        files=_pinned(files),
    )
    files[CARD] = (model_card(parts) if card is None else card).encode()
    manifest = Manifest(**{**vars(parts), "files": _pinned(files)})
    write_bundle(out, manifest, files)
    return manifest


def _load(models: Sequence[Path]) -> dict[str, Detector]:
    if not models:
        raise BundleError("expected at least one exported model, found none")
    detectors: dict[str, Detector] = {}
    for path in models:
        detector = Detector(path, threads=1, provider="cpu")
        precision = detector.metadata.precision
        if precision in detectors:
            raise BundleError(f"{path}: expected one model a precision, found a second {precision}")
        detectors[precision] = detector
    first = next(iter(detectors.values()))
    for detector in detectors.values():
        if (detector.classes, detector.input_size) != (first.classes, first.input_size):
            raise BundleError(
                f"{detector.path}: expected classes {first.classes} and input size {first.input_size} "
                f"as in {first.path}, found {detector.classes} and {detector.input_size}"
            )
    return detectors


def _golden(detector: Detector, images: Mapping[str, NDArray[np.uint8]]) -> bytes:
    found = {name: detector.detect(image) for name, image in images.items()}
    for name, each in found.items():
        if not (np.isfinite(each.boxes).all() and np.isfinite(each.scores).all()):
            raise BundleError(f"{detector.path}: expected finite boxes and scores on {name}, found others")
    return to_json(found)


def _for_classes(thresholds: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    if unknown := set(thresholds) - {"default", *classes}:
        raise BundleError(f"thresholds: expected classes {', '.join(classes)}, found {', '.join(sorted(unknown))}")
    missing = [name for name in classes if name not in thresholds]
    if missing and "default" not in thresholds:
        raise BundleError(f"thresholds: expected one for each class or a default, found none for {', '.join(missing)}")
    return {name: thresholds[name] if name in thresholds else thresholds["default"] for name in classes}


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _pinned(files: Mapping[str, bytes]) -> dict[str, PinnedFile]:
    return {name: PinnedFile(hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}
