"""Several devices that share every batch: here two processes on the CPU, which talk over loopback."""

from pathlib import Path

import pytest
import torch

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import EpochBatches
from mobile_centernet.errors import UserError
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.callbacks import Record
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import Schedule
from tests.training.small_run import INPUT, draw_set


def train(folder: Path, epochs: int, batch_size: int, fingerprint: str = "a") -> tuple[FitResult, list[Record]]:
    torch.manual_seed(0)
    prepared, told = folder / "set", list[Record]()
    fitted = fit(
        build_model("hrnet_w16_lite", 1),
        Criterion([1.0]),
        TrainConfig(epochs, batch_size, Schedule(1e-3), seed=0, workers=0, precision="fp32", ema_decay=0.5, devices=2),
        TrainingData(PreparedSet(prepared, "train"), PreparedSet(prepared, "val"), INPUT, None),
        work=folder / "work",
        fingerprint=fingerprint,
        on_epoch=told.append,
    )
    return fitted, told


def test_processes_share_every_batch_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = EpochBatches(10, 4, batch_size=4, seed=0)
    alone = list(batches)
    shares = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(list(batches))
    assert len(shares[0]) == len(shares[1]) == len(alone)
    for batch, first, second in zip(alone, *shares, strict=True):
        assert set(first).isdisjoint(second)
        assert sorted(first + second) == sorted(batch)


def test_a_batch_that_cannot_be_shared_is_one_sentence(tmp_path: Path) -> None:
    draw_set(tmp_path)
    with pytest.raises(
        UserError, match=r"hardware\.devices 2: expected a batch size that is a multiple of it, found 3"
    ):
        train(tmp_path, epochs=1, batch_size=3)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes on one GPU are no case of Lightning's")
def test_two_processes_train_resume_and_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    draw_set(tmp_path)
    fitted, told = train(tmp_path, epochs=2, batch_size=4)
    assert [record["epoch"] for record in fitted.history] == [0, 1]
    assert told == fitted.history
    assert fitted.best_map50 == max(record["map50"] for record in fitted.history)
    lines = (tmp_path / "work/history.jsonl").read_text().splitlines()
    assert len(lines) == 2  # the second process writes none
    best = torch.load(tmp_path / "work/best.ckpt", weights_only=True)
    assert best["epoch"] == fitted.best_epoch
    assert all(torch.isfinite(value).all() for value in best["state_dict"].values())

    longer, _ = train(tmp_path, epochs=3, batch_size=4)
    assert longer.history[:2] == fitted.history  # it went on from the last epoch
    assert [record["epoch"] for record in longer.history] == [0, 1, 2]

    with pytest.raises(UserError, match="another training: expected fingerprint b"):
        train(tmp_path, epochs=4, batch_size=4, fingerprint="b")
