"""What happens at the end of every epoch: the score first, then the record of the epoch."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.inference.torch import torch_detector
from mobile_centernet.training.module import DetectorTraining

Record = dict[str, float]


class ScoreEpoch(pl.Callback):
    """mAP@0.5 on the validation set, by the same code that `evaluate` uses, logged as `map50`.

    Of several training processes the first one scores, and tells the others: all choose the same best epoch.
    """

    def __init__(self, validation_set: PreparedSet, input_size: tuple[int, int]) -> None:
        self.validation_set = validation_set
        self.input_size = input_size
        self.ground_truth = validation_set.coco

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectorTraining)  # noqa: S101 Lightning's hook types know the base class alone
        map50 = self._score(pl_module) if trainer.is_global_zero else 0.0
        pl_module.log("map50", trainer.strategy.broadcast(map50), prog_bar=True)

    def _score(self, module: DetectorTraining) -> float:
        was_training = module.scored.training
        results = results_for(self.validation_set, torch_detector(module.scored.eval()), self.input_size)
        module.scored.train(was_training)
        return evaluate_map50(self.ground_truth, results, self.validation_set.classes).map50


class History(pl.Callback):
    """Every epoch's means, appended to a file of JSON lines and handed on, by the first of several processes."""

    def __init__(self, path: Path, on_epoch: Callable[[Record], None]) -> None:
        self.path = path
        self.on_epoch = on_epoch
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.records: list[Record] = [json.loads(line) for line in lines]
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        finished = trainer.current_epoch  # known only now: Lightning restores its loops after on_fit_start
        self.records = [record for record in self.records if record["epoch"] < finished]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectorTraining)  # noqa: S101 Lightning's hook types know the base class alone
        if not trainer.is_global_zero:
            return
        # Lightning never forgets a metric: without a choice, the teacher's terms would stand on after its last epoch.
        names = {"map50", *pl_module.measured}
        means = {name: float(value) for name, value in trainer.callback_metrics.items() if name in names}
        record: Record = {
            "epoch": trainer.current_epoch,
            "seconds": time.monotonic() - self._started,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            **means,
        }
        self.records.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.on_epoch(record)
