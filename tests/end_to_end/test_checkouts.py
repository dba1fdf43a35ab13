"""What DVC finds stale, and what a second clone gets, with stand-ins for every stage's outputs: no stage runs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.project import GIT_AUTHOR, copy_project, run

SINGLE_FILES = ("source.json", "bdd100k.json", "ivslab.json", "history.jsonl")
TRAININGS = ("pretrain_teacher", "train_teacher", "pretrain_student", "distill_student")


def succeed(project: Path, *command: str) -> str:
    done = run(project, *command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def commit(project: Path, message: str) -> None:
    succeed(project, "git", "add", "-A")
    succeed(project, *GIT_AUTHOR, "commit", "-qm", message)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose outputs DVC takes for what its stages made, pushed to a remote in a folder."""
    base = tmp_path_factory.mktemp("finished")
    project = copy_project(base / "first")
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for out in (*stage["outs"], *stage.get("metrics", ())):
            path = project / out  # of some folders single files are dependencies
            for file in [path] if path.suffix else [path / name for name in SINGLE_FILES]:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f'{{"{out}": 1}}\n')
    succeed(project, "dvc", "commit", "-fq", *stages)
    succeed(project, "dvc", "remote", "add", "-q", "-d", "folder", str(base / "remote"))
    commit(project, "a run")
    succeed(project, "dvc", "push", "-q")
    return project


@pytest.fixture
def clone(finished: Path, tmp_path: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(finished), str(tmp_path / "second")], check=True)
    return tmp_path / "second"


@pytest.fixture
def edited(finished: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The project with one file of its code changed."""
    file = finished / request.param
    before = file.read_text()
    file.write_text(before + "\n")
    yield finished
    file.write_text(before)


@pytest.mark.parametrize(
    ("edited", "stages"),
    [
        ("mobile_centernet/reports/pages/style.css", {"report"}),
        ("mobile_centernet/agent/agent.py", set()),
        (
            "mobile_centernet/evaluation/coco_eval.py",
            {*TRAININGS, "pseudo_label", "evaluate", "export", "report"},
        ),
    ],
    indirect=["edited"],
)
def test_edited_code_makes_the_stages_stale_that_use_it_and_no_other(edited: Path, stages: set[str]) -> None:
    assert set(json.loads(succeed(edited, "dvc", "status", "--json"))) == stages


def test_in_a_clone_where_the_ablation_never_ran_dvc_has_nothing_to_complain_of(clone: Path) -> None:
    succeed(clone, "dvc", "pull")
    assert (clone / "data/export/source.json").is_file()
    said = succeed(clone, "dvc", "repro")
    assert said.count("didn't change, skipping") == 17 and "Running stage" not in said
    succeed(clone, "dvc", "checkout")
    assert succeed(clone, "dvc", "status").strip() == "Data and pipelines are up to date."


def test_an_experiment_is_applied_in_a_clone_where_the_ablation_never_ran(clone: Path) -> None:
    succeed(clone, "dvc", "pull")
    curves = clone / "data/reports/pr_curves.csv"
    curves.unlink()  # DVC's own file is read-only
    curves.write_text("another experiment\n")
    succeed(clone, "dvc", "commit", "-fq", "evaluate")
    succeed(clone, "git", "config", "user.name", "test")
    succeed(clone, "git", "config", "user.email", "test@localhost")
    succeed(clone, "dvc", "exp", "save", "--name", "another")
    succeed(clone, "git", "checkout", "-q", ".")
    succeed(clone, "dvc", "checkout")
    assert curves.read_text() != "another experiment\n"
    succeed(clone, "dvc", "exp", "apply", "another")
    assert curves.read_text() == "another experiment\n"


def test_the_ablation_s_own_project_names_its_stages_and_no_other(finished: Path) -> None:
    status = run(finished, "dvc", "status", "--json", folder="ablation")
    assert status.returncode == 0, status.stderr
    assert {name.split("@")[0] for name in json.loads(status.stdout)} == {"teachers", "students", "distilled", "table"}
