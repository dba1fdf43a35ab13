"""dvc.yaml and the steps package say the same: names, order, and which params every stage reads."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from mobile_centernet.mlops import training
from mobile_centernet.mlops.params import Params, load_params
from mobile_centernet.mlops.stages import ListedParams, listed_params
from steps.__main__ import STAGES, load_stage

ROOT = Path(__file__).resolve().parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_dvc_and_steps_name_the_same_stages() -> None:
    assert list(DVC) == list(STAGES)
    for name, stage in DVC.items():
        assert stage["cmd"] == f"python -m steps {name}"
        assert callable(load_stage(name))


def test_every_dependency_inside_the_project_exists_or_is_made_by_a_stage() -> None:
    made = [out for stage in DVC.values() for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    paths = [next(iter(out)) if isinstance(out, dict) else out for out in made]
    for name, stage in DVC.items():
        for dependency in stage["deps"]:
            if "${" in dependency:
                continue
            known = (ROOT / dependency).exists() or any(
                dependency == path or dependency.startswith(path + "/") for path in paths
            )
            assert known, f"{name}: {dependency}"


def test_every_listed_section_exists_in_params() -> None:
    fields = {field.alias or name for name, field in Params.model_fields.items()}
    for name, stage in DVC.items():
        assert set(stage.get("params", [])) <= fields, name


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_reads_every_section_that_dvc_lists_for_it(name: str) -> None:
    """The other direction, that it reads no other, is enforced when it runs (ListedParams)."""
    source = inspect.getsource(import_module(f"steps.{STAGES[name]}"))
    if STAGES[name] == "train":
        source += inspect.getsource(training)
    read = {
        node.attr.rstrip("_")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    assert set(DVC[name].get("params", [])) <= read


def test_a_section_that_is_not_listed_cannot_be_read() -> None:
    params = ListedParams(
        load_params(ROOT / "params.yaml"), "class_weights", listed_params(ROOT / "dvc.yaml")["class_weights"]
    )
    assert params.class_weights is not None
    with pytest.raises(AttributeError, match=r"class_weights reads params section .seed., which"):
        _ = params.seed
