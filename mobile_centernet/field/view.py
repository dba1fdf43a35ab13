"""What a frame looks like, in numbers cheap enough for every frame on a device: numpy alone, a part of the pixels.

The hash is dHash (N. Krawetz, "Kind of Like That", 2013) with 16x16 in place of 8x8 differences. It is no pHash, as
`data.similarity` has: a cosine transform of every frame would cost more than all the rest here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 256
_ROWS, _COLUMNS = 16, 17
_SAMPLES = 8  # along a cell's side: 64 pixels make its mean
_BANDS = 12  # rows of the frame whose sharpness is looked at


@dataclass(frozen=True, eq=False)
class FrameView:
    """Of one frame.

    Attributes:
        bits: uint8 [BITS / 8], whether each cell of a grid is brighter than its left neighbour.
        brightness: mean of the green channel, 0..1.
        sharpness: log2(1 + mean absolute Laplacian of the green channel), 0..10, in the frame's own pixels.
    """

    bits: NDArray[np.uint8]
    brightness: float
    sharpness: float

    @classmethod
    def of(cls, image: NDArray[np.uint8]) -> "FrameView":
        """
        Args:
            image: RGB uint8 [H, W, 3] of any size.

        Raises:
            ValueError: it is none.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"expected a frame uint8 [H, W, 3], found {image.dtype} {list(image.shape)}")
        height, width = image.shape[:2]
        rows = np.linspace(0, height - 1, _ROWS * _SAMPLES).astype(np.intp)
        columns = np.linspace(0, width - 1, _COLUMNS * _SAMPLES).astype(np.intp)
        sampled = image[:, :, 1][rows[:, None], columns]
        cells = sampled.reshape(_ROWS, _SAMPLES, _COLUMNS, _SAMPLES).mean((1, 3), dtype=np.float32)
        middle = np.linspace(1, max(height - 2, 1), _BANDS).astype(np.intp)
        bands = image[(middle[:, None] + (-1, 0, 1)).clip(0, height - 1), :, 1].astype(np.int16)  # [bands, 3, W]
        centre = bands[:, 1, 1:-1]
        across, down = bands[:, 1, :-2] + bands[:, 1, 2:], bands[:, 0, 1:-1] + bands[:, 2, 1:-1]
        steepness = float(np.abs(4 * centre - across - down).mean()) if centre.size else 0.0
        return cls(np.packbits(cells[:, 1:] > cells[:, :-1]), float(cells.mean()) / 255, float(np.log2(1 + steepness)))


def distances(bits: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many bits of one view [BITS / 8] differ from each of `others` [N, BITS / 8]: [N], 0..BITS."""
    different: NDArray[np.int64] = np.unpackbits(others ^ bits, axis=1).sum(axis=1, dtype=np.int64)
    return different
