"""Class weights against the long tail of traffic data (the paper's equation 4)."""

import warnings
from collections.abc import Sequence


def class_weights(counts: Sequence[int], w_max: float = 10.0, gamma: float = 0.75) -> list[float]:
    """Weights of the category-balanced focal loss, from the number of boxes of each class in the training frames.

    w_c = (w_max - 1) / (r_max^gamma - 1) * (r_c^gamma - 1) + 1, with r_c = max(counts) / counts[c]: the most frequent
    class weighs 1, the rarest `w_max`. Equal counts weigh 1 each. A class without boxes weighs 1, with a warning.
    """
    if any(count < 0 for count in counts):
        raise ValueError(f"expected counts from 0, found {list(counts)}")
    if missing := [label for label, count in enumerate(counts) if count == 0]:
        warnings.warn(f"no boxes of class number {missing} in the training frames: weight 1", stacklevel=2)
    most = max(counts, default=0)
    rarity = [(most / count) ** gamma - 1 if count else 0.0 for count in counts]  # r_c^gamma - 1
    rarest = max(rarity, default=0.0)
    return [(w_max - 1) * excess / rarest + 1 if rarest else 1.0 for excess in rarity]
