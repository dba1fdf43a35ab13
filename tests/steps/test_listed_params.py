"""Which stages every key of params.yaml re-runs: what dvc.yaml lists, as a table and by a real DVC."""

import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from pydantic import BaseModel

from mobile_centernet.mlops.lineage import flatten
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.stages import RESULTLESS, listed_params
from tests.helpers.shipped import CHOICES, shipped_text

ROOT = Path(__file__).resolve().parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LISTED = listed_params(ROOT / "dvc.yaml")
TREE = yaml.safe_load((ROOT / "params.yaml").read_text())

TEACHER = {"pretrain_teacher", "train_teacher"}
STUDENT = {"pretrain_student", "distill_student"}
STAGES_OF = {
    "seed": {"prepare_bdd100k", "prepare_ivslab"} | TEACHER | STUDENT,
    "classes": {"prepare_bdd100k", "prepare_ivslab"},
    "fetch_bdd100k": {"fetch_bdd100k"},
    "fetch_ivslab": {"fetch_ivslab"},
    **{f"fetch_field.{key}": {"fetch_field"} for key in ("source", "path", "url", "sample", "reviewed")},
    "fetch_field.test_share": {"prepare_ivslab"},
    "subsample_ivslab": {"subsample_ivslab"},
    "prepare_bdd100k": {"prepare_bdd100k"},
    **{f"prepare_ivslab.{key}": {"prepare_ivslab"} for key in ("class_map", "unmapped", "split")},
    **{
        f"prepare_ivslab.{key}": {"prepare_ivslab", "subsample_ivslab", "fetch_field"}
        for key in ("video_from", "split_file")
    },
    "store": {"prepare_bdd100k", "prepare_ivslab"},
    "class_weights": {"class_weights"},
    "input_size": {"prepare_bdd100k", "prepare_ivslab"} | TEACHER | STUDENT,
    "augment": TEACHER | STUDENT,
    "loss.alpha": TEACHER | STUDENT,
    "loss.beta": TEACHER | STUDENT,
    "loss.lambda_size": TEACHER | STUDENT,
    "loss.lambda_offset": TEACHER | STUDENT,
    "loss.lambda_pixelwise": STUDENT,
    "loss.lambda_pairwise": STUDENT,
    "loss.kl_direction": STUDENT,
    "unlabelled.mode": {"pseudo_label"} | STUDENT,
    "unlabelled.score_threshold": {"pseudo_label"},
    "sampling.rare_classes": TEACHER | STUDENT,
    "hardware.precision": TEACHER | STUDENT,
    "hardware.devices": TEACHER | STUDENT,
    "train_teacher.model": {"pretrain_teacher"},  # the next stages change with what it leaves
    "train_teacher.init": {"pretrain_teacher"},
    "train_teacher.pretrain": {"pretrain_teacher"},
    "train_teacher.finetune": {"train_teacher"},
    "distill_student.model": {"pretrain_student"},
    "distill_student.init": {"fetch_champion"} | STUDENT,
    "distill_student.replay": {"distill_student"},
    "register.name": {"fetch_champion"},
    "trust": {"fetch_champion"},
    "distill_student.pretrain": {"pretrain_student"},
    "distill_student.finetune": {"distill_student"},
    "evaluate.split": {"evaluate", "export", "report"},
    "export": {"export"},
    "report.score_threshold": {"report"},
}
"""A key, with all below it, and the stages that a change of it re-runs, before any output changes."""
UNLISTED = {
    **dict.fromkeys(RESULTLESS, "changes no result"),
    "laid_over": "says where values come from, and changes none",
    "register.bundle": "read by `python -m steps register`, which is no stage",
    "retraining": "read by `python -m pipelines retraining`",
    "promotion": "read by `python -m steps.promote`, which is no stage",
    "ablation": "read by the stages of ablation/dvc.yaml",
}


