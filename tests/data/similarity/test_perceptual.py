"""Perceptual hashes: copies are near, other views far, and the nearest is found exactly."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from mobile_centernet.data.similarity import perceptual
from mobile_centernet.data.similarity.perceptual import BITS, NEAR_BITS, distance, earlier, nearest, perceptual_hash
from tests.helpers.views import view


def test_the_hash_is_the_sign_of_the_lowest_frequencies() -> None:
    """Against scipy's DCT of Pillow's reduction: only bits near the median may fall on the other side."""
    image = view(8, (256, 256))
    grey = np.asarray(Image.fromarray(image).convert("L").resize((64, 64), Image.Resampling.BOX), np.float64)
    lowest = dctn(grey, norm="ortho")[:16, :16].ravel()
    expected = np.packbits(lowest > np.median(lowest[1:]))
    assert distance(perceptual_hash(image), expected) <= 6


def test_copies_are_near_and_others_are_far() -> None:
    original = view(1, (180, 320))
    own = perceptual_hash(original)
    small = cv2.resize(original, (160, 90), interpolation=cv2.INTER_AREA)
    recompressed = cv2.imdecode(cv2.imencode(".jpg", original, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
    for copy in (small, recompressed, (original * 0.6).astype(np.uint8)):
        assert distance(own, perceptual_hash(copy)) < NEAR_BITS
    for other in (view(2), original[:, ::-1], cv2.rotate(original, cv2.ROTATE_180)):
        assert distance(own, perceptual_hash(np.ascontiguousarray(other))) > 2 * NEAR_BITS


def test_the_nearest_of_many_is_that_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "TILE", 7)
    rng = np.random.default_rng(0)
    some, others = (rng.integers(0, 256, (count, BITS // 8), dtype=np.uint8) for count in (20, 33))
    others[10] = some[4]
    every = np.array([[distance(one, two) for two in others] for one in some])
    distances, rows = nearest(some, others)
    assert distances.tolist() == every.min(axis=1).tolist() and distances[4] == 0 and rows[4] == 10
    assert rows.tolist() == every.argmin(axis=1).tolist()
    own = np.array([[distance(one, two) for two in some] for one in some])
    expected = [BITS + 1, *(own[place, :place].min() for place in range(1, 20))]
    assert nearest(some, some, earlier)[0].tolist() == expected


def test_nothing_has_no_neighbours() -> None:
    none = np.zeros((0, BITS // 8), np.uint8)
    assert nearest(none, none)[0].tolist() == []
    assert nearest(np.zeros((2, BITS // 8), np.uint8), none)[0].tolist() == [BITS + 1] * 2
