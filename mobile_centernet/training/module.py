"""The LightningModule: one student, an optional frozen teacher, the criterion, Adam and its schedule."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from mobile_centernet.data.training.loader import Sample
from mobile_centernet.errors import UserError
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet, CenterNetOutput

LOOK_EVERY = 20
DIVERGED = 1e9
"""No training comes back from such a loss; at a learning rate of 1e4 it stays between 1e11 and 1e16, finite."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Adam's learning rate: a linear rise over `warmup_steps`, then divided by ten after every milestone epoch."""

    learning_rate: float
    milestones: Sequence[int] = ()
    warmup_steps: int = 0

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """What the learning rate is multiplied with before optimizer step `step` (from 0)."""
        rise = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return rise * float(0.1 ** sum(step >= epoch * steps_per_epoch for epoch in self.milestones))


class DetectorTraining(pl.LightningModule):
    """Trains `student`; with a `teacher`, by structured distillation too in `distill_epochs` (None: in all).

    With an `ema_decay` above 0 a moving average of the student goes along, and is what counts in the end.
    The teacher is no submodule: its weights stay out of checkpoints and optimizer, its batch norm out of train().
    """

    def __init__(
        self,
        student: CenterNet,
        criterion: Criterion,
        schedule: Schedule,
        *,
        fingerprint: str,
        teacher: CenterNet | None = None,
        distill_epochs: range | None = None,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.student = student
        self.ema_decay = ema_decay
        self.average = copy.deepcopy(student).eval().requires_grad_(False) if ema_decay else None
        self.criterion = criterion
        self.schedule = schedule
        self.fingerprint = fingerprint
        self.distill_epochs = distill_epochs
        self.measured: frozenset[str] = frozenset()  # names of the losses of the step that ran last
        self._averaged = 0  # the step after which the average was updated last
        self._teacher = (teacher.eval().requires_grad_(False),) if teacher else ()

    @property
    def scored(self) -> CenterNet:
        """The weights to score and to keep: the moving average where there is one, else the student's own."""
        return self.average or self.student

    def on_fit_start(self) -> None:
        for teacher in self._teacher:
            nn.utils.convert_conv2d_weight_memory_format(teacher.to(self.device), torch.channels_last)

    def on_train_start(self) -> None:
        self._averaged = self.global_step  # of a resumed training

    def training_step(self, batch: Sample, batch_index: int) -> Tensor:
        output = self.student(batch["image"])
        teacher_output: CenterNetOutput | None = None
        if self._teacher and (self.distill_epochs is None or self.current_epoch in self.distill_epochs):
            with torch.no_grad():
                teacher_output = self._teacher[0](batch["image"])
        terms = self.criterion(output, batch, teacher_output)
        total: Tensor = self.criterion.total(terms)
        # On a GPU looking at a number waits for it, so only some steps are looked at there.
        if (self.device.type == "cpu" or batch_index % LOOK_EVERY == 0) and not total < DIVERGED:  # nan, too
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise UserError(
                f"the loss is {float(total.detach()):g} in step {self.global_step} (epoch {self.current_epoch}) at "
                f"learning rate {rate:g}: try a lower learning_rate, more warmup_steps, or a gradient_clip such as 10"
            )
        measured = {f"loss/{name}": term.detach() for name, term in terms.items()} | {"loss": total.detach()}
        self.measured = frozenset(measured)
        size = len(batch["image"])
        # sync_dist: with several processes, means are of all their shares of the batch; alone it does nothing.
        self.log_dict(measured, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        self.log("loss_now", total.detach(), prog_bar=True, on_step=True, on_epoch=False, batch_size=size)
        return total

    def on_train_batch_end(self, outputs: Any, batch: Sample, batch_idx: int) -> None:
        if self.average and self.global_step != self._averaged:  # several batches may make one step
            self._averaged = self.global_step
            pairs = [
                (average, value.detach())
                for kind in ("parameters", "buffers")
                for average, value in zip(getattr(self.average, kind)(), getattr(self.student, kind)(), strict=True)
            ]
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            counts = [pair for pair in pairs if not pair[0].is_floating_point()]
            (averages, values), (old, new) = (
                [list(each) for each in zip(*kind, strict=True)] for kind in (floats, counts)
            )
            weight = 1.0 if self.global_step == 1 else 1.0 - self.ema_decay  # the first update copies the student
            # A handful of kernels for all tensors, none of which the processor waits for.
            torch._foreach_lerp_(averages, values, weight)
            torch._foreach_copy_(old, new)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.student.parameters(), lr=self.schedule.learning_rate, fused=True)
        steps_per_epoch = max(1, int(self.trainer.estimated_stepping_batches) // (self.trainer.max_epochs or 1))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule.factor(step, steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fingerprint"] = self.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("fingerprint") != self.fingerprint:
            raise UserError(
                f"this checkpoint belongs to another training: expected fingerprint {self.fingerprint} "
                f"(of the present params and data), found {checkpoint.get('fingerprint')}"
            )
