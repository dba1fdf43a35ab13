"""Overlays change their keys of params.yaml and nothing else, and leave what `dvc exp run -S` changes one line of."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest
import yaml
from click.testing import CliRunner
from dvc.utils.hydra import apply_overrides
from pydantic import BaseModel

from mobile_centernet.mlops.lineage import flatten
from mobile_centernet.mlops.overlays import REPLACED, main
from mobile_centernet.mlops.params import Params
from tests.helpers.shipped import BASE, CHOICES, ROOT, shipped_params, shipped_text

OVERLAYS = sorted((ROOT / "overlays").glob("*.yaml"))


def keys(tree: dict[str, Any]) -> set[str]:
    """Dotted, down to mappings whose keys a user chooses."""
    found = set()
    for name, _ in flatten(tree):
        parts = name.split(".")
        free = next((number for number, part in enumerate(parts, 1) if part in REPLACED), len(parts))
        found.add(".".join(parts[:free]))
    return found


@pytest.mark.parametrize("file", OVERLAYS, ids=lambda file: file.stem)
def test_every_key_of_an_overlay_is_one_of_the_base(file: Path) -> None:
    overlay, base = (yaml.safe_load(path.read_text()) for path in (file, BASE))
    assert keys(overlay) - keys(base) - {"ablation.pretrain"} == set()  # one that is empty here is a section there
    assert keys(base) >= {"ablation.pretrain.epochs"}


@pytest.mark.parametrize("overlays", CHOICES)
def test_every_choice_loads_and_keeps_every_comment(overlays: tuple[str, ...]) -> None:
    assert shipped_params(*overlays).laid_over == overlays
    before, after = ([line.partition("#")[2] for line in text.splitlines()] for text in texts(overlays))
    assert [line for line in after if line] == [line for line in before if line]


def texts(overlays: tuple[str, ...]) -> tuple[str, str]:
    return BASE.read_text(), shipped_text(*overlays)


def test_every_overlay_is_tried() -> None:
    assert {name for overlays in CHOICES for name in overlays} == {file.stem for file in OVERLAYS}


def test_an_overlay_has_its_own_values_and_the_base_s_others() -> None:
    base, street = shipped_params(), shipped_params("street")
    assert set(street.prepare_bdd100k.class_map) == set(street.classes)  # replaced whole
    assert street.prepare_bdd100k.split.own_val == "test" and street.train_teacher.finetune.epochs == 40
    assert street.train_teacher.finetune.batch_size == base.train_teacher.finetune.batch_size == 8
    assert (street.loss, street.trust, street.seed) == (base.loss, base.trust, base.seed)
    both = shipped_params("street", "students_street")
    assert both.hardware.precision == "bf16" and both.classes == street.classes


@pytest.mark.parametrize("overlays", CHOICES)
def test_dvc_changes_one_line_for_one_param(overlays: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(shipped_text(*overlays))
    before = file.read_text().splitlines()
    apply_overrides(file, ["loss.lambda_pairwise=7", "train_teacher.init=weights.pth"])
    after = file.read_text().splitlines()
    assert len(after) == len(before)
    changed = [new.split("#")[0].rstrip() for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["  lambda_pairwise: 7", "  init: weights.pth"]


def mappings(model: type[BaseModel]) -> Iterator[str]:
    """Names of the fields that hold keys of the user's choice."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation]
        if get_origin(field.annotation) is UnionType:
            kinds = list(get_args(field.annotation))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from mappings(kind)
            elif get_origin(kind) is dict:
                yield name


def test_mappings_whose_keys_a_user_chooses_are_replaced_whole() -> None:
    assert set(mappings(Params)) == REPLACED


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "overlays", tmp_path / "overlays")
    shutil.copy(BASE, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_says_every_change_and_twice_is_once(project: Path) -> None:
    said = CliRunner().invoke(main, ["quick"])
    assert said.exit_code == 0
    assert "input_size.width: 192 → 96" in said.output and "laid_over: [] → ['quick']" in said.output
    text = (project / "params.yaml").read_text()
    assert text == shipped_text("quick")
    assert CliRunner().invoke(main, ["quick"]).output == "params.yaml: quick laid over it\n"
    assert (project / "params.yaml").read_text() == text
    listed = CliRunner().invoke(main, []).output.splitlines()
    assert [line.split()[1] for line in listed if line.startswith("*")] == ["quick"]
    assert len(listed) == len(OVERLAYS)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["street"], "expected no overlay, or street; found paper laid over it"),
        (["street", "paper"], "found paper laid over it: name these first, or go back: git checkout params.yaml"),
        (["paper", "fast"], "overlays/fast.yaml: expected an overlay (mine, odd, paper,"),
        (["paper", "mine"], "overlays/mine.yaml: expected keys of params.yaml, found loss.lambda_piecewise"),
        (["paper", "odd"], "params.yaml: input_size: Value error, width and height must be multiples of 32"),
    ],
)
def test_what_cannot_be_laid_over_changes_nothing(project: Path, names: list[str], sentence: str) -> None:
    assert CliRunner().invoke(main, ["paper"]).exit_code == 0
    Path("overlays/mine.yaml").write_text("loss: {lambda_piecewise: 1.0}\n")
    Path("overlays/odd.yaml").write_text("input_size: {width: 100}\n")
    before = Path("params.yaml").read_bytes()
    refused = CliRunner().invoke(main, names)
    assert refused.exit_code == 2 and sentence in refused.output
    assert Path("params.yaml").read_bytes() == before
