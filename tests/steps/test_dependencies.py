"""dvc.yaml names exactly the code that a stage imports: no package missing, none idle."""

from pathlib import Path

import pytest
import yaml

from steps.__main__ import STAGES
from tests.helpers.imports import NEUTRAL, ROOT, imported_packages

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# dvc.yaml says why: another download of everything is not worth an edit of steps/fetch.py.
WITHOUT_CODE = ("fetch_bdd100k", "fetch_ivslab")


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in WITHOUT_CODE])
def test_a_stage_depends_on_the_packages_that_it_imports(stage: str) -> None:
    module = f"steps/{STAGES[stage]}.py"
    listed = {path for path in DVC[stage]["deps"] if path.split("/")[0] in ("mobile_centernet", "steps", "sample")}
    assert listed == {module, *imported_packages(ROOT / module)}


def test_what_is_left_out_exists() -> None:
    assert all(Path(ROOT, path).exists() for path in NEUTRAL)
