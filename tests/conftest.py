"""Fixtures that many tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sample import traffic, write_bdd100k
from sample.clip import FPS, Clip

pytest_plugins = ["tests.helpers.releases", "tests.helpers.registry_fixtures"]

SHARED_DATA = (Path(__file__).resolve().parents[2] / "shared" / "data").resolve()


@pytest.fixture(autouse=True)
def _messages() -> Iterator[None]:
    """Tests see the project's messages in `caplog`; what `setup_logging` does in a test ends with it."""
    loggers = [logging.getLogger(name) for name in ("mobile_centernet", "steps", "pipelines")]
    for logger in loggers:
        logger.setLevel(logging.INFO)
    yield
    for logger in loggers:
        logger.handlers.clear()
        logger.propagate = True


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photos, labels and clips that may not be redistributed; see the README beside them."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real photos and clips in shared/data beside the project, which may not travel with it")
    return SHARED_DATA


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Numbers computed with the reference implementations; see its README."""
    return Path(__file__).resolve().parent / "oracles"


@pytest.fixture(scope="session")
def bdd100k_sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders in BDD100K's layout, 1280×720: a drawn one, and where they are the real frames."""
    drawn = tmp_path_factory.mktemp("street") / "bdd100k"
    write_bdd100k(drawn, seed=1, train_frames=8, val_frames=0, workers=1)
    real = SHARED_DATA / "bdd100k-sample"
    return [drawn, real] if real.is_dir() else [drawn]


@pytest.fixture(scope="session")
def ivslab_sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders in ivslab's layout: in some videos boxes are four zeros, others were handed in twice.

    A made one, and where they are three real videos, for which the same holds: two contributors handed in the same
    photos (looked at by eye), and a third wrote boxes of four zeros.
    """
    made = tmp_path_factory.mktemp("ivslab")
    for number, video in enumerate(("first.mp4", "later.mp4", "zeros.mp4", "test.mp4")):
        top = made / ("ivslab_test" if video == "test.mp4" else "ivslab_train")
        images, labels = (top / kind / "All" / video for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for frame in range(3):
            view = 1 if video == "later.mp4" and frame == 1 else 10 * number + frame  # the view of the first's second
            coarse = np.random.default_rng(view).integers(0, 256, (9, 16, 3)).astype(np.uint8)
            image = cv2.resize(coarse, (320, 180), interpolation=cv2.INTER_CUBIC)
            name = f"{video}_{frame:05d}"
            cv2.imwrite(str(images / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95 - 10 * number])
            corners = (0, 0, 0, 0) if video == "zeros.mp4" and frame < 2 else (20, 30, 120, 90)
            sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            box = "".join(f"<{side}>{at}</{side}>" for side, at in sides)
            thing = f"<object><name>vehicle</name><bndbox>{box}</bndbox></object>"
            size = "<size><width>320</width><height>180</height></size>"
            text = f"<annotation><filename>{name}.jpg</filename>{size}{thing}</annotation>"
            (labels / f"{name}.xml").write_text(text)
    street = SHARED_DATA / "street" / "ivslab"
    if not street.is_dir():
        return [made]
    real = tmp_path_factory.mktemp("real")
    for kind in ("JPEGImages", "Annotations"):
        (real / f"ivslab_train/{kind}/All").mkdir(parents=True)
        for video in ("numan_01.mp4", "pias_08.mp4", "pias_14.mp4"):
            (real / f"ivslab_train/{kind}/All/{video}").symlink_to(street / f"ivslab_train/{kind}/All/{video}")
    (real / "ivslab_test").symlink_to(street / "ivslab_test")
    return [made, real]


@pytest.fixture(scope="session")
def street_photos(bdd100k_sets: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images of `bdd100k_sets`: JPEG, 1280×720."""
    folder = tmp_path_factory.mktemp("photos")
    for root in bdd100k_sets:
        for photo in sorted((root / "images").rglob("*.jpg")):
            (folder / photo.name).symlink_to(photo)
    return folder


@pytest.fixture(scope="session")
def drives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips from behind a windscreen: a drawn one of four seconds, and where they are the real ones."""
    drawn = tmp_path_factory.mktemp("drives") / "drawn.mp4"
    rng = np.random.default_rng(1)
    clip = Clip(traffic.draw_scene(rng, 4.0, traffic.AMERICAN), (360, 640), rng)
    writer = cv2.VideoWriter(str(drawn), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (640, 360))
    for index in range(40):
        writer.write(clip.frame(index)[0])
    writer.release()
    return [drawn, *sorted((SHARED_DATA / "videos").glob("*.mp4"))]
