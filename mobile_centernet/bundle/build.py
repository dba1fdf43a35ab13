"""Making a bundle from exported models: runs them over the golden images and pins everything in the manifest."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mobile_centernet.bundle.bundle import write_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.golden import to_json
from mobile_centernet.bundle.manifest import Manifest, PinnedFile, Tolerance, Variant
from mobile_centernet.images import read_image
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.tables import as_markdown, markdown_table

CARD = "MODEL_CARD.md"

# Devices compute fp32 in TF32 and fuse layers, so even one precision differs between them.
TOLERANCES = {"fp32": Tolerance(0.01, 1.0), "fp16": Tolerance(0.02, 2.0), "int8": Tolerance(0.05, 4.0)}


def build_bundle(
    out: Path,
    models: Sequence[Path],
    *,
    name: str,
    version: str,
    pictures: Sequence[Path],
    thresholds: Mapping[str, float],
    latency_ms: Mapping[str, float],
    lineage: Mapping[str, str] | None = None,
    card: str | None = None,
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> Manifest:
    """Write a bundle to `out`; the same arguments give the same bytes.

    Args:
        models: exported ONNX files of one model, each of another precision.
        pictures: golden images of any size; kept losslessly, with what each model finds on them on this CPU.
        thresholds: by class; `default` stands for those that are not named.
        latency_ms: by device profile; `default` is needed.
        card: markdown; None writes one from the manifest.

    Raises:
        ModelError, DataError: a file does not load.
        BundleError: things do not fit together.
    """
    detectors: dict[str, Detector] = {}
    for path in models:
        detector = Detector(path, threads=1, provider="cpu")
        if detectors.setdefault(detector.metadata.precision, detector) is not detector:
            raise BundleError(f"{path}: expected one model a precision, found a second {detector.metadata.precision}")
        some = next(iter(detectors.values()))
        if (detector.classes, detector.input_size) != (some.classes, some.input_size):
            raise BundleError(
                f"{path}: expected classes {some.classes} and input size {some.input_size} "
                f"as in {some.path}, found {detector.classes} and {detector.input_size}"
            )
    if not detectors:
        raise BundleError("expected at least one exported model, found none")
    if unknown := set(thresholds) - {"default", *some.classes}:
        raise BundleError(f"thresholds: expected classes {', '.join(some.classes)}, found {', '.join(sorted(unknown))}")
    missing = [name for name in some.classes if name not in thresholds]
    if missing and "default" not in thresholds:
        raise BundleError(f"thresholds: expected one for each class or a default, found none for {', '.join(missing)}")

    images = {f"golden/{number:03d}.png": read_image(path) for number, path in enumerate(pictures)}
    files: dict[str, bytes] = {}
    for picture, image in images.items():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        files[picture] = buffer.getvalue()
    variants = {}
    for precision, detector in detectors.items():
        variant = Variant(f"model.{precision}.onnx", f"golden/{precision}.json", tolerances[precision])
        variants[precision] = variant
        files[variant.model] = detector.path.read_bytes()
        golden = {picture: detector.detect(image) for picture, image in images.items()}
        for picture, found in golden.items():
            if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
                raise BundleError(f"{detector.path}: expected finite boxes and scores on {picture}, found others")
        files[variant.golden] = to_json(golden)
    parts = Manifest(
        name=name,
        version=version,
        classes=some.classes,
        input_size=some.input_size,
        thresholds={each: float(thresholds[each if each in thresholds else "default"]) for each in some.classes},
        latency_ms={profile: float(limit) for profile, limit in latency_ms.items()},
        variants=variants,
        pictures=tuple(images),
        card=CARD,
        lineage=lineage or {},
        files=_pinned(files),
    )
    files[CARD] = (model_card(parts) if card is None else card).encode()
    manifest = replace(parts, files=_pinned(files))
    write_bundle(out, manifest, files)
    return manifest


def _pinned(files: Mapping[str, bytes]) -> dict[str, PinnedFile]:
    return {name: PinnedFile(hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}


def model_card(manifest: Manifest) -> str:
    """Markdown. `manifest` need not list the card itself yet."""
    height, width = manifest.input_size
    thresholds = [(name, f"{manifest.thresholds[name]:g}") for name in manifest.classes]
    latency = [(profile, f"{limit:g}") for profile, limit in sorted(manifest.latency_ms.items())]
    origin = sorted(manifest.lineage.items())
    sections = [
        f"# {manifest.name} {manifest.version}",
        f"Finds {as_markdown(', '.join(manifest.classes))} in a camera's image and draws a box around each. "
        f"The image may have any size; it is stretched to {width}x{height}.",
        "## Files",
        markdown_table(
            ("file", "precision", "MiB", "may differ from the golden detections by"),
            (
                (
                    variant.model,
                    precision,
                    f"{manifest.files[variant.model].bytes / 2**20:.2f}",
                    f"{variant.tolerance.box:g} px, {variant.tolerance.score:g} in score",
                )
                for precision, variant in sorted(manifest.variants.items())
            ),
        ),
        f"Golden images: {', '.join(manifest.pictures)}.",
        "## Thresholds",
        markdown_table(("class", "least score"), thresholds),
        "## Latency budget",
        markdown_table(("device profile", "ms per image"), latency),
        "## Where it comes from",
        markdown_table(("what", "value"), origin) if origin else "Nothing was recorded.",
        "## Limits",
        "Scores rank detections; they are no probabilities. It was measured only on what the table above names, and "
        "says nothing about other cameras, countries or weather. It is not made to be the only safeguard of anything.",
    ]
    return "\n\n".join(sections) + "\n"
