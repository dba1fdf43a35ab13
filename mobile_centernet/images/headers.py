"""What an image's bytes say before they are decoded: its size, whether a JPEG is whole, how it asks to be turned.

Both decoders ask here first, so that they refuse the same files and never allocate what a header alone claims.
"""

import io
import re
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mobile_centernet.errors import DataError

MAX_PIXELS = (256 << 20) // 3
"""Of one image, 89 million: 256 MiB of RGB, where Pillow begins to warn, too."""
HEADER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError, OverflowError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises on headers that are damaged."""
TILE_SIDES = (322, 323)  # TIFF 6.0, section 15

_JPEG, _PNG, _TIFF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _EXIF = 0xD8, 0xD9, 0xDA, 0xE1
# Neither stuffing (FF 00), nor restarts or fill bytes, which stand inside a scan.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_TABLES = frozenset({0xC4, 0xC8, 0xCC})  # among SOF0..SOF15, which hold the frame's size (ITU T.81, table B.1)


def check_header(data: bytes, name: str) -> None:
    """Raise DataError, which calls the image `name`, where it is empty, too large, a JPEG cut off, or no image."""
    if not data:
        raise DataError(f"{name}: expected an image, found an empty file")
    # Decoders pad a cut JPEG with grey, and say nothing where other bytes follow: a phone's clip, a second image.
    if data.startswith(_JPEG) and not any(marker == _END_OF_IMAGE for marker, _ in _segments(data)):
        raise DataError(f"{name}: expected a whole image, found a JPEG cut off after {len(data)} bytes")
    size = image_size(data)
    if size is None:
        raise DataError(f"{name}: expected an image, found {len(data)} bytes that do not decode as one")
    if size[0] * size[1] > MAX_PIXELS:
        found = f"a header that claims {size[1]}x{size[0]}"
        raise DataError(f"{name}: expected an image of at most {MAX_PIXELS:,} pixels, found {found}")


def image_size(data: bytes) -> tuple[int, int] | None:
    """Read the (height, width) from an image's header (a TIFF's tile, where larger); None where there is none."""
    if data.startswith(_JPEG):
        return jpeg_size(data)
    if data.startswith(_PNG):
        width, height = struct.unpack(">II", data[16:24]) if data[12:16] == b"IHDR" and len(data) >= 24 else (0, 0)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        # Pillow allocates a WebP's pixels when it opens one. RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1.
        if data[12:16] == b"VP8X":
            width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        elif data[12:16] == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        else:
            width, height = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about damaged tags
                with Image.open(io.BytesIO(data)) as picture:
                    tags = getattr(picture, "tag_v2", {})  # of a TIFF, whose tiles are allocated whole
                    width, height = (
                        max(side, int(tags.get(tag, 0))) for side, tag in zip(picture.size, TILE_SIDES, strict=True)
                    )
        except Image.DecompressionBombError:
            width = height = MAX_PIXELS  # more than that: Pillow does not say how much
        except HEADER_ERRORS:
            return None
    return (height, width) if height and width else None


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read the (height, width) from a JPEG's header; None where there is no such header."""
    if not data.startswith(_JPEG):
        return None
    for marker, segment in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in _TABLES and len(segment) >= 5:
            height, width = struct.unpack(">HH", segment[1:5])
            return (height, width) if height and width else None
    return None


def orientation(data: bytes) -> int:
    """How an image asks viewers to turn it: EXIF's orientation 1 to 8, 1 where there is none.

    A TIFF has none: decoders turn its pixels themselves.
    """
    if data.startswith(_TIFF):
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged tags
            if data.startswith(_JPEG):
                exif = Image.Exif()
                blocks = (part for marker, part in _segments(data) if marker == _EXIF and part.startswith(b"Exif\0"))
                exif.load(next(blocks, b""))
            else:
                with Image.open(io.BytesIO(data)) as picture:
                    exif = picture.getexif()
            value = exif.get(ExifTags.Base.Orientation, 1)
    except HEADER_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turned(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored pixels [H, W, 3] as viewers show them, turned and mirrored as EXIF's `orientation` 1 to 8 says."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers of a JPEG's own image with what they hold, the last one the end of its first image.

    It ends early where the data end, another image begins or a marker stands where no JPEG has one: then the image
    was cut off before. What lies in a segment (a thumbnail) or behind the end (a clip, another image) is not looked
    at.
    """
    position, frames, scans = 2, 0, 0
    while match := _MARKER.search(data, position):
        marker, begin = data[match.end() - 1], match.end() + 2
        if marker == _END_OF_IMAGE:
            yield marker, b""
            return
        is_frame = 0xC0 <= marker <= 0xCF and marker not in _TABLES
        frames, scans = frames + is_frame, scans + (marker == _START_OF_SCAN)
        length = int.from_bytes(data[match.end() : begin], "big")
        if marker == _START_OF_IMAGE or marker < 0xC0 or 0xF0 <= marker <= 0xFD or frames > 1 or length < 2:
            return
        position = match.end() + length
        # Between scans nothing stands but segments: another byte says that this one has swallowed the cut.
        if scans and marker != _START_OF_SCAN and data[position : position + 1] != b"\xff":
            return
        yield marker, data[begin:position]
