"""What `images.opencv` does, done with numpy and Pillow, pixel for pixel.

The arithmetic of `resize` is that of OpenCV 4 (modules/imgproc/src/resize.cpp: INTER_AREA in float32, INTER_LINEAR in
fixed point), rounding included; the tests hold it to OpenCV's answers bit by bit. It takes five times as long.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobile_centernet.errors import DataError
from mobile_centernet.images.headers import HEADER_ERRORS, check_header, orientation, turned

_FIXED = np.float32(2048)  # INTER_RESIZE_COEF_SCALE

Taps = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Along one axis: indices [T, size] of the source pixels that make a pixel, and their weights [T, size]."""


def read_image(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """As `images.opencv.read_image`: RGB [H, W, 3]; DataError where it does not decode completely."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected an image, but it cannot be read ({error.strerror})") from error
    check_header(data, str(path))
    try:
        with Image.open(io.BytesIO(data)) as picture:
            image = np.array(picture.convert("RGB"), np.uint8)
    except HEADER_ERRORS as error:
        raise DataError(f"{path}: expected a whole image, but it does not decode ({error})") from error
    return turned(image, orientation(data)) if upright else image


def resize(image: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.uint8]:
    """As `images.opencv.resize`: stretch [H, W, 3] to (height, width)."""
    height, width = input_size
    if image.shape[:2] == (height, width):
        return image
    if height > image.shape[0] or width > image.shape[1]:
        left, right, share_left, share_right = _linear_taps(image.shape[1], width, clamp=True)
        pixels = image.astype(np.int32)
        wide = (pixels[:, left] * share_left[:, None] + pixels[:, right] * share_right[:, None]) >> 4
        above, below, share_above, share_below = _linear_taps(image.shape[0], height, clamp=False)
        upper = (wide[above] * share_above[:, None, None]) >> 16
        lower = (wide[below] * share_below[:, None, None]) >> 16
        return ((upper + lower + 2) >> 2).astype(np.uint8)
    if image.shape[0] % height or image.shape[1] % width:
        # Each pixel is the mean of the area that it covers; columns first, in the order of the source, as OpenCV adds.
        turned = _weighted(np.ascontiguousarray(image.transpose(1, 0, 2)), _area_taps(image.shape[1], width))
        mean = _weighted(np.ascontiguousarray(turned.transpose(1, 0, 2)), _area_taps(image.shape[0], height))
        return np.rint(mean).astype(np.uint8)
    # The mean of a whole number of source pixels; OpenCV rounds halves up for 2x2, else to even.
    rows, columns = image.shape[0] // height, image.shape[1] // width
    sums = image.reshape(height, rows, width, columns, 3).sum(axis=(1, 3), dtype=np.int32)
    if (rows, columns) == (2, 2):
        return np.asarray((sums + 2) >> 2, np.uint8)
    return np.asarray(np.rint(sums.astype(np.float32) * np.float32(1 / (rows * columns))), np.uint8)


def _weighted(lines: NDArray[np.uint8] | NDArray[np.float32], taps: Taps) -> NDArray[np.float32]:
    total = np.zeros((taps[0].shape[1], *lines.shape[1:]), np.float32)
    for index, weight in zip(*taps, strict=True):
        total += lines[index] * weight[:, None, None]
    return total


def _area_taps(source: int, target: int) -> Taps:
    scale = source / target
    start = np.arange(target) * scale
    end = start + scale
    cell = np.minimum(scale, source - start)
    last = np.minimum(np.floor(end).astype(np.intp), source - 1)
    first = np.minimum(np.ceil(start).astype(np.intp), last)
    index = first - 1 + np.arange(int((last - first).max()) + 2)[:, None]
    weight = np.where((index >= first) & (index < last), 1 / cell, 0.0)
    weight = np.where((index == first - 1) & (first - start > 1e-3), (first - start) / cell, weight)
    rest = np.minimum(np.minimum(end - last, 1.0), cell) / cell
    weight = np.where((index == last) & (end - last > 1e-3), rest, weight)
    return index.clip(0, source - 1), weight.astype(np.float32)


def _linear_taps(
    source: int, target: int, *, clamp: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """The two neighbours [size] of each pixel and their shares of 2048.

    `clamp`: beyond the border OpenCV gives a column's border pixel the whole share, but splits a row's in two.
    """
    centre = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    index = np.floor(centre).astype(np.intp)
    fraction = centre - index.astype(np.float32)
    if clamp:
        fraction = np.where((index < 0) | (index >= source - 1), np.float32(0), fraction)
    first = np.rint((np.float32(1) - fraction) * _FIXED).astype(np.int32)
    second = np.rint(fraction * _FIXED).astype(np.int32)
    return index.clip(0, source - 1), (index + 1).clip(0, source - 1), first, second
