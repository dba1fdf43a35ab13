"""Both dvc.yaml name exactly the code that a stage imports: nothing missing, nothing idle."""

import ast
from pathlib import Path

import pytest
import yaml

from steps.__main__ import STAGES
from tests.helpers.imports import NEUTRAL, ROOT, closure, imported_in, imported_packages

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ABLATION = yaml.safe_load((ROOT / "ablation/dvc.yaml").read_text())["stages"]
# dvc.yaml says why: another download of everything is not worth an edit of steps/fetch.py.
# And an edit shall not have the student start from another champion.
WITHOUT_CODE = ("fetch_bdd100k", "fetch_ivslab", "fetch_field", "fetch_champion")


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in WITHOUT_CODE])
def test_a_stage_depends_on_the_packages_that_it_imports(stage: str) -> None:
    module = f"steps/{STAGES[stage]}.py"
    listed = {path for path in DVC[stage]["deps"] if path.split("/")[0] in ("mobile_centernet", "steps", "sample")}
    assert listed == {module, *imported_packages(ROOT / module)}


@pytest.mark.parametrize("stage", ["teachers", "students", "distilled"])
def test_a_row_of_the_ablation_depends_on_data_and_settings_alone_and_finds_its_finished_run(stage: str) -> None:
    """ablation/dvc.yaml says why: hours of training are not worth an edit. The row's own fingerprint decides."""
    described = ABLATION[stage]
    assert [path for path in described["deps"] if path.endswith(".py") or "mobile_centernet" in path] == []
    assert described["outs"] == [{"runs/${item.row.name}/${item.seed}": {"persist": True}}]


def test_the_ablation_s_table_depends_on_the_files_that_its_command_imports() -> None:
    """Files, not packages: outside its own folder DVC cannot leave out what Python caches in packages."""
    module = ROOT / "steps/ablation.py"
    tree = ast.parse(module.read_text(encoding="utf-8"))
    table = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "table")
    code = {module, *(file for file in closure(imported_in(table)) if file.name != "__init__.py")}
    listed = [path for path in ABLATION["table"]["deps"] if path.endswith(".py")]
    assert sorted(listed) == sorted(f"../{file.relative_to(ROOT).as_posix()}" for file in code)


def test_what_is_left_out_exists() -> None:
    assert all(Path(ROOT, path).exists() for path in NEUTRAL)
