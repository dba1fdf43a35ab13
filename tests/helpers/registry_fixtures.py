"""A small project with a registry of its own, shared by the tests of registering and promoting."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.registry_project import make_project


@pytest.fixture(scope="session")
def registry_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One database for all tests (making one takes seconds); each test registers under a name of its own."""
    folder = tmp_path_factory.mktemp("registry-project")
    make_project(folder)
    return folder


@pytest.fixture
def registry_project(registry_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as current directory, without what an earlier test left of its promotions."""
    monkeypatch.chdir(registry_folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # MLflow sets it; monkeypatch removes it again
    yield registry_folder
    for path in ("data/reports", "data/export", ".work", "held", "go", "audit.jsonl"):
        place = registry_folder / path
        shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
