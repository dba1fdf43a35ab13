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
