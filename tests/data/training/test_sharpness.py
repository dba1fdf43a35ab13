"""Training sees the pixels that evaluation and devices see: its frames are stored small, but never too small."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import TrainingSamples
from mobile_centernet.images import read_image, resize
from mobile_centernet.images.headers import jpeg_size

STORED = (360, 640)
INPUTS = [(320, 576), (192, 320)]
SIZES = [
    (1080, 1920),
    (720, 1280),
    (360, 640),
    (960, 1280),
    (480, 640),
    (425, 640),
    (640, 480),
    (1280, 720),
    (623, 640),
]
LEAST_DB = 35.0


def natural(height: int, width: int) -> NDArray[np.uint8]:
    """Noise whose amplitude falls with frequency, as photographs' does, with a hard edge."""
    rng, image = np.random.default_rng(height * width), np.zeros((height, width, 3), np.float32)
    for octave in range(1, 9):
        coarse = rng.normal(0, 2.0 ** (7 - octave), (2**octave, 2**octave, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image[height // 2 :, width // 3 : width // 2] += 60
    return (image + 128).clip(0, 255).astype(np.uint8)


def assert_as_sharp(files: list[Path], input_size: tuple[int, int], tmp_path: Path) -> None:
    """The unaugmented training view beside the pixels that evaluation makes of the camera's own file."""
    frames = [Frame(file, file.stem, file.stem, "train", FrameState.LABELLED, ()) for file in files]
    raw, to_classes = RawSet(tmp_path, tuple(frames), ()), ClassMap(("car",), {"car": "car"})
    prepare(
        raw,
        frames,
        to_classes,
        tmp_path / "set",
        max_size=STORED,
        input_size=input_size,
        quality=92,
        workers=1,
        progress=False,
    )
    prepared = PreparedSet(tmp_path / "set", "train")
    samples = TrainingSamples(prepared, input_size=input_size, augmentation=None, seed=0)
    assert len(samples) == len(files)
    for position, file in enumerate(files):
        seen = samples[position]["image"].numpy().transpose(1, 2, 0).astype(float)
        error = float(np.mean((seen - resize(read_image(file), input_size)) ** 2))
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= LEAST_DB, f"{file.name}, stored {prepared.frame(position)}"


@pytest.mark.parametrize("input_size", INPUTS)
def test_images_of_every_shape_train_as_sharp_as_they_are_evaluated(
    input_size: tuple[int, int], tmp_path: Path
) -> None:
    files = [tmp_path / f"{height}x{width}.jpg" for height, width in SIZES]
    for file, size in zip(files, SIZES, strict=True):
        cv2.imwrite(str(file), natural(*size), [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert_as_sharp(files, input_size, tmp_path)


@pytest.mark.parametrize("input_size", INPUTS)
def test_real_photos_of_every_shape_do_too(input_size: tuple[int, int], shared_data: Path, tmp_path: Path) -> None:
    photos = sorted((shared_data / "street" / "bdd100k").rglob("*.jpg"))
    sizes = [jpeg_size(photo.read_bytes()) or (0, 1) for photo in photos]
    upright = [photo for photo, (height, width) in zip(photos, sizes, strict=True) if height * 1.5 > width]
    assert upright
    assert_as_sharp(sorted({*photos[::200], *upright[:8]}), input_size, tmp_path)
