"""Images that look like no other."""

import cv2
import numpy as np


def view(number: int, size: tuple[int, int] = (36, 64)) -> np.ndarray:
    """An image that looks like no other: smooth random colours."""
    coarse = np.random.default_rng(number).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
