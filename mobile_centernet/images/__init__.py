"""From an image to the model's input: the only decode and the only resize of the project.

Training, evaluation, calibration and devices all go through here, so that a model sees the same pixels everywhere.
OpenCV does it where it is installed, else numpy and Pillow do, which give the same pixels: OpenCV with the libraries
in its wheel is 160 MB, nearly as much as everything else on a device together.
"""

import numpy as np
from numpy.typing import NDArray

try:
    from mobile_centernet.images.opencv import read_image, resize

    BACKEND = "opencv"
except ImportError:
    from mobile_centernet.images.pillow import read_image, resize

    BACKEND = "numpy"

__all__ = ["BACKEND", "as_input", "read_image", "resize", "to_input"]


def as_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB [h, w, 3], of the input's size already, as the model takes it: float32 [1, 3, h, w], RGB, 0..255.

    Normalisation happens inside the model and inside the exported graph, never here.
    """
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def to_input(image: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Make an RGB image [H, W, 3] of any size the model's input of (height, width): float32 [1, 3, h, w], 0..255."""
    return as_input(resize(image, input_size))
