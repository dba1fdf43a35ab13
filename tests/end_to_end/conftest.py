"""The project copied and, once per module, reproduced."""

from pathlib import Path

import pytest

from tests.end_to_end.project import copy_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("project"))
