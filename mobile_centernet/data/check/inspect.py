"""One frame inspected: its image really decoded and hashed, its boxes checked."""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from tqdm import tqdm

from mobile_centernet.data.annotations import Action, Finding, Frame
from mobile_centernet.data.convert import ClassMap, convert
from mobile_centernet.data.parallel import in_order
from mobile_centernet.data.readers.common import quarantined
from mobile_centernet.data.readers.layouts import SourceFrame
from mobile_centernet.data.similarity.decoder_warnings import decoder_warnings
from mobile_centernet.data.similarity.perceptual import ImageHash, perceptual_hash
from mobile_centernet.errors import DataError
from mobile_centernet.images.opencv import decode_image, jpeg_size

LEAST_SIDE = 128  # of the picture that is hashed: a JPEG is decoded at a fraction of its size down to this
SMALL, MEDIUM = 32**2, 96**2  # upper limits of a box's area, pixels² of the picture as it is: COCO's
HEADER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises on headers that are damaged."""
USUAL_MODES = ("RGB",)


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
        return _unusable(frame, "missing_image", "a picture", error.strerror or "an unreadable file")
    digest = hashlib.sha256(data).digest()
    try:
        with decoder_warnings() as warnings:
            image, size = _decode(data, frame.name)
    except DataError as error:
        found = str(error).removeprefix(f"{frame.name}: ")
        return _unusable(frame, "unreadable_image", "a picture that decodes completely", found, digest)

    converted = convert(frame, class_map, size)
    findings = list(converted.findings)
    if warnings:
        expected = "a picture that decodes without errors"
        findings.insert(0, Finding("damaged_image", Action.IGNORED, frame.name, expected, warnings[0]))
    widths, heights = converted.boxes[:, 2] - converted.boxes[:, 0], converted.boxes[:, 3] - converted.boxes[:, 1]
    sizes = Counter(
        (class_map.classes[label], "small" if area < SMALL else "medium" if area < MEDIUM else "large")
        for label, area in zip(converted.labels, (widths * heights).tolist(), strict=True)
    )
    return FrameInspection(digest, perceptual_hash(image), sizes, tuple(findings), tuple(_notes(frame, data)))


def hash_images(
    frames: Sequence[Frame], *, workers: int | None = None, progress: bool = True
) -> list[ImageHash | None]:
    """The perceptual hash of each frame's image, None where it cannot be read or decoded."""
    shown = tqdm(in_order(_hash, frames, workers), "compare", len(frames), disable=None if progress else True)
    return list(shown)


def _hash(frame: Frame) -> ImageHash | None:
    try:
        return perceptual_hash(_decode(frame.image.read_bytes(), frame.name)[0])
    except (OSError, DataError):  # no hash is the answer; `prepare` reports such a picture
        return None


def _decode(data: bytes, name: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The image, a large JPEG at a fraction of its size, and its full (height, width). Every byte is decoded."""
    size = jpeg_size(data)
    reduce = next((factor for factor in (4, 2) if size and min(size) >= factor * LEAST_SIDE), 1)
    image = decode_image(data, name, reduce)
    return image, size or (image.shape[0], image.shape[1])


def _unusable(frame: Frame, kind: str, expected: str, found: str, digest: bytes | None = None) -> FrameInspection:
    return FrameInspection(digest, None, Counter(), (quarantined(kind, frame.name, expected, found),))


def _notes(frame: Frame, data: bytes) -> Iterator[Finding]:
    """What the header says that other programs may see in another way."""
    try:
        with Image.open(BytesIO(data)) as header:
            mode, orientation = header.mode, header.getexif().get(ExifTags.Base.Orientation, 1)
    except HEADER_ERRORS:
        return  # it decoded, so that there is nothing to say
    if orientation not in (0, 1):
        expected = "EXIF orientation 1: boxes are taken in stored pixels, while viewers turn the picture"
        yield Finding("rotated_image", Action.IGNORED, frame.name, expected, f"orientation {orientation}")
    if mode not in USUAL_MODES:
        yield Finding("converted_image", Action.REPAIRED, frame.name, "8-bit RGB", f"Pillow's mode {mode}")
