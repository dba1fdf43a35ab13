"""A training of seconds with everything in it that a resumed one must restore, and processes that die in it."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.callbacks import AtomicCheckpoints
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import DetectorTraining, Schedule

INPUT = (64, 96)
EPOCHS = 3


def draw_set(root: Path) -> Path:
    """Eight frames with one bright rectangle each, six to train on."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(8):
        image = np.full((*INPUT, 3), 60, np.uint8)
        x, y = rng.integers(4, 40), rng.integers(4, 24)
        cv2.rectangle(image, (int(x), int(y)), (int(x) + 40, int(y) + 30), (230, 230, 230), -1)
        cv2.imwrite(str(root / f"{i}.jpg"), image)
        split = "train" if i < 6 else "val"
        box = Box("car", (float(x), float(y), float(x) + 41, float(y) + 31))
        frames.append(Frame(root / f"{i}.jpg", str(i), str(i), split, FrameState.LABELLED, (box,)))
    raw = RawSet(root, tuple(frames), ())
    prepare(raw, frames, ClassMap(("car",), {"car": "car"}), root / "set", max_size=INPUT, workers=1, progress=False)
    return root / "set"


def train_fully(
    prepared: Path, work: Path, fingerprint: str = "a", on_epoch: Callable[[dict[str, float]], None] = lambda _: None
) -> tuple[CenterNet, FitResult]:
    """Augmentation, moving average, warm-up over an epoch's end, a milestone, a teacher in the first two epochs."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    teacher, student = build_model("hrnet_w16_lite", 1), build_model("hrnet_w16_lite", 1)
    fitted = fit(
        student,
        Criterion([1.0]),
        TrainConfig(
            EPOCHS,
            2,
            Schedule(1e-3, milestones=(2,), warmup_steps=4),
            seed=3,
            workers=0,
            precision="fp32",
            ema_decay=0.9,
            distill_epochs=2,
        ),
        TrainingData(
            PreparedSet(prepared, "train"),
            PreparedSet(prepared, "val"),
            INPUT,
            Augmentation(scale=(0.8, 1.3), shift=0.1, flip=0.5, colour=0.4, lighting=0.1),
        ),
        work=work,
        fingerprint=fingerprint,
        teacher=teacher,
        on_epoch=on_epoch,
    )
    return student, fitted


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(prepared: Path, work: Path, point: str) -> None:
    """Train in this process until the kernel kills it at `point`: in the second epoch or later, but for the first."""
    if point == "in the middle of the first epoch":
        _die(DetectorTraining, "on_train_batch_end", when=lambda module, *_: module.global_step == 2)
    elif point == "in the middle of an epoch":
        _die(DetectorTraining, "on_train_batch_end", when=lambda module, *_: module.global_step == 5)
    elif point == "when the epoch is recorded and not saved":
        train_fully(prepared, work, on_epoch=lambda record: die() if record["epoch"] == 1 else None)
    elif point == "with half a checkpoint on the disk":
        _die(torch, "save", when=_writes_half)
    elif point == "between the best checkpoint and the last one":
        _die(AtomicCheckpoints, "save_checkpoint", when=_is_the_second_last)
    elif point == "right after the checkpoint":
        _die(AtomicCheckpoints, "save_checkpoint", when=_is_the_second_last, behind=True)
    elif point == "at the very end":
        _die(torch, "load", when=lambda path, **_: Path(path).name == "best.ckpt")
    train_fully(prepared, work)


def _writes_half(checkpoint: dict[str, Any], file: Any) -> bool:
    if checkpoint["epoch"] == 1:
        file.write(b"half of it")
        file.flush()
    return bool(checkpoint["epoch"] == 1)


def _is_the_second_last(_self: object, checkpoint: dict[str, Any], path: str, **_: Any) -> bool:
    return checkpoint["epoch"] == 1 and Path(path).name == "last.ckpt"


def _die(owner: Any, name: str, *, when: Callable[..., bool], behind: bool = False) -> None:
    """Have the function `name` of `owner` die before it does anything, or behind it, at the call for which `when`."""
    function = getattr(owner, name)

    def dying(*arguments: Any, **named: Any) -> Any:
        due = when(*arguments, **named)
        if due and not behind:
            die()
        result = function(*arguments, **named)
        if due:
            die()
        return result

    setattr(owner, name, dying)


def train_on_a_full_disk(prepared: Path, work: Path) -> None:
    """From the second epoch on no file may grow beyond a tenth of a checkpoint."""

    def fill(record: dict[str, float]) -> None:
        if record["epoch"] == 1:
            size = (work / "last.ckpt").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 10, size // 10))

    train_fully(prepared, work, on_epoch=fill)
