"""One training run: Lightning's loop around DetectorTraining, resumable epoch by epoch, best weights by mAP@0.5."""

import logging
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader

from mobile_centernet.data.convert import CheckedBoxes
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.data.training.balance import repeat_factors
from mobile_centernet.data.training.loader import (
    EpochBatches,
    Sample,
    TrainingSamples,
    labelled_frames,
    single_threaded,
)
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.processes import Launch
from mobile_centernet.training.callbacks import CHOICE, AtomicCheckpoints, History, Record, ScoreEpoch
from mobile_centernet.training.launcher import gather, process_group
from mobile_centernet.training.module import DetectorTraining, Schedule
from mobile_centernet.training.speed import AdaptThreads, Speed, ThreadTuner, speed_for

# What Lightning warns about and a user cannot act on: hints about the number of workers and the like.
NOISE = (
    ".*does not have many workers.*",
    ".*Checkpoint directory.*exists.*",
    ".*is smaller than the logging.*",
    ".*LeafSpec.* is deprecated.*",
    ".*sync_dist=True.*",  # the first process scores and tells the others
    ".*in eval mode at the start of training.*",  # the moving average, which belongs there
)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How long and how one run trains.

    precision:      fp32 (equal bytes on one machine), bf16 or auto (the faster one, see `speed`)
    ema_decay:      of the weights' moving average, per step; 0: none, else the average is what is scored and kept
    distill_epochs: in how many epochs the teacher takes part, None: in all
    distill_from:   the first of them: a step with a teacher, and with unlabelled frames, costs as much as two or three
                    without, and a student that can hardly find anything yet learns as much from labels
    distill_unlabelled: whether unlabelled frames join the batches of those epochs, for the distillation terms alone
    devices:        GPUs of this machine, or processes where there is none, that share every batch; each normalises its
                    share of the batch and of the loss by itself, so that two devices give other weights than one
    rare_classes:   a class in fewer than this share of the frames is drawn more often (`balance.repeat_factors`)
    gradient_clip:  largest norm of a step's gradient; 0: not limited
    accumulate:     batches per step: their gradients' mean is one of a batch so many times as large
    validate_every: epochs between two scores on the validation set; the last epoch is always scored
    replay:         share of `TrainingData.old` that an epoch draws
    checkpoint_every: epochs between two checkpoints from which a killed training resumes
    patience:       epochs without a better score after which training ends; None: it never ends early
    """

    epochs: int
    batch_size: int
    schedule: Schedule
    seed: int
    workers: int = 1
    precision: str = "auto"
    ema_decay: float = 0.0
    distill_epochs: int | None = None
    distill_from: int = 0
    distill_unlabelled: bool = False
    rare_classes: float = 0.0
    devices: int = 1
    gradient_clip: float = 0.0
    accumulate: int = 1
    validate_every: int = 1
    patience: int | None = None
    checkpoint_every: int = 1
    replay: float = 1.0

    @property
    def taught(self) -> range:
        """The epochs, from 0, in which the teacher takes part."""
        wanted = self.epochs if self.distill_epochs is None else self.distill_from + self.distill_epochs
        return range(self.distill_from, min(wanted, self.epochs))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What one run learns from and is scored on.

    input_size:    (height, width) that frames are resized to
    augmentation:  of training frames; None: they are only resized
    pseudo_labels: boxes by the name of an unlabelled training frame, which then trains as a labelled one
    old:           names of training frames that the network has learned from already
    """

    train_set: PreparedSet
    validation_set: PreparedSet
    input_size: tuple[int, int]
    augmentation: Augmentation | None
    pseudo_labels: Mapping[str, CheckedBoxes] | None = None
    old: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a run leaves: the student carries the best epoch's weights, `history` has one record per epoch.

    speed: how it ran.
    """

    best_map50: float
    best_epoch: int
    history: list[Record]
    speed: Speed


def fit(
    student: CenterNet,
    criterion: Criterion,
    config: TrainConfig,
    data: TrainingData,
    *,
    work: Path,
    fingerprint: str,
    teacher: CenterNet | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    speeds: Path | None = None,
) -> FitResult:
    """Train `student` in place and leave the weights of the epoch with the best validation mAP@0.5 in it.

    Where a launcher has started several processes (`Launch`), each calls it and they train together, over machines
    that share `work`: the first alone writes there and calls `on_epoch`, and all return the same.

    Unlabelled training frames are left out, but for those named in `data.pseudo_labels`, which train as labelled, and
    for `config.distill_unlabelled`.

    Args:
        work: keeps the checkpoints: a run that was killed continues after its last finished epoch when `fit` is called
            again with the same `fingerprint`.
        fingerprint: a digest of everything that the result depends on.
        teacher: what the student also learns from, frozen; None: from labels alone.
        on_epoch: is handed every epoch's record.
        speeds: JSON file in which this machine's measured speeds are kept; None: they are measured again.

    Raises:
        DataError: a split has no labelled frame (for training, distilling unlabelled ones in every epoch is enough).
        UserError: `work` holds the checkpoint of another training, unlabelled frames shall be distilled without a
            teacher, or a launcher's processes do not see the same.
    """
    launch = Launch.of()
    with process_group(launch):
        return _fit(student, criterion, config, data, launch, work, fingerprint, teacher, on_epoch, speeds)


def _fit(
    student: CenterNet,
    criterion: Criterion,
    config: TrainConfig,
    data: TrainingData,
    launch: Launch,
    work: Path,
    fingerprint: str,
    teacher: CenterNet | None,
    on_epoch: Callable[[Record], None] | None,
    speeds: Path | None,
) -> FitResult:
    """As `fit`, inside the process group."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    student.train()  # Lightning leaves a module in the mode it finds it in, and a fitted student is in eval mode
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32; bf16 convolutions do not use it
    pl.seed_everything(config.seed, workers=True, verbose=False)
    batches = _batches(data, config, launch, has_teacher=teacher is not None)
    sample = batches.collate_fn([batches.dataset[i] for i in next(iter(batches.batch_sampler))])  # type: ignore[arg-type]  # ours is one
    guide = teacher if config.taught else None
    threads, spawned = torch.get_num_threads(), launch.processes == 1 and config.devices > 1
    together, last = spawned or launch.processes > 1, work / "last.ckpt"
    speed = None
    if launch.leads:
        speed = speed_for(student, criterion, sample, config.precision, teacher=guide, work=work, cache=speeds)
    said = gather(launch, (fingerprint, last.exists(), speed))
    if len({(digest, begun) for digest, begun, _ in said}) > 1:
        found = "; ".join(
            f"process {rank}: {digest[:16]}, {'a' if begun else 'no'} checkpoint"
            for rank, (digest, begun, _) in enumerate(said)
        )
        raise UserError(f"{work}: expected that every process sees the same params, data and checkpoint, found {found}")
    speed = said[0][2]
    assert speed is not None  # noqa: S101 the first process leads
    module = DetectorTraining(
        nn.utils.convert_conv2d_weight_memory_format(student, speed.memory_format),
        criterion,
        config.schedule,
        fingerprint=fingerprint,
        teacher=teacher,
        distill_epochs=config.taught,
        ema_decay=config.ema_decay,
    )
    score = ScoreEpoch(data.validation_set, data.input_size, config.validate_every)
    history = History(work / "history.jsonl", None if spawned else on_epoch)
    adapt = [AdaptThreads(ThreadTuner(threads, speed.threads))] if config.precision != "fp32" and not together else []
    trainer = _trainer(config, launch, speed, [score, history, *adapt], work)
    torch.set_num_threads(speed.threads)
    try:
        trainer.fit(module, batches, ckpt_path=last if said[0][1] else None, weights_only=True)
    except ProcessRaisedException as error:
        # Re-raise a UserError from a spawned process without its remote traceback.
        kind, _, sentence = str(error).strip().splitlines()[-1].partition(": ")
        if kind.startswith(UserError.__module__):
            raise UserError(sentence) from error
        raise
    finally:
        torch.set_num_threads(threads)

    if together:  # the records were made in another process, which cannot hand them on
        history = History(work / "history.jsonl")
        if spawned and on_epoch is not None:
            for record in history.records:
                on_epoch(record)
    best = torch.load(work / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    student.load_state_dict(module.scored.state_dict())
    student.cpu().eval()
    best_epoch = int(best["epoch"])
    best_map50 = next(record["map50"] for record in history.records if record["epoch"] == best_epoch)
    gather(launch, best_epoch)  # the first process may delete `work` only now
    return FitResult(best_map50, best_epoch, history.records, speed)


def _batches(data: TrainingData, config: TrainConfig, launch: Launch, *, has_teacher: bool) -> DataLoader[Sample]:
    """The training batches, once it is sure that every epoch has frames to train on and to score on."""
    processes, told = config.devices, f"hardware.devices {config.devices}"
    if launch.processes > 1:
        processes, told = launch.processes, f"{launch.processes} processes"
        if config.devices not in (1, launch.here):
            expected = f"1 or {launch.here}, as many as the launcher starts on this machine"
            raise UserError(f"hardware.devices: expected {expected}, found {config.devices}")
    if config.batch_size % processes:
        raise UserError(f"{told}: expected a batch size that is a multiple of it, found {config.batch_size}")
    samples = TrainingSamples(
        data.train_set,
        input_size=data.input_size,
        augmentation=data.augmentation,
        seed=config.seed,
        unlabelled=config.distill_unlabelled,
        pseudo_labels=data.pseudo_labels,
    )
    taught = config.taught if has_teacher else range(0)
    if config.distill_unlabelled and not taught:
        raise UserError("unlabelled frames learn from a teacher alone: expected epochs with one, found none")
    always_some = samples.labelled > 0 or (len(samples) > 0 and len(taught) == config.epochs)
    to_score = bool(labelled_frames(data.validation_set))
    for prepared, enough in ((data.train_set, always_some), (data.validation_set, to_score)):
        if not enough:
            raise DataError(f"{prepared.root}: expected labelled frames in split '{prepared.split}', found none")
    factors = None
    if config.rare_classes:
        factors = repeat_factors(samples.labels(), len(data.train_set.classes), config.rare_classes)
    learned = frozenset(data.old)
    labelled = enumerate(samples.frames[: samples.labelled])
    old = [position for position, i in labelled if data.train_set.frame(i).name in learned] if learned else []
    batches = EpochBatches(
        samples.labelled,
        len(samples) - samples.labelled,
        batch_size=config.batch_size,
        seed=config.seed,
        unlabelled_epochs=config.taught,
        factors=factors,
        old=old,
        replay=config.replay,
    )
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=config.workers,
        worker_init_fn=single_threaded,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _trainer(config: TrainConfig, launch: Launch, speed: Speed, callbacks: list[pl.Callback], work: Path) -> pl.Trainer:
    """Lightning's loop, with the best and the last epoch's checkpoints in `work`."""
    best = ModelCheckpoint(
        work,
        filename="best",
        monitor=CHOICE,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    # Not `save_last=True`: that writes only when an epoch is the best so far, and a killed run would lose the others.
    last = ModelCheckpoint(
        work,
        filename="last",
        every_n_epochs=config.checkpoint_every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    stopping = []
    if config.patience is not None:
        stopping = [EarlyStopping(CHOICE, mode="max", patience=config.patience, check_on_train_epoch_end=True)]
    on_terminal = sys.stdout.isatty()  # where Lightning's bars go
    devices, strategy, plugins = config.devices, "auto", list[Any]([AtomicCheckpoints()])
    if launch.processes > 1:
        devices, strategy, plugins = launch.here, "ddp", [*plugins, TorchElasticEnvironment()]
    elif config.devices > 1:
        strategy = "ddp_spawn"  # this process stays the only one that writes outputs
    return pl.Trainer(
        accelerator="auto",
        devices=devices,
        num_nodes=launch.processes // launch.here,
        strategy=strategy,
        use_distributed_sampler=False,  # EpochBatches shares the frames out
        max_epochs=config.epochs,
        precision="bf16-mixed" if speed.precision == "bf16" else "32-true",
        # On a GPU the fastest kernels add in whatever order threads end; on a CPU they never do.
        deterministic="warn" if config.precision == "fp32" and torch.cuda.is_available() else None,
        callbacks=[*callbacks, best, last, *stopping, *([TQDMProgressBar(refresh_rate=5)] if on_terminal else [])],
        gradient_clip_val=config.gradient_clip or None,
        accumulate_grad_batches=config.accumulate,
        plugins=plugins,
        logger=False,
        log_every_n_steps=1,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
        default_root_dir=work,
    )
