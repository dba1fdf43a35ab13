"""dvc.yaml and the steps package say the same: names, order, and which params every stage reads."""

import ast
import inspect
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mobile_centernet.mlops import training
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.registry import published
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


@pytest.mark.parametrize("name", list(STAGES))
def test_the_code_of_a_stage_reads_every_key_that_dvc_lists_for_it(name: str) -> None:
    """The other direction, that it reads no other, is enforced when it runs (ListedParams)."""
    source = inspect.getsource(import_module(f"steps.{STAGES[name]}"))
    if helper := {"train": training, "champion": published}.get(STAGES[name]):  # takes the params as they are
        source += inspect.getsource(helper)
    nodes = list(ast.walk(ast.parse(source)))
    called: dict[str, set[str]] = {"params": {""}}  # by the name of a variable: which sections it may stand for
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
            sides = [side.elts if isinstance(side, ast.Tuple) else [side] for side in (node.targets[0], node.value)]
            for variable, value in zip(*sides, strict=False):
                if (text := ast.unparse(value)).startswith("params."):
                    called.setdefault(ast.unparse(variable), set()).add(text.removeprefix("params.") + ".")
    read = {
        above + key.replace("_.", ".")  # params.register_ is the section register
        for node in nodes
        if isinstance(node, ast.Attribute)
        for variable, _, key in [ast.unparse(node).partition(".")]
        for above in called.get(variable, ())
    }
    handed_on = {ast.unparse(value) for node in nodes if isinstance(node, ast.Call) for value in node.args}
    starts = {f"{section}.{key}" for section in ("train_teacher", "distill_student") for key in ("model", "init")}
    for key in DVC[name].get("params", []):
        section = key.split(".")[0]
        assert key in read or (key in starts and section in read) or f"params.{section}" in handed_on, key


def test_a_key_that_is_not_listed_cannot_be_read() -> None:
    every = load_params(ROOT / "params.yaml")
    params: Any = ListedParams(every, "some_stage", ["loss.alpha", "input_size", "train_teacher.pretrain"])
    assert params.loss.alpha == every.loss.alpha
    assert params.input_size.hw == every.input_size.hw
    assert params.train_teacher.pretrain == every.train_teacher.pretrain
    assert params.hardware.workers == every.hardware.workers  # RESULTLESS
    for unlisted in ("seed", "loss.beta", "train_teacher.model", "hardware.devices"):
        with pytest.raises(
            AttributeError, match=f"some_stage reads the param '{unlisted}', which dvc.yaml does not list"
        ):
            attrgetter(unlisted)(params)


def test_a_stage_is_held_to_its_list() -> None:
    listed = listed_params(ROOT / "dvc.yaml")["class_weights"]
    params: Any = ListedParams(load_params(ROOT / "params.yaml"), "class_weights", listed)
    assert params.class_weights is not None
    with pytest.raises(AttributeError, match=r"class_weights reads the param .seed., which"):
        _ = params.seed
