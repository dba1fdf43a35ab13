"""Models and images, and bundles of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.bundle.build import build_bundle
from mobile_centernet.bundle.manifest import Manifest
from tests.helpers.file_server import file_server
from tests.helpers.lab import Forks, Lab
from tests.helpers.offers import Bundle
from tests.helpers.tiny import tiny_detector
from tests.helpers.trust import MODEL, Fleet


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three precisions of one detector and two images."""
    folder = tmp_path_factory.mktemp("material")
    for precision in ("fp32", "fp16", "int8"):
        tiny_detector(folder / f"student.{precision}.onnx", precision)
    rng = np.random.default_rng(0)
    for number, size in enumerate([(72, 128), (64, 96)]):
        smooth = cv2.resize(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8), size[::-1])
        cv2.imwrite(str(folder / f"street{number}.jpg"), smooth)
    return folder


Build = Callable[..., Manifest]


@pytest.fixture(scope="session")
def build(material: Path) -> Build:
    """build(out, **changes): a bundle."""

    def make(out: Path, **changes: object) -> Manifest:
        settings: dict[str, object] = {
            "name": "street",
            "version": "7",
            "pictures": sorted(material.glob("*.jpg")),
            "thresholds": {"default": 0.3, "piéton": 0.25},
            "latency_ms": {"default": 100, "orin": 20.5},
            "lineage": {"git_commit": "abc", "map50": "0.5"},
        }
        models = changes.pop("models", sorted(material.glob("*.onnx")))
        return build_bundle(out, models, **{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def bundle_once(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    path = tmp_path_factory.mktemp("bundle") / "street-12.tar"
    build(path)
    return path


@pytest.fixture
def bundle(bundle_once: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    path = tmp_path / "street-12.tar"
    path.write_bytes(bundle_once.read_bytes())
    return path


@pytest.fixture(scope="session")
def releases(build: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Bundle]:
    """By version: releases 12, 13 and 14 of one model, each another detector."""
    folder = tmp_path_factory.mktemp("releases")
    made = {}
    for number in (12, 13, 14):
        model = tiny_detector(folder / f"{number}.onnx", seed=number)
        path = folder / f"street-{number}.tar"
        build(path, version=str(number), models=[model], latency_ms={"default": 10_000.0})
        made[number] = Bundle(path, str(number))
    return made


@pytest.fixture(scope="session")
def fleet_once(releases: dict[int, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Read only: a repository that lists all releases and names none yet, and its keys."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    for bundle in releases.values():
        fleet.repository().publish_bundle(bundle.content, MODEL, bundle.version, bundle.digest)
    return fleet


@pytest.fixture
def lab(fleet_once: Fleet, tmp_path: Path) -> Iterator[Lab]:
    """A device, and a repository that offers nothing yet."""
    with file_server() as server:
        lab = Lab(tmp_path, server, Fleet.copy(fleet_once.folder, tmp_path / "fleet"))
        lab.serve()
        lab.configure()
        yield lab


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def device(lab: Lab, releases: dict[int, Bundle]) -> Lab:
    """It runs release 12 and is offered 13."""
    lab.install(releases[12])
    lab.offer(releases[13])
    return lab
