"""Four nights of an unattended retraining in a fresh checkout: `make demo-retraining` runs it and prints each night."""

import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.plain_footage import film, shuffle_labels
from tests.end_to_end.project import copy_project, run

PHASE = {"batch_size": 4, "learning_rate": 1e-3, "milestones": [], "warmup_steps": 5, "ema_decay": 0.9}
ONE_EPOCH = {"epochs": 1, **PHASE}
TEN_EPOCHS = {"epochs": 10, **PHASE, "batch_size": 2, "milestones": [8], "ema_decay": 0.99, "warmup_steps": 20}
LIMITS = {"min_map50": 0.05, "min_ap50": {"default": 0.05}, "resamples": 300, "max_latency_ms": 5000}

# A mirror of the registry as ZenML shows it: stage by version, and how the runs ended.
LOOK = """
import json
from pipelines.settings import prepare_environment
prepare_environment()
from zenml.client import Client
client = Client()
stages = {each.name: each.stage for each in client.list_model_versions(model="mobile-centernet")}
runs = [run.status.value for run in client.list_pipeline_runs(pipeline_name="retraining")]
print(json.dumps([stages, runs]))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with its own footage folder, one class, and a student that trains for ten short epochs."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # batches of two small pictures: a second thread would only wait
    params = yaml.safe_load((Path(__file__).resolve().parents[2] / "params.yaml").read_text())
    kept = {name: kind for name, kind in params["prepare_bdd100k"]["class_map"].items() if kind == "vehicle"}
    others = dict.fromkeys(params["prepare_bdd100k"]["class_map"].keys() - kept.keys())
    return copy_project(
        tmp_path / "project",
        {
            "classes": ["vehicle"],
            "fetch_bdd100k.sample": {"train_frames": 12, "val_frames": 6, "seed": 1},
            "fetch_ivslab.source": "folder",
            "fetch_ivslab.path": str(tmp_path / "footage"),
            "prepare_bdd100k.class_map": kept | others,
            "prepare_ivslab.class_map": {"vehicle": "vehicle"},
            "prepare_ivslab.split": {"val": 0.15, "test": 0.0},  # the test set is a folder of its own, and stays
            "store.max_size": {"width": 160, "height": 96},
            "hardware.precision": "fp32",
            "train_teacher.model": "hrnet_w16_lite",
            "train_teacher.pretrain": ONE_EPOCH,
            "train_teacher.finetune": ONE_EPOCH,
            "distill_student.model": "hrnet_w16_lite",
            "distill_student.pretrain": {**ONE_EPOCH, "distill_epochs": 0},
            "distill_student.finetune": {**TEN_EPOCHS, "distill_epochs": 0},
            # A point of mAP on 40 frames is less than one detection of a model that is as little trained as day 1's.
            "export.precisions": {"fp32": params["export"]["precisions"]["fp32"] | {"map50_drop": 0.01}},
            "promotion": params["promotion"] | LIMITS,
        },
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_days(project: Path) -> None:
    footage = project.parent / "footage"
    train = footage / "ivslab_train"
    film(footage / "ivslab_test", "test", 40, seed=5)

    film(train, "monday", 60, seed=1)
    assert night(project, "day 1, the first footage") == 0
    assert aliases(project) == {"challenger": 1, "champion": 1}

    assert night(project, "day 2, nothing new") == 10
    assert aliases(project) == {"challenger": 1, "champion": 1}

    film(train, "wednesday", 90, seed=2)
    watched = run(project, sys.executable, "-m", "pipelines", "retraining", "--watch").stdout
    assert "fetch_ivslab" in watched
    assert night(project, "day 3, new frames") == 0
    assert aliases(project) == {"challenger": 2, "champion": 2, "previous": 1}
    first, second = facts(project)["champion"], facts(project)["challenger"]
    assert second["map50"] > first["map50"]

    film(train, "thursday", 150, seed=3)
    shuffle_labels(train, "thursday", seed=4)
    assert night(project, "day 4, a batch with shuffled labels") == 12
    assert aliases(project) == {"challenger": 3, "champion": 2, "previous": 1}
    assert "better than the champion" in json.loads(decision(project).read_text())["failed"]
    assert night(project, "day 5, rejected once, not every night") == 10

    stages, runs = json.loads(run(project, sys.executable, "-c", LOOK).stdout.splitlines()[-1])
    assert stages == {"v1": "archived", "v2": "production", "v3": "staging"}
    assert runs == ["completed"] * 3


def night(project: Path, what: str) -> int:
    """Retrain as a schedule would; the exit code. DVC must have nothing left to do."""
    started = time.monotonic()
    done = run(project, sys.executable, "-m", "pipelines", "retraining")
    seconds = time.monotonic() - started
    said = done.stdout.splitlines()
    told = [line for line in said if line.startswith(("mobile-centernet version", "retraining: "))]
    print(f"\n{what}: exit code {done.returncode} after {seconds:.0f} s; " + "; ".join(dict.fromkeys(told)), flush=True)
    assert done.returncode != 1, done.stdout[-4000:] + done.stderr[-4000:]
    status = run(project, "dvc", "status", "dvc.yaml").stdout
    assert "up to date" in status, status
    return done.returncode


def aliases(project: Path) -> dict[str, int]:
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        return dict(database.execute("select alias, version from registered_model_aliases"))


def decision(project: Path) -> Path:
    return project / "data/reports/promotion/decision.json"


def facts(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decision(project).read_text())["facts"]
    return found
