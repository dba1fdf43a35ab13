"""Fixtures that many tests share."""

from pathlib import Path

import pytest

pytest_plugins = ["tests.helpers.releases", "tests.helpers.registry_fixtures"]

SHARED_DATA = (Path(__file__).resolve().parents[2] / "shared" / "data").resolve()


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
