"""One frame inspected: its image really decoded and hashed, its boxes checked."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from mobile_centernet.boxes import box_area
from mobile_centernet.data.annotations import Action, Finding, Frame
from mobile_centernet.data.convert import ClassMap, convert
from mobile_centernet.data.readers.common import quarantined
from mobile_centernet.data.readers.layouts import SourceFrame
from mobile_centernet.data.similarity.decoder_warnings import decoder_warnings
from mobile_centernet.data.similarity.perceptual import ImageHash, decode_reduced, perceptual_hash
from mobile_centernet.errors import DataError
from mobile_centernet.images.headers import HEADER_ERRORS, orientation

SMALL, MEDIUM = 32**2, 96**2  # upper limits of a box's area, pixels² of the image as it is: COCO's


@dataclass(frozen=True, slots=True)
class FrameInspection:
    """What inspecting one frame found.

    Attributes:
        digest: of the file's bytes, None where they cannot be read.
        hash: of the image, None where it does not decode.
        sizes: usable boxes by category and "small", "medium" or "large".
        findings: problems.
        notes: worth knowing, but harmless.
    """

    digest: bytes | None
    hash: ImageHash | None
    sizes: Counter[tuple[str, str]]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()


def inspect(entry: SourceFrame, class_map: ClassMap) -> FrameInspection:
    """Decode and hash one image and check its frame's boxes.

    Args:
        entry: the frame.
        class_map: must know every category.

    Returns:
        What was found. Findings about the image and about the frame as a whole name the frame, those about a box
        `<frame>#<n>`.
    """
    frame = entry.frame
    try:
        data = entry.read()
    except OSError as error:
        return _unusable(frame, "missing_image", "an image", error.strerror or "an unreadable file")
    digest = hashlib.sha256(data).digest()
    try:
        with decoder_warnings() as warnings:
            image, size = decode_reduced(data, frame.name)
    except DataError as error:
        found = str(error).removeprefix(f"{frame.name}: ").partition("found ")[2]
        return _unusable(frame, "unreadable_image", "an image that decodes completely", found, digest)

    turned = orientation(data)
    converted = convert(frame, class_map, size, turned)
    findings = list(converted.findings)
    if warnings:
        expected = "an image that decodes without errors"
        findings.insert(0, Finding("damaged_image", Action.IGNORED, frame.name, expected, warnings[0]))
    sizes = Counter(
        (class_map.classes[label], "small" if area < SMALL else "medium" if area < MEDIUM else "large")
        for label, area in zip(converted.labels, box_area(converted.boxes).tolist(), strict=True)
    )
    notes = []
    try:
        with Image.open(BytesIO(data)) as header:
            mode, several = header.mode, getattr(header, "n_frames", 1) if header.format != "MPO" else 1
    except HEADER_ERRORS:
        mode, several = "RGB", 1  # it decoded, so that there is nothing to say
    if turned != 1:
        expected = "EXIF orientation 1: boxes are taken in stored pixels, while viewers turn the image"
        notes.append(Finding("rotated_image", Action.IGNORED, frame.name, expected, f"orientation {turned}"))
    if several > 1:
        notes.append(
            Finding("converted_image", Action.REPAIRED, frame.name, "one image", f"{several}; the first is read")
        )
    if mode != "RGB":
        notes.append(Finding("converted_image", Action.REPAIRED, frame.name, "8-bit RGB", f"Pillow's mode {mode}"))
    return FrameInspection(digest, perceptual_hash(image), sizes, tuple(findings), tuple(notes))


def _unusable(frame: Frame, kind: str, expected: str, found: str, digest: bytes | None = None) -> FrameInspection:
    return FrameInspection(digest, None, Counter(), (quarantined(kind, frame.name, expected, found),))
