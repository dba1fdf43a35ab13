"""A copy of the project as a checkout of its own, on a budget of seconds."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SMALL: Mapping[str, object] = {
    "fetch_bdd100k.sample": {"train_frames": 24, "val_frames": 12},
    "fetch_ivslab.sample": {"videos": 12, "frames_per_video": 11, "test_frames": 2},
    "fetch_field.sample": {"frames": 8},
    "prepare_ivslab.split": {"val": 0.25, "test": 0.25},
    "store.max_size": {"width": 160, "height": 90},
    "input_size": {"width": 96, "height": 64},
    "hardware.precision": "fp32",
    "hardware.workers": 0,
    "export.parity_frames": 2,
    "train_teacher.pretrain.epochs": 1,
    "train_teacher.finetune.epochs": 1,
    "distill_student.pretrain.epochs": 1,
    "distill_student.pretrain.distill_epochs": 0,
    "distill_student.finetune.epochs": 1,
    "distill_student.finetune.distill_epochs": 1,
    "distill_student.finetune.distill_from": 0,
}


def copy_project(folder: Path, more: Mapping[str, object] | None = None) -> Path:
    """A git and DVC checkout of the project's own files with a small budget in params.yaml, and `more` changed."""
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
    for key, value in {**SMALL, **(more or {})}.items():
        change(params, key, value)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (["git", "init", "-q"], ["git", "add", "-A"], [*GIT_AUTHOR, "commit", "-qm", "project"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


GIT_AUTHOR = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]


def change(params: dict[str, Any], key: str, value: object) -> None:
    """Set one value of a params tree by its dotted name."""
    *sections, last = key.split(".")
    place = params
    for section in sections:
        place = place[section]
    assert last in place, key
    place[last] = value


def run(project: Path, *command: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
    """A command in `folder` with this interpreter's tools first on the path; the copy's own code, not the installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(project), "DVC_NO_ANALYTICS": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(command, cwd=project / folder, env=env, capture_output=True, text=True, check=False)
