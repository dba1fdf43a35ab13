"""Fixtures that many tests share."""

from pathlib import Path

import pytest

pytest_plugins = ["tests.helpers.releases", "tests.helpers.registry_fixtures"]

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def _shared(folder: str) -> Path:
    path = (SHARED / folder).resolve()
    if not path.is_dir():
        pytest.skip(f"needs the real material in {SHARED.name}/{folder} beside the project, which is not here")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photos, labels and clips; see its README."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_oracles() -> Path:
    """Numbers computed with the reference implementations."""
    return _shared("oracles")
