"""Box arithmetic, numpy only. Boxes are xyxy in absolute pixels, a COCO bbox is xywh."""

import numpy as np
from numpy.typing import NDArray


def boxes_to_original(
    boxes: NDArray[np.float32], input_size: tuple[int, int], original_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Carry boxes [..., 4] (xyxy, input pixels) back to pixels of the original frame, clipped to that frame.

    Both sizes are (height, width). The inverse of the straight stretch from an image to the input.
    """
    input_wh = np.array(input_size[::-1] * 2, np.float32)
    original_wh = np.array(original_size[::-1] * 2, np.float32)
    original = np.clip(boxes * (original_wh / input_wh), 0, original_wh)
    return original.astype(np.float32)
