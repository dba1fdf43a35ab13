"""Decoding and resizing by OpenCV. Imports neither torch nor anything of ours but the errors."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.errors import DataError
from mobile_centernet.images.headers import check_header, orientation, turned

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}


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


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """Read an image as RGB [H, W, 3] in its stored pixels, to which the boxes of a data set refer.

    `upright` turns them as viewers do (EXIF orientation). Raises DataError where the file is missing, does not decode
    completely, or has more than `headers.MAX_PIXELS`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected an image, but it cannot be read ({error.strerror})") from error
    image = decode_image(data, str(path))
    return turned(image, orientation(data)) if upright else image


def decode_image(data: bytes, name: str, reduce: int = 1) -> NDArray[np.uint8]:
    """Decode an image to RGB [H, W, 3]; `reduce` 2 or 4 decodes a JPEG straight to that fraction (cheaper).

    Raises DataError that calls the image `name` where it is empty, truncated, too large or no image.
    """
    check_header(data, name)
    flags = _REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # absurd dimensions in a damaged header
        raise DataError(f"{name}: expected an image, found one that OpenCV refuses ({error.err})") from error
    if bgr is None:
        raise DataError(f"{name}: expected an image, found {len(data)} bytes that do not decode as one")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Compress an RGB image [H, W, 3] as a JPEG of `quality` 1..100, without metadata."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise DataError(f"OpenCV cannot compress an image of shape {image.shape} as JPEG")
    return buffer.tobytes()
