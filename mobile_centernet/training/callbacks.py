"""What happens at the end of every epoch: the score, its record, and a checkpoint that is whole or not there."""

import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from numpy.typing import NDArray

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.images import resize
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.processes import cpu_seconds
from mobile_centernet.training.module import DetectorTraining

logger = logging.getLogger(__name__)
Record = dict[str, float]
"""One epoch: epoch (from 0), seconds, cpu_seconds, learning_rate, loss, loss/<term> and, where it was scored, map50.

`seconds` is wall time; `cpu_seconds` the processor time of the process and its loader's workers (of several training
processes: of the first).
"""
CHOICE = "choice"
"""What the best epoch is chosen by: map50, or -1 in an epoch that is not scored."""


class ScoreEpoch(pl.Callback):
    """mAP@0.5 on the validation set, by the same code that `evaluate` uses, logged as `map50`.

    Its images are decoded and resized once, and kept as uint8 [N, h, w, 3].
    Of several training processes the first one scores, and tells the others: all choose the same best epoch.
    """

    def __init__(self, validation_set: PreparedSet, input_size: tuple[int, int], every: int = 1) -> None:
        self.validation_set = validation_set
        self.input_size = input_size
        self.every = every
        self.ground_truth = validation_set.coco
        self.resized: NDArray[np.uint8] | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectorTraining)  # noqa: S101 Lightning's hook types know the base class alone
        finished = trainer.current_epoch + 1
        if finished % self.every and finished != trainer.max_epochs:
            pl_module.log(CHOICE, -1.0)
            return
        map50 = 0.0
        if trainer.is_global_zero:
            was_training = pl_module.scored.training
            if self.resized is None:
                self.resized = np.empty((len(self.validation_set), *self.input_size, 3), np.uint8)
                for i in range(len(self.validation_set)):
                    self.resized[i] = resize(self.validation_set.image(i), self.input_size)
            run = TorchRunner(pl_module.scored.eval())
            results = results_for(self.validation_set, run, self.input_size, resized=self.resized, batch_size=16)
            pl_module.scored.train(was_training)
            map50 = evaluate_map50(self.ground_truth, results, self.validation_set.classes).map50
        map50 = trainer.strategy.broadcast(map50)
        pl_module.measured |= {"map50"}
        pl_module.log("map50", map50, prog_bar=True)
        pl_module.log(CHOICE, map50)


class History(pl.Callback):
    """Every epoch's means, appended to a file of JSON lines, logged and handed on, by the first of several processes.

    Args:
        path: the file, which may hold the epochs before a resumed one.
        on_epoch: is handed every record; None: nobody is.
    """

    def __init__(self, path: Path, on_epoch: Callable[[Record], None] | None = None) -> None:
        self.path = path
        self.on_epoch = on_epoch
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.records: list[Record] = [json.loads(line) for line in lines]
        self._started = self._cpu_started = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if multiprocessing.parent_process() is not None:  # a spawned process starts without the program's logging
            logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
            logging.getLogger("mobile_centernet").setLevel(logging.INFO)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        finished = trainer.current_epoch  # known only now: Lightning restores its loops after on_fit_start
        self.records = [record for record in self.records if record["epoch"] < finished]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._cpu_started = time.monotonic(), cpu_seconds()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectorTraining)  # noqa: S101 Lightning's hook types know the base class alone
        if not trainer.is_global_zero:
            return
        # Lightning never forgets a metric: without a choice, the teacher's terms would stand on after its last epoch.
        names = pl_module.measured
        means = {name: float(value) for name, value in trainer.callback_metrics.items() if name in names}
        record: Record = {
            "epoch": trainer.current_epoch,
            "seconds": time.monotonic() - self._started,
            "cpu_seconds": cpu_seconds() - self._cpu_started,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **means,
        }
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        logger.info(
            "epoch %d/%d: loss %.4f, %s, %.1f s",
            record["epoch"],
            (trainer.max_epochs or 0) - 1,
            record["loss"],
            f"validation mAP@0.5 {record['map50']:.3f}" if "map50" in record else "not scored",
            record["seconds"],
        )
        if self.on_epoch is not None:
            self.on_epoch(record)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoint files, written so that a kill or a full disk leaves the last good one in place.

    Temporary file, fsync, rename; read without pickle's code execution.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
