"""Decoding and resizing by OpenCV. Imports neither torch nor anything of ours but the errors."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.errors import DataError

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
_JPEG, _START_OF_SCAN, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def resize(image: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch an image [H, W, 3] straight to `input_size` (height, width), without padding or cropping.

    Pixels are averaged (INTER_AREA) when shrinking, interpolated (INTER_LINEAR) otherwise.
    """
    height, width = input_size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    stretched = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(stretched, np.uint8)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB [H, W, 3] in its stored pixels.

    EXIF orientation is not applied, because the boxes of a data set refer to the stored pixels.
    Raises DataError where the file is missing or does not decode completely.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a picture, but it cannot be read ({error.strerror})") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str, reduce: int = 1) -> NDArray[np.uint8]:
    """Decode a picture to RGB [H, W, 3]; `reduce` 2 or 4 decodes a JPEG straight to that fraction (cheaper).

    Raises DataError that calls the picture `name` where it is empty, truncated or no picture.
    """
    if not data:
        raise DataError(f"{name}: expected a picture, found an empty file")
    # Some OpenCV versions pad a cut JPEG with grey and say nothing; a whole one ends its last scan with EOI. Neither
    # marker can occur inside a scan (there 0xFF is always escaped), an EXIF thumbnail lies before the scan, and padding
    # or a camera's trailer after the end does no harm.
    if data.startswith(_JPEG) and data.find(_START_OF_SCAN, max(data.rfind(_END_OF_IMAGE), 0)) >= 0:
        raise DataError(f"{name}: expected a whole picture, found a JPEG cut off after {len(data)} bytes")
    flags = _REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # absurd dimensions in a damaged header
        raise DataError(f"{name}: expected a picture, found one that OpenCV refuses ({error.err})") from error
    if bgr is None:
        raise DataError(f"{name}: expected a picture, found {len(data)} bytes that do not decode as one")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Compress an RGB image [H, W, 3] as a JPEG of `quality` 1..100, without metadata."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise DataError(f"OpenCV cannot compress an image of shape {image.shape} as JPEG")
    return buffer.tobytes()


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read the (height, width) from a JPEG's header without decoding it; None where there is no such header."""
    if not data.startswith(_JPEG):
        return None
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        # SOF0..SOF15 hold the frame size; C4, C8 and CC in that range are tables (ITU T.81, table B.1).
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            return (height, width) if height and width else None
        is_fill = marker == 0xFF
        position += 1 if is_fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