def below(leaf: str, key: str) -> bool:
    return f"{leaf}.".startswith(f"{key}.")


LEAVES = [name for name, _ in flatten(TREE)]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_key_is_listed_by_the_stages_that_read_it_and_no_other(leaf: str) -> None:
    (key,) = (key for key in (*STAGES_OF, *UNLISTED) if below(leaf, key))
    listing = {stage for stage, keys in LISTED.items() if any(below(leaf, k) for k in keys)}
    assert listing == STAGES_OF.get(key, set())


@pytest.mark.parametrize("overlays", CHOICES)
def test_every_shipped_choice_has_every_key_that_is_listed(overlays: tuple[str, ...]) -> None:
    """DVC refuses a params.yaml without one."""
    leaves = [leaf for leaf, _ in flatten(yaml.safe_load(shipped_text(*overlays)))]
    for stage, keys in LISTED.items():
        assert [key for key in keys if not any(below(leaf, key) for leaf in leaves)] == [], stage


@pytest.mark.parametrize("key", sorted({key for keys in LISTED.values() for key in keys}))
def test_a_key_that_is_listed_has_no_default(key: str) -> None:
    """So `python -m steps` refuses a params.yaml without it, as DVC does."""
    section: Any = Params
    for part in key.split("."):
        assert issubclass(section, BaseModel)
        field = next(field for name, field in section.model_fields.items() if part in (name, field.alias))
        assert field.is_required(), key
        section = field.annotation


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repo]:
    """A DVC project of all stages, without their code, that takes stand-ins for what they made."""
    project = tmp_path_factory.mktemp("project")
    made = [out for stage in DVC.values() for out in (*stage["outs"], *stage.get("metrics", ()))]
    stages = {}
    for name, stage in DVC.items():
        deps = [
            dep for dep in stage["deps"] if any(below(dep.replace("/", "."), out.replace("/", ".")) for out in made)
        ]
        stages[name] = {**stage, "cmd": "false", "deps": deps}
    for path in {
        path for stage in stages.values() for path in (*stage["deps"], *stage["outs"], *stage.get("metrics", ()))
    }:
        file = project / path if Path(path).suffix else project / path / "content.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (project / "params.yaml").write_text(yaml.safe_dump(TREE))
    with chdir(project):
        repo = Repo.init(no_scm=True)
        repo.commit(force=True)
        assert repo.status() == {}
        yield repo
        repo.close()


def another(value: object) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case list():
            return [*value, "another"]
        case _:
            return "another"


def test_dvc_finds_every_listed_key_changed_in_the_stages_that_list_it(finished: Repo) -> None:
    tree = json.loads(json.dumps(TREE))
    for leaf in LEAVES:
        *sections, last = leaf.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[last] = another(place[last])
    file = Path(finished.root_dir, "params.yaml")
    file.write_text(yaml.safe_dump(tree))
    status = finished.status()
    file.write_text(yaml.safe_dump(TREE))
    changed = {stage: entry["changed deps"]["params.yaml"] for stage, (entry,) in status.items()}
    assert changed == {stage: dict.fromkeys(keys, "modified") for stage, keys in LISTED.items() if keys}


def test_another_video_of_ivslab_re_runs_no_pretraining(finished: Repo) -> None:
    """What it changes: the prepared set, its class weights, its pseudo-labels, what was trained on it."""
    project = Path(finished.root_dir)
    for place in (
        "raw/ivslab",
        "prepared/ivslab",
        "class_weights/ivslab.json",
        "pseudo_labels/ivslab.json",
        "models/teacher",
        "models/student",
    ):
        path = project / "data" / place
        file = path if path.suffix else path / "content.json"
        file.unlink()
        file.write_text("another video")
    stale = set(finished.status())
    assert stale >= {"prepare_ivslab", "class_weights", "train_teacher", "distill_student", "evaluate"}
    assert not stale & {"prepare_bdd100k", "pretrain_teacher", "pretrain_student"}
