"""Detections as three arrays, to compare and to index them."""

import numpy as np

from mobile_centernet.detections import Detections

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def arrays(found: Detections) -> Arrays:
    """Boxes, scores and labels."""
    return found.boxes, found.scores, found.labels
