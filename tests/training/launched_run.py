"""`python -m tests.training.launched_run FOLDER EPOCHS [DIE_IN]`: what the launcher of test_launcher starts twice."""

import os
import signal
import sys
from pathlib import Path

import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import exit_on_user_error
from mobile_centernet.files import write_json
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.variants import build_model
from mobile_centernet.processes import Launch
from mobile_centernet.training.fit import TrainConfig, TrainingData, fit
from mobile_centernet.training.module import DetectorTraining, Schedule
from tests.training.small_run import INPUT


def main(folder: Path, epochs: int, die_in: int | None) -> None:
    launch = Launch.of()
    if die_in is not None and launch.rank == launch.processes - 1:
        training_step = DetectorTraining.training_step

        def dying(self: DetectorTraining, batch: dict[str, torch.Tensor], batch_index: int) -> torch.Tensor:
            if self.current_epoch == die_in:
                for process in (os.getppid(), os.getpid()):  # the node: torchrun and what it has started
                    os.kill(process, signal.SIGKILL)
            return training_step(self, batch, batch_index)

        DetectorTraining.training_step = dying  # type: ignore[method-assign]
    torch.manual_seed(0)
    student = build_model("hrnet_w16_lite", 1)
    told: list[float] = []
    fitted = fit(
        student,
        Criterion([1.0]),
        TrainConfig(epochs, 4, Schedule(1e-3), seed=0, workers=0, precision="fp32", ema_decay=0.5),
        TrainingData(PreparedSet(folder / "set", "train"), PreparedSet(folder / "set", "val"), INPUT, None),
        work=folder / "work",
        fingerprint="a",
        on_epoch=lambda record: told.append(record["epoch"]),
    )
    total = sum(float(value.double().abs().sum()) for value in student.state_dict().values())
    losses = [record["loss"] for record in fitted.history]
    write_json(folder / f"rank{launch.rank}.json", {"told": told, "weights": total, "losses": losses})


if __name__ == "__main__":
    with exit_on_user_error("launched"):
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
