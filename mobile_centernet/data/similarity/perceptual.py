"""How similar two images look: the perceptual hash pHash, and the nearest neighbours of many of them.

pHash after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), with 16x16 instead of
8x8 frequencies: on street photos the usual 64 bits cannot tell one street from the next.
"""

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Frame
from mobile_centernet.errors import DataError
from mobile_centernet.images.headers import jpeg_size
from mobile_centernet.images.opencv import decode_image

FREQUENCIES = 16
BITS = FREQUENCIES**2
NEAR_BITS = 40
"""Frames closer than this many bits show the same view. Measured on 2,500 street photos: a copy compressed or scaled
again is up to 16 bits away, the same view some seconds later 20 to 45, another view of the same street 60 and more."""
TILE = 1024
LEAST_SIDE = 128  # of the image that is hashed: a JPEG is decoded at a fraction of its size down to this

ImageHash: TypeAlias = NDArray[np.uint8]  # [BITS / 8], packed
Hashes: TypeAlias = NDArray[np.uint8]  # [N, BITS / 8]
Allowed: TypeAlias = Callable[[slice, slice], NDArray[np.bool_]]


def perceptual_hash(image: NDArray[np.uint8]) -> ImageHash:
    """The hash of an RGB image [H, W, 3] of any size: which of its lowest frequencies are above their median."""
    side = 4 * FREQUENCIES
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    while min(grey.shape) >= 2 * side and not (grey.shape[0] % 2 or grey.shape[1] % 2):
        # Halving is several times faster than any other reduction, and averages the same pixels.
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    small = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small.astype(np.float32))[:FREQUENCIES, :FREQUENCIES].ravel()
    return np.packbits(lowest > np.median(lowest[1:]))  # the first one is the mean brightness


def decode_reduced(data: bytes, name: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The RGB image, a large JPEG at a fraction of its size, and its full (height, width). Every byte is decoded.

    Raises DataError, which calls the image `name`, where it does not decode.
    """
    size = jpeg_size(data)
    reduce = next((factor for factor in (4, 2) if size and min(size) >= factor * LEAST_SIDE), 1)
    image = decode_image(data, name, reduce)
    return image, size or (image.shape[0], image.shape[1])


def hash_image(frame: Frame) -> ImageHash | None:
    """The perceptual hash of a frame's image, None where it cannot be read or decoded (`prepare` reports that)."""
    try:
        return perceptual_hash(decode_reduced(frame.image.read_bytes(), frame.name)[0])
    except (OSError, DataError):
        return None


def distance(first: ImageHash, second: ImageHash) -> int:
    """How many of the `BITS` bits differ."""
    return int(np.bitwise_count(first ^ second).sum())


def nearest(
    hashes: Hashes, others: Hashes, allowed: Allowed | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distance [N] of each of `hashes` [N] to the nearest of `others` [M], and that one's row [N].

    `allowed(rows, columns)` may exclude pairs by a mask [rows, columns]. Where no other is left, the distance is
    `BITS + 1`. Every pair is compared: memory grows with N + M, time with N x M (10,000 x 10,000 in a second or two).
    """
    best = np.full(len(hashes), BITS + 1, np.int64)
    row = np.zeros(len(hashes), np.int64)
    for start in range(0, len(hashes), TILE):
        rows = slice(start, min(start + TILE, len(hashes)))
        left = _signs(hashes[rows])
        for first in range(0, len(others), TILE):
            columns = slice(first, min(first + TILE, len(others)))
            # Of ±1 vectors, the scalar product is (equal bits) - (different bits): exact in float32, and fast.
            different = (BITS - left @ _signs(others[columns]).T) / 2
            if allowed is not None:
                different[~allowed(rows, columns)] = BITS + 1
            column = different.argmin(axis=1)
            found = np.take_along_axis(different, column[:, None], axis=1)[:, 0].astype(np.int64)
            better = found < best[rows]
            best[rows][better] = found[better]
            row[rows][better] = column[better] + first
    return best, row


def earlier(rows: slice, columns: slice) -> NDArray[np.bool_]:
    """The mask [rows, columns] of pairs whose column comes before its row."""
    return np.arange(columns.start, columns.stop) < np.arange(rows.start, rows.stop)[:, None]


def _signs(hashes: Hashes) -> NDArray[np.float32]:
    """Bits as ±1 [N, BITS]."""
    bits = np.unpackbits(hashes.reshape(-1, BITS // 8), axis=1)
    return 2 * bits.astype(np.float32) - 1
