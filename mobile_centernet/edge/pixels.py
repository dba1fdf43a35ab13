"""Pictures on a device: by OpenCV where it is installed, else by numpy and Pillow, which give the same pixels.

OpenCV with the libraries in its wheel is 160 MB, nearly as much as everything else on a device together.
"""

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.model_input import as_input, boxes_to_original

try:
    from mobile_centernet.preprocessing import read_image, resize

    BACKEND = "opencv"
except ImportError:
    from mobile_centernet.edge.without_opencv import read_image, resize

    BACKEND = "numpy"

__all__ = ["BACKEND", "boxes_to_original", "read_image", "resize", "to_input"]


def to_input(image: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Make an RGB image [H, W, 3] of any size the model's input of (height, width): float32 [1, 3, h, w], 0..255."""
    return as_input(resize(image, input_size))
