"""`dvc repro` itself killed in the middle of a stage: nothing of it goes on, and the next one completes the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mobile_centernet.mlops.lineage import folder_digest
from tests.end_to_end.project import ROOT, copy_project, run

MORE = {"train_teacher.model": "hrnet_w16_lite", "train_teacher.pretrain.epochs": 3}
STAGES = [  # a stage, its output, and what is there when it has begun
    ("prepare_ivslab", "data/prepared/ivslab", ".work/prepare_ivslab.lock"),
    pytest.param(
        ("pretrain_teacher", "data/models/teacher_pretrained", ".work/pretrain_teacher/*/last.ckpt"),
        marks=[pytest.mark.slow, pytest.mark.timeout(3000)],
    ),
]


@pytest.mark.parametrize("case", STAGES, ids=lambda case: case[0])
def test_dvc_repro_killed_in_mid_stage_and_run_again_gives_the_same_digests(
    case: tuple[str, str, str], tmp_path: Path
) -> None:
    stage, out, begun = case
    undisturbed = copy_project(tmp_path / "undisturbed", MORE)
    done = run(undisturbed, "dvc", "repro", stage)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    project = as_before(stage, out, undisturbed, tmp_path / "project")
    kill_repro(project, stage, lambda: any(project.glob(begun)))
    for _ in range(600):
        if not processes_in(project):
            break
        time.sleep(0.1)
    assert processes_in(project) == []
    assert stage not in yaml.safe_load((project / "dvc.lock").read_text())["stages"]

    again = run(project, "dvc", "repro", stage)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert f"Running stage '{stage}'" in again.stdout
    assert folder_digest(project / out) == folder_digest(undisturbed / out)
    outs: list[dict[str, Any]] = [
        yaml.safe_load((place / "dvc.lock").read_text())["stages"][stage]["outs"] for place in (project, undisturbed)
    ]
    assert outs[0] == outs[1]
    assert run(project, "dvc", "status", stage).stdout.strip() == "Data and pipelines are up to date."


def as_before(stage: str, out: str, source: Path, project: Path) -> Path:
    """A copy of the project as it was before that stage ran; DVC remembers nothing of it."""
    shutil.copytree(source, project, symlinks=True)
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    del lock["stages"][stage]
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    shutil.rmtree(project / ".dvc/cache/runs")
    shutil.rmtree(project / out)
    shutil.rmtree(project / ".work")
    return project


def kill_repro(project: Path, stage: str, when: Callable[[], bool]) -> None:
    """Start `dvc repro` and kill it alone, as the out-of-memory killer would, when its stage has come so far."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(project), "DVC_NO_ANALYTICS": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    with (project / "killed.log").open("w") as log:
        process = subprocess.Popen(["dvc", "repro", stage], cwd=project, env=env, stdout=log, stderr=log)
    for _ in range(6000):
        if when():
            break
        assert process.poll() is None, (project / "killed.log").read_text()[-3000:]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -9


def processes_in(project: Path) -> list[str]:
    """Command lines of what runs with the project as its current directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == project:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has just ended
            continue
    return [command for command in found if command]


def test_a_second_process_of_a_stage_waits_for_the_first(tmp_path: Path) -> None:
    """As when only the shell between was killed: both would write the same files."""
    hold = (
        "import sys; from steps.__main__ import single_instance\n"
        "with single_instance('class_weights'): print('held', flush=True); sys.stdin.read()"
    )
    command, pipe, env = [sys.executable, "-c", hold], subprocess.PIPE, {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdin and first.stdout and first.stdout.readline() == "held\n"
        with subprocess.Popen(
            command, cwd=tmp_path, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as second:
            assert second.stdin and second.stdout and second.stderr
            second.stdin.close()  # it ends as soon as it holds the lock
            said = second.stderr.readline()
            assert "class_weights: another process runs this stage here; waiting until it ends" in said
            assert second.poll() is None
            first.stdin.close()
            assert second.stdout.read() == "held\n" and second.wait(timeout=60) == 0
