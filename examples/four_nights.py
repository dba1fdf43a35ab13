"""`make demo-retraining`: four nights of an unattended retraining in a fresh checkout, and one that has nothing to do.

    monday     the first footage: the first model is promoted
    tuesday    nothing new: nothing is run
    wednesday  new frames: a better model is promoted
    thursday   a batch with shuffled labels: its model is rejected
    friday     rejected once, not every night

Prints each night. Exit code 0 when each ended as it should.
"""

import json
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import click
import yaml

from tests.end_to_end.plain_footage import film, shuffle_labels
from tests.end_to_end.project import copy_project, run

ROOT = Path(__file__).resolve().parents[1]
PROMOTED, NOTHING_NEW, REJECTED = 0, 10, 12
EXPECTED = (PROMOTED, NOTHING_NEW, PROMOTED, REJECTED, NOTHING_NEW)

PHASE = {"batch_size": 4, "learning_rate": 1e-3, "milestones": [], "warmup_steps": 5, "ema_decay": 0.9}
ONE_EPOCH = {"epochs": 1, **PHASE}
TEN_EPOCHS = {"epochs": 10, **PHASE, "batch_size": 2, "milestones": [8], "ema_decay": 0.99, "warmup_steps": 20}
LIMITS = {"min_map50": 0.05, "min_ap50": {"default": 0.05}, "resamples": 300, "max_latency_ms": 5000}


@dataclass(frozen=True)
class Night:
    """One retraining, as a schedule starts it.

    watched:    what `--watch` says beforehand: what would make it run
    said:       its own lines and, where it went wrong, the end of all
    left_to_do: what `dvc status` says afterwards
    aliases:    version of the registry by alias
    decision:   what the gate wrote last, with the facts and the checks that failed
    """

    what: str
    watched: str
    exit_code: int
    seconds: float
    said: str
    left_to_do: str
    aliases: dict[str, int]
    decision: dict[str, Any]


def main() -> int:
    """Exit 0 when every night ended as it should."""
    folder = Path(mkdtemp(prefix="demo-retraining-"))
    try:
        os.environ["OMP_NUM_THREADS"] = "1"  # batches of two small images: a second thread would only wait
        codes = []
        for night in nights(make_project(folder)):
            click.echo(f"\n{night.what}: exit code {night.exit_code} after {night.seconds:.0f} s; {night.said}")
            click.echo(f"aliases: {', '.join(f'{name} {version}' for name, version in sorted(night.aliases.items()))}")
            codes.append(night.exit_code)
        return 0 if tuple(codes) == EXPECTED else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_project(folder: Path) -> Path:
    """A checkout with its own footage folder beside it, one class, and a student that trains for ten short epochs."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    kept = {name: kind for name, kind in params["prepare_bdd100k"]["class_map"].items() if kind == "vehicle"}
    others = dict.fromkeys(params["prepare_bdd100k"]["class_map"].keys() - kept.keys())
    return copy_project(
        folder / "project",
        {
            "classes": ["vehicle"],
            "fetch_bdd100k.sample": {"train_frames": 12, "val_frames": 6, "seed": 1},
            "fetch_ivslab.source": "folder",
            "fetch_ivslab.path": str(folder / "footage"),
            "fetch_field.source": "none",
            "fetch_field.path": "data/upstream/field.json",
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
            "distill_student.finetune": {**TEN_EPOCHS, "distill_epochs": 0, "distill_from": 0},
            "unlabelled.mode": "skip",
            # A point of mAP on 40 frames is less than one detection of a model that is as little trained as day 1's.
            "export.precisions": {"fp32": params["export"]["precisions"]["fp32"] | {"map50_drop": 0.01}},
            "promotion": params["promotion"] | LIMITS,
        },
    )


def nights(project: Path) -> Iterator[Night]:
    """The story: each night is yielded when it is over, and the next batch of footage comes before the one after."""
    footage = project.parent / "footage"
    train = footage / "ivslab_train"
    film(footage / "ivslab_test", "test", 40, seed=5)

    film(train, "monday", 60, seed=1)
    yield retrain(project, "day 1, the first footage")
    yield retrain(project, "day 2, nothing new")

    film(train, "wednesday", 90, seed=2)
    yield retrain(project, "day 3, new frames")

    film(train, "thursday", 150, seed=3)
    shuffle_labels(train, "thursday", seed=4)
    yield retrain(project, "day 4, a batch with shuffled labels")
    yield retrain(project, "day 5, rejected once, not every night")


def retrain(project: Path, what: str) -> Night:
    """Retrain as a schedule would."""
    watched = run(project, sys.executable, "-m", "pipelines", "retraining", "--watch").stdout
    started = time.monotonic()
    done = run(project, sys.executable, "-m", "pipelines", "retraining")
    seconds = time.monotonic() - started
    output = done.stdout + done.stderr
    said = "; ".join(dict.fromkeys(re.findall(r"(?:mobile-centernet version|retraining: ).*", output)))
    with sqlite3.connect(f"file:{project / 'mlflow.db'}?mode=ro", uri=True) as database:
        aliases = dict(database.execute("select alias, version from registered_model_aliases"))
    return Night(
        what,
        watched,
        done.returncode,
        seconds,
        said if done.returncode in EXPECTED else output[-8000:],
        run(project, "dvc", "status", "dvc.yaml").stdout,
        aliases,
        json.loads((project / "data/reports/promotion/decision.json").read_text(encoding="utf-8")),
    )


if __name__ == "__main__":
    sys.exit(main())
