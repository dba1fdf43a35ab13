"""numpy and Pillow give OpenCV's pixels, bit for bit, so that a device without OpenCV detects the same."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet import images
from mobile_centernet.errors import DataError
from mobile_centernet.images import opencv, pillow

CAMERAS = [(720, 1280), (1080, 1920), (480, 640), (180, 320), (360, 640), (1000, 333)]


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("camera", CAMERAS)
def test_usual_cameras(camera: tuple[int, int]) -> None:
    image, size = noise(0, *camera), (320, 576)
    np.testing.assert_array_equal(pillow.resize(image, size), opencv.resize(image, size))


@pytest.mark.parametrize("seed", range(3))
def test_odd_sizes_larger_smaller_and_mixed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(80):
        height, width, target_height, target_width = (int(side) for side in rng.integers(1, 130, 4))
        if rng.random() < 0.25:  # whole factors round differently
            height, width = (target_height * int(rng.integers(1, 6)), target_width * int(rng.integers(1, 6)))
        image, size = noise(int(rng.integers(1 << 30)), height, width), (target_height, target_width)
        np.testing.assert_array_equal(
            pillow.resize(image, size), opencv.resize(image, size), f"{image.shape} to {size}"
        )


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".png", 1), (".png", 3), (".png", 4), (".jpg", 1), (".jpg", 3), (".bmp", 3)]
)
def test_pictures_decode_the_same(tmp_path: Path, suffix: str, channels: int) -> None:
    image = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 12, channels)).astype(np.uint8), (131, 97))
    path = tmp_path / f"picture{suffix}"
    cv2.imwrite(str(path), image)
    np.testing.assert_array_equal(pillow.read_image(path), opencv.read_image(path))


def test_photos_decode_the_same(street_photos: Path) -> None:
    for photo in sorted(street_photos.iterdir()):
        np.testing.assert_array_equal(pillow.read_image(photo), opencv.read_image(photo))


def test_broken_pictures_are_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "whole.jpg"), noise(0, 90, 120))
    whole = (tmp_path / "whole.jpg").read_bytes()
    for content in (b"", b"\0" * 99, whole[: len(whole) // 2], whole[:30], b"<html>"):
        (tmp_path / "broken.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"broken\.jpg: expected an? (whole )?image, "):
            pillow.read_image(tmp_path / "broken.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        pillow.read_image(tmp_path / "missing.jpg")


def test_opencv_is_used_where_it_is_and_not_missed_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.BACKEND == "opencv" and images.resize is opencv.resize
    monkeypatch.setitem(sys.modules, "cv2", None)  # makes `import cv2` an ImportError
    monkeypatch.delitem(sys.modules, "mobile_centernet.images.opencv")
    spec = importlib.util.spec_from_file_location("pixels_again", images.__file__)
    assert spec and spec.loader
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again.BACKEND == "numpy" and again.resize is pillow.resize
