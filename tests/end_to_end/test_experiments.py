"""Experiments by a real `dvc exp run`, in a project of one stage: tracked in one place, registered by nobody."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import registry_project as small
from tests.pipelines.toy import environment

DVC_YAML = """\
stages:
  export:
    cmd: python make_model.py
    params: [seed]
    deps: [make_model.py]
    outs: [data/export, data/reports/parity.json, data/reports/index.html]
    metrics: [data/reports/metrics.json]
"""
MAKE_MODEL_PY = """\
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.tracking import tracking
from tests.helpers import registry_project as small
params = load_params(paths.PARAMS)
with tracking.run("export", params, ["seed"]) as run:
    small.export_model(small.GOOD, f"seed {params.seed}")
    run.log({"map50": 0.5})
"""
IDENTITY = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def run(project: Path, *arguments: str) -> str:
    env = environment(**IDENTITY)
    command = [sys.executable, "-m", *arguments] if arguments[0] != "git" else list(arguments)
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One stage that makes a model in no time, committed, run and registered."""
    small.make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    small.write_params("tiny")
    (tmp_path / ".dvc").mkdir()
    for name, text in {
        "dvc.yaml": DVC_YAML,
        "make_model.py": MAKE_MODEL_PY,
        ".dvc/config": "[core]\n    analytics = false\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": "/data/export/\n/data/reports/\n/.work/\n/mlflow.*\n/mlartifacts/\n__pycache__/\n",
    }.items():
        (tmp_path / name).write_text(text)
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "commit", "-qm", "a project")
    run(tmp_path, "dvc", "repro", "-q")
    run(tmp_path, "steps", "register")
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "commit", "-qm", "a run")
    return tmp_path


def versions(project: Path) -> list[tuple[int, str]]:
    """Number and commit of every version."""
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        found = "select version, value from model_version_tags where key = 'git_commit' order by version"
        return [(int(number), commit) for number, commit in database.execute(found)]


@pytest.mark.slow
def test_of_two_experiments_one_is_applied_and_registered_and_no_other(project: Path) -> None:
    head = run(project, "git", "rev-parse", "HEAD").strip()
    run(project, "dvc", "exp", "run", "--temp", "--name", "first", "-S", "seed=1")
    run(project, "dvc", "exp", "run", "--queue", "--name", "second", "-S", "seed=2")
    run(project, "dvc", "exp", "run", "--run-all")
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        tagged = "select t.value, count(distinct t.run_uuid) from tags t where t.key = ? group by t.value"
        experiments = dict(database.execute(tagged, ["dvc_exp"]))
        aliases = dict(database.execute("select alias, version from registered_model_aliases"))
        parents = database.execute("select count(*) from tags where key = 'mlflow.parentRunId'").fetchone()
    assert experiments == {"first": 2, "second": 2}  # the stage's run, and the run of the experiment above it
    assert parents == (3,)
    assert (len(versions(project)), aliases) == (1, {"challenger": 1})
    assert list((project / ".dvc/tmp/exps").rglob("mlflow.db")) == []

    run(project, "dvc", "exp", "apply", "second")
    assert "didn't change, skipping" in run(project, "dvc", "repro")
    run(project, "steps", "register")
    run(project, "steps", "register")
    assert versions(project)[1:] == [(2, f"{head}-dirty")]  # params.yaml is not committed yet
    assert json.loads((project / "data/reports/registration.json").read_text())["version"] == 2

    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("seed: 2\n", "seed: 3\n"))
    shutil.rmtree(project / "data/export")
    (project / "data/export").mkdir()
    os.chdir(project)
    small.export_model(small.HALF, "by hand")
    with pytest.raises(AssertionError, match="found export stale: `dvc repro` first"):
        run(project, "steps", "register")
    assert len(versions(project)) == 2


@pytest.mark.slow
def test_an_audit_rebuilds_the_chain_of_a_version_and_names_what_a_remote_has_lost(project: Path) -> None:
    bare = project.with_name(f"{project.name}.git")
    run(project, "git", "clone", "-q", "--bare", ".", str(bare))
    run(project, "git", "remote", "add", "origin", str(bare))
    run(project, "git", "fetch", "-q", "origin")
    store = project.with_name(f"{project.name}-store")
    run(project, "dvc", "remote", "add", "-q", "--default", "store", str(store))
    run(project, "dvc", "push", "-q")
    run(project, "steps.promote")
    said = run(project, "steps.audit", "champion")
    commit = run(project, "git", "rev-parse", "HEAD").strip()
    for part in (
        f"committed by {commit[:7]}",
        "data/export: 2 objects, 2 in the cache, 2 in the DVC remote",
        ": passed",
    ):
        assert part in said
    assert "audit.jsonl" in said and "wrong" not in said

    outs = yaml.safe_load((project / "dvc.lock").read_text())["stages"]["export"]["outs"]
    (lost,) = (out["md5"] for out in outs if out["path"] == "data/reports/metrics.json")
    for place in (store, project / ".dvc/cache"):
        for path in place.rglob(lost[2:]):
            path.unlink()
    with pytest.raises(AssertionError, match=f"wrong  data  .*nowhere: {lost[:12]}"):
        run(project, "steps.audit", "1")


@pytest.mark.slow
def test_without_the_registry_that_it_was_registered_in_a_promotion_says_so_and_registering_again_helps(
    project: Path,
) -> None:
    for path in project.glob("mlflow.db*"):
        path.unlink()
    with pytest.raises(AssertionError, match="the registry has none: python -m steps register makes the first"):
        run(project, "steps.promote")
    run(project, "steps", "register")
    run(project, "steps.promote")
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        aliases = dict(database.execute("select alias, version from registered_model_aliases"))
    assert aliases == {"challenger": 1, "champion": 1}
