"""How fast training targets are made."""

import numpy as np
import pytest

from mobile_centernet import codec

pytestmark = pytest.mark.benchmark

FRAMES, OBJECTS = 50, 20
HEIGHT, WIDTH = 80, 144


def test_encode(side_by_side, row) -> None:
    rng = np.random.default_rng(0)
    centre = rng.uniform(0, (WIDTH, HEIGHT), (FRAMES, OBJECTS, 2))
    size = np.exp(rng.normal(np.log(12), 0.8, (FRAMES, OBJECTS, 2)))  # 3 to 60 cells
    boxes = (4 * np.concatenate((centre - size / 2, centre + size / 2), axis=2)).astype(np.float32)
    labels = rng.integers(0, 10, (FRAMES, OBJECTS))

    def encode_all() -> None:
        for of_frame, their_labels in zip(boxes, labels, strict=True):
            codec.encode(of_frame, their_labels, num_classes=10, output_size=(HEIGHT, WIDTH))

    seconds = side_by_side({"encode": encode_all}, repetitions=20)["encode"]
    rate = FRAMES / seconds
    row("targets of 20 objects, 10 classes, 144×80 cells", f"{rate:.0f} frames/s (target 500)")
    assert rate >= 500
