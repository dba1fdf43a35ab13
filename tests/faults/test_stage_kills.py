"""kill -9 in the middle of every data stage: run again as DVC would, each ends with the same bytes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OUTS = {
    "fetch_bdd100k": "data/raw/bdd100k",
    "fetch_ivslab": "data/raw/ivslab",
    "subsample_ivslab": "data/raw/ivslab_frames.json",
    "fetch_field": "data/raw/field",
    "prepare_bdd100k": "data/prepared/bdd100k",
    "prepare_ivslab": "data/prepared/ivslab",
    "class_weights": "data/class_weights",
}
SHARES = (0.4, 0.8)
"""Of a stage's writes, so many are over when it is killed: two fifths, four fifths."""

SCRIPT = """
import json, os, signal, sys
from steps.__main__ import main

writes = {}

def watch(event, arguments):  # Python reports every file that it opens for writing, and every renaming
    if event not in ("open", "os.rename") or not isinstance(arguments[0], (str, os.PathLike)):
        return
    mode = "w" if event == "os.rename" else arguments[1] or ""
    if set(mode) & set("wax+") and os.path.abspath(arguments[0]).startswith(os.getcwd() + os.sep):
        if stage == victim and writes[stage] == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        writes[stage] += 1

if __name__ == "__main__":
    victim, limit, *stages = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    for place, stage in enumerate(stages):
        writes[stage] = 0
        if place == 0:
            sys.addaudithook(watch)
        try:
            main([stage])
        except SystemExit as ended:
            if ended.code:
                raise
    print(json.dumps(writes))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The shipped settings with footage and frames of little."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["fetch_bdd100k"]["sample"] |= {"train_frames": 5, "val_frames": 2}
    params["fetch_ivslab"]["sample"] |= {"videos": 5, "frames_per_video": 3, "test_frames": 1}
    params["fetch_field"]["sample"] |= {"frames": 3}
    params["subsample_ivslab"] |= {"mode": "distinct"}
    params["store"]["max_size"] = {"width": 64, "height": 36}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "run.py").write_text(SCRIPT)
    shutil.copy2(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


def run(project: Path, victim: str, limit: int, *stages: str) -> tuple[int, str]:
    """Run stages, `victim` until so many of its writes are over; exit status and the last line."""
    command = [sys.executable, "run.py", victim, str(limit), *stages]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{project.parent}/runs.db"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode, (done.stdout.splitlines() or [""])[-1]


def digests(project: Path) -> dict[str, str]:
    """Of all that the stages have written; a kill may leave the hidden beginning of a file beside."""
    files = (path for path in (project / "data").rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def clear(out: Path) -> None:
    """What DVC does before it runs a stage."""
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)


@pytest.mark.slow
def test_killed_anywhere_and_run_again_every_stage_ends_with_the_same_bytes(project: Path) -> None:
    status, counted = run(project, "", 0, *OUTS)
    assert status == 0
    writes, whole = json.loads(counted), digests(project)
    assert len(whole) > 20 and all(count >= 2 for count in writes.values())
    unfinished: list[str] = []
    for victim in OUTS:
        for share in SHARES:
            stages = list(dict.fromkeys([*unfinished, victim]))  # first the one that was killed before
            for stage in stages:
                clear(project / OUTS[stage])
            status, _ = run(project, victim, round(share * (writes[victim] - 1)), *stages)
            assert status == -signal.SIGKILL, f"{victim} was not killed at {share:.0%} of its writes"
            unfinished = [victim]
    clear(project / OUTS[victim])
    assert run(project, "", 0, victim)[0] == 0
    assert digests(project) == whole
