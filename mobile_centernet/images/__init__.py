"""From an image to the model's input: the only decode and the only resize of the project.

Training, evaluation, calibration and devices all go through here, so that a model sees the same pixels everywhere.
OpenCV does it where it is installed, else numpy and Pillow do, which give the same pixels: OpenCV with the libraries
in its wheel is 160 MB, nearly as much as everything else on a device together.
"""

from os import PathLike
from typing import TYPE_CHECKING, Union

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

try:
    from mobile_centernet.images.opencv import read_image, resize

    BACKEND = "opencv"
except ImportError:
    from mobile_centernet.images.pillow import read_image, resize

    BACKEND = "numpy"

__all__ = ["BACKEND", "ImageSource", "read_image", "resize", "to_input"]

ImageSource = Union[str, "PathLike[str]", NDArray[np.uint8], "Image.Image"]
"""An image's file, its pixels as RGB uint8 [H, W, 3], or a PIL image."""


def to_input(image: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.float32]:
    """Make an RGB image [H, W, 3] of any size the model's input of (height, width): float32 [1, 3, h, w], 0..255.

    Normalisation happens inside the model and inside the exported graph, never here.
    """
    return np.ascontiguousarray(resize(image, input_size).transpose(2, 0, 1)[None], np.float32)
