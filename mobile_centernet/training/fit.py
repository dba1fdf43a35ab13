"""One training run: Lightning's loop around DetectorTraining, resumable epoch by epoch, best weights by mAP@0.5."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from numpy.typing import NDArray
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from mobile_centernet.data.convert import Converted
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.data.training.balance import repeat_factors
from mobile_centernet.data.training.loader import TrainingSamples, labelled_frames, training_loader
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.training.callbacks import History, Record, ScoreEpoch
from mobile_centernet.training.checkpoints import AtomicCheckpoints
from mobile_centernet.training.module import DetectorTraining, Schedule


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how one run trains.

    precision:      fp32, bf16 or auto (bf16 where the processor has it)
    ema_decay:      of the weights' moving average, a step; 0: none, else the average is what is scored and kept
    distill_epochs: in how many of the first epochs the teacher takes part, None: in all; a teacher that is much
                    larger than its student helps early and hinders late (Cho and Hariharan, ICCV 2019)
    distill_unlabelled: whether unlabelled frames join the batches of those epochs, for the distillation terms alone
    devices:        GPUs of this machine, or processes where there is none, that share every batch; each normalises its
                    share of the batch and of the loss by itself, so that two devices give other weights than one
    rare_classes:   a class in fewer than this share of the frames is drawn more often (`balance.repeat_factors`)
    """

    epochs: int
    batch_size: int
    schedule: Schedule
    seed: int
    workers: int = 1
    precision: str = "auto"
    ema_decay: float = 0.0
    distill_epochs: int | None = None
    distill_unlabelled: bool = False
    rare_classes: float = 0.0
    devices: int = 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a run leaves: the student carries the best epoch's weights, `history` has one record an epoch."""

    best_map50: float
    best_epoch: int
    history: list[Record]


