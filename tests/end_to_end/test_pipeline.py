"""The whole pipeline by a real `dvc repro` in a copy of the project, on a budget of seconds."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SMALL: Mapping[str, object] = {
    "fetch_bdd100k.sample": {"train_frames": 24, "val_frames": 12},
    "fetch_ivslab.sample": {"videos": 12, "frames_per_video": 11, "test_frames": 2},
    "prepare_ivslab.split": {"val": 0.25, "test": 0.25},
    "store.max_size": {"width": 160, "height": 90},
    "input_size": {"width": 96, "height": 64},
    "hardware.workers": 0,
    "export.parity_frames": 2,
    "train_teacher.pretrain.epochs": 1,
    "train_teacher.finetune.epochs": 1,
    "distill_student.pretrain.epochs": 1,
    "distill_student.finetune.epochs": 1,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC checkout of the project's own files with a small budget in params.yaml."""
    folder = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if name != "dvc.lock" and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in SMALL.items():
        change(params, key, value)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (["git", "init", "-q"], ["git", "add", "-A"], [*GIT_AUTHOR, "commit", "-qm", "project"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


GIT_AUTHOR = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]


def change(params: dict[str, object], key: str, value: object) -> None:
    *sections, last = key.split(".")
    place = params
    for section in sections:
        place = place[section]  # type: ignore[assignment]
    assert last in place, key
    place[last] = value


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command with this interpreter's tools first on the path; the copy's own code, not the installed one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(project), "DVC_NO_ANALYTICS": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def reproduced(project: Path) -> Path:
    done = run(project, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return project


def test_every_promised_file_is_there(reproduced: Path) -> None:
    metrics = json.loads((reproduced / "data/reports/metrics.json").read_text())
    for who in ("teacher", "student"):
        assert 0 <= metrics[who]["map50"] <= 1
        assert set(metrics[who]["ap50"]) == {"vehicle", "pedestrian", "scooter", "bicycle"}
    assert metrics["measured_on"]["source"] == "synthetic clips"
    graph = onnx.load(reproduced / "data/export/model.fp32.onnx")
    onnx.checker.check_model(graph, full_check=True)
    plan = json.loads((reproduced / "data/export/engine_plan.json").read_text())
    assert plan["status"] == "engine not built: no CUDA device" or plan["engine"]
    page = (reproduced / "data/reports/index.html").read_text()
    assert "synthetic" in page and page.count("data:image/") >= 10


def test_the_quarantine_holds_the_planted_dirt(reproduced: Path) -> None:
    report = json.loads((reproduced / "data/prepared/ivslab/report.json").read_text())
    kinds = {finding["kind"] for finding in report["findings"]}
    assert {"missing_image", "unreadable_image", "unreadable_label", "nan_box", "inverted_box", "outside_box"} <= kinds
    assert all(finding["item"] and finding["expected"] for finding in report["findings"])
    clean = json.loads((reproduced / "data/prepared/bdd100k/report.json").read_text())
    assert clean["findings"] == []  # no dirt is planted there, so every finding would be a reader's mistake


def test_mlflow_holds_the_runs_and_version_1(reproduced: Path) -> None:
    with sqlite3.connect(f"file:{reproduced / 'mlflow.db'}?mode=ro", uri=True) as database:
        runs = dict(database.execute("select name, status from runs"))
        versions = database.execute("select name, version from model_versions").fetchall()
        tags = dict(database.execute("select key, value from model_version_tags"))
        metrics = {name for (name,) in database.execute("select distinct key from metrics")}
    stages = {"train_teacher", "distill_student", "evaluate", "register"}
    assert {name: status for name, status in runs.items() if name in stages} == dict.fromkeys(stages, "FINISHED")
    assert versions == [("mobile-centernet", 1)]
    assert {"git_commit", "params_sha256", "bdd100k_sha256", "ivslab_sha256", "map50", "onnx_sha256"} <= set(tags)
    assert {"finetune/loss/heatmap", "finetune/loss/pairwise", "finetune/map50", "student.map50"} <= metrics


def test_a_second_repro_does_nothing(reproduced: Path) -> None:
    again = run(reproduced, "dvc", "repro")
    assert again.returncode == 0
    assert "Data and pipelines are up to date." in again.stdout
    assert "Running stage" not in again.stdout


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("subsample_ivslab.stride", 5, {"subsample_ivslab"}),
        ("class_weights.gamma", 0.5, {"class_weights"}),
        ("loss.lambda_pairwise", 5.0, {"train_teacher", "distill_student"}),
        ("distill_student.finetune.epochs", 2, {"distill_student"}),
        ("report.score_threshold", 0.5, {"report"}),
        ("evaluate.split", "val", {"evaluate", "export", "report"}),
        ("export.parity_frames", 3, {"export"}),
        ("register.name", "another", {"register"}),
    ],
)
def test_a_changed_value_touches_the_stages_that_read_it_and_no_other(
    reproduced: Path, key: str, value: object, stages: set[str]
) -> None:
    before = (reproduced / "params.yaml").read_text()
    params = yaml.safe_load(before)
    change(params, key, value)
    (reproduced / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    try:
        status = json.loads(run(reproduced, "dvc", "status", "--json").stdout)
    finally:
        (reproduced / "params.yaml").write_text(before)
    assert set(status) == stages


def test_the_same_file_is_not_registered_twice(reproduced: Path) -> None:
    again = run(reproduced, sys.executable, "-m", "steps", "register")
    assert again.returncode == 0, again.stderr
    assert "version 1 already holds this file" in again.stdout


def test_the_summary_says_what_came_out(reproduced: Path) -> None:
    summary = run(reproduced, sys.executable, "-m", "steps.summary").stdout
    for part in ("teacher", "student", "synthetic clips", "data/reports/index.html", "mlflow ui"):
        assert part in summary


def test_a_misspelt_key_is_one_sentence(reproduced: Path) -> None:
    before = (reproduced / "params.yaml").read_text()
    (reproduced / "params.yaml").write_text(before.replace("jpeg_quality", "jpg_quality"))
    try:
        failed = run(reproduced, sys.executable, "-m", "steps", "prepare_bdd100k")
    finally:
        (reproduced / "params.yaml").write_text(before)
    assert failed.returncode == 2
    assert "store.jpg_quality: unknown key" in failed.stderr
    assert "Traceback" not in failed.stderr
