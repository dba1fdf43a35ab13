"""The frame in which a model works: its input's layout, and boxes from there back to the picture. numpy only.

What needs a library for pictures is in `preprocessing` (OpenCV) and, for a device without it, in `edge.without_opencv`.
"""

import numpy as np
from numpy.typing import NDArray


def as_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB [h, w, 3], of the input's size already, as the model takes it: float32 [1, 3, h, w], RGB, 0..255.

    Normalisation happens inside the model and inside the exported graph, never here.
    """
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def boxes_to_original(
    boxes: NDArray[np.float32], input_size: tuple[int, int], original_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Carry boxes [..., 4] (xyxy, input pixels) back to pixels of the original frame, clipped to that frame.

    Both sizes are (height, width). The inverse of the straight stretch from a picture to the input.
    """
    input_wh = np.array(input_size[::-1] * 2, np.float32)
    original_wh = np.array(original_size[::-1] * 2, np.float32)
    original = np.clip(boxes * (original_wh / input_wh), 0, original_wh)
    return original.astype(np.float32)