def fit(
    student: CenterNet,
    criterion: Criterion,
    plan: Plan,
    *,
    train_set: PreparedSet,
    validation_set: PreparedSet,
    input_size: tuple[int, int],
    augmentation: Augmentation | None,
    work: Path,
    fingerprint: str,
    teacher: CenterNet | None = None,
    pseudo_labels: Mapping[str, Converted] | None = None,
    on_epoch: Callable[[Record], None] = lambda record: None,
) -> Fitted:
    """Train `student` in place and leave the weights of the epoch with the best validation mAP@0.5 in it.

    `work` keeps the checkpoints: a run that was killed goes on from its last finished epoch when `fit` is called
    again with the same `fingerprint` (a digest of everything that the result depends on).
    Unlabelled training frames are left out, but for those named in `pseudo_labels`, which train as labelled, and for
    `plan.distill_unlabelled`.
    `on_epoch` is handed every epoch's record: epoch, seconds, learning_rate, map50, loss and loss/<term>.

    Raises:
        DataError: a split has no labelled frame (for training, distilling unlabelled ones in every epoch is enough).
        UserError: `work` holds the checkpoint of another training, or unlabelled frames shall be distilled without a
            teacher.
    """
    _quiet_lightning()
    student.train()  # Lightning leaves a module in the mode it finds it in, and a fitted student is in eval mode
    pl.seed_everything(plan.seed, workers=True, verbose=False)
    samples = TrainingSamples(
        train_set,
        input_size=input_size,
        augmentation=augmentation,
        seed=plan.seed,
        unlabelled=plan.distill_unlabelled,
        pseudo_labels=pseudo_labels,
    )
    _check_frames(samples, validation_set, plan, teacher)
    module = DetectorTraining(
        nn.utils.convert_conv2d_weight_memory_format(student, torch.channels_last),
        criterion,
        plan.schedule,
        fingerprint=fingerprint,
        teacher=teacher,
        distill_epochs=plan.distill_epochs,
        ema_decay=plan.ema_decay,
    )
    score = ScoreEpoch(validation_set, input_size)
    together = plan.devices > 1
    history = History(work / "history.jsonl", _nothing if together else on_epoch)
    checkpoints = ModelCheckpoint(
        work,
        filename="best",
        monitor="map50",
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    # Not `save_last=True`: that writes only when an epoch is the best so far, and a killed run would lose the others.
    last = ModelCheckpoint(work, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=plan.devices,
        strategy="ddp_spawn" if together else "auto",  # this process stays the only one that writes outputs
        use_distributed_sampler=False,  # EpochBatches shares the frames out
        max_epochs=plan.epochs,
        precision=resolve_precision(plan.precision),  # type: ignore[arg-type]  # Lightning lists its literals
        callbacks=[score, history, checkpoints, last, TQDMProgressBar(refresh_rate=5)],
        plugins=[AtomicCheckpoints()],
        logger=False,
        log_every_n_steps=1,
        enable_model_summary=False,
        default_root_dir=work,
    )
    batches = training_loader(
        samples,
        batch_size=plan.batch_size,
        seed=plan.seed,
        workers=plan.workers,
        unlabelled_epochs=plan.distill_epochs,
        factors=_factors(samples, plan.rare_classes),
    )
    with _told_by_processes():
        trainer.fit(module, batches, ckpt_path=_last_checkpoint(work), weights_only=True)
    if together:  # the records were made in another process
        history = History(work / "history.jsonl", on_epoch)
        for record in history.records:
            on_epoch(record)
    best = torch.load(work / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    student.load_state_dict(module.scored.state_dict())
    student.cpu().eval()
    best_epoch = int(best["epoch"])
    best_map50 = next(record["map50"] for record in history.records if record["epoch"] == best_epoch)
    return Fitted(best_map50, best_epoch, history.records)


def _check_frames(samples: TrainingSamples, validation_set: PreparedSet, plan: Plan, teacher: CenterNet | None) -> None:
    """Every epoch must have frames to train on, every epoch's weights frames to score on, every device its share."""
    if plan.batch_size % plan.devices:
        raise UserError(
            f"hardware.devices {plan.devices}: expected a batch size that is a multiple of it, found {plan.batch_size}"
        )
    taught = 0 if teacher is None else plan.epochs if plan.distill_epochs is None else plan.distill_epochs
    if plan.distill_unlabelled and not taught:
        raise UserError("unlabelled frames learn from a teacher alone: expected epochs with one, found none")
    always_some = samples.labelled > 0 or (len(samples) > 0 and taught >= plan.epochs)
    for prepared, enough in ((samples.prepared, always_some), (validation_set, bool(labelled_frames(validation_set)))):
        if not enough:
            raise DataError(f"{prepared.root}: expected labelled frames in split '{prepared.split}', found none")


def _nothing(record: Record) -> None:
    """What the training processes do with a record: they have no tracking server."""


@contextmanager
def _told_by_processes() -> Iterator[None]:
    """Our own sentences, out of the traceback that a training process sends."""
    try:
        yield
    except ProcessRaisedException as error:
        kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
        if kind.startswith(UserError.__module__):
            raise UserError(sentence) from error
        raise


def _factors(samples: TrainingSamples, rare_classes: float) -> NDArray[np.float64] | None:
    """How often each labelled frame is drawn; None: each once an epoch."""
    if not rare_classes:
        return None
    return repeat_factors(samples.labels(), len(samples.prepared.classes), rare_classes)


def resolve_precision(wanted: str) -> str:
    """Lightning's word for fp32, bf16 or auto. Without bf16 instructions bf16 on a CPU is about four times slower."""
    if wanted == "auto":
        wanted = "bf16" if torch.cuda.is_available() or _cpu_has_bf16() else "fp32"
    return {"fp32": "32-true", "bf16": "bf16-mixed"}[wanted]


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _last_checkpoint(work: Path) -> Path | None:
    last = work / "last.ckpt"
    return last if last.exists() else None


def _quiet_lightning() -> None:
    """Only what a user can act on: no adverts, no hints about the number of workers."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists.*",
        ".*is smaller than the logging.*",
        ".*LeafSpec.* is deprecated.*",
        ".*in eval mode at the start of training.*",  # the moving average, which belongs there
    ):
        warnings.filterwarnings("ignore", message)
