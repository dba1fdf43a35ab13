"""Training on a few drawn frames: leaves the teacher alone, keeps the best epoch.

Being killed: tests/faults/test_training_faults.py.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import Schedule
from tests.training.small_run import INPUT, draw_set


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set(tmp_path_factory.mktemp("frames"))


def train(
    prepared: Path,
    work: Path,
    *,
    epochs: int = 2,
    teacher: CenterNet | None = None,
    fingerprint: str = "a",
    student: CenterNet | None = None,
    distill_epochs: int | None = None,
    learning_rate: float = 1e-3,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    speeds: Path | None = None,
    precision: str = "fp32",
    **more: Any,
) -> tuple[CenterNet, FitResult]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    student = student or build_model("hrnet_w16", 1)
    fitted = fit(
        student,
        Criterion([1.0]),
        TrainConfig(
            epochs,
            more.pop("batch_size", 3),
            Schedule(learning_rate),
            seed=0,
            workers=0,
            precision=precision,
            distill_epochs=distill_epochs,
            **more,
        ),
        TrainingData(PreparedSet(prepared, "train"), PreparedSet(prepared, "val"), INPUT, None),
        work=work,
        fingerprint=fingerprint,
        teacher=teacher,
        on_epoch=on_epoch,
        speeds=speeds,
    )
    return student, fitted


def test_every_term_of_every_epoch_is_recorded_and_the_teacher_stays_as_it_was(prepared: Path, tmp_path: Path) -> None:
    teacher = build_model("hrnet_w16", 1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    _, fitted = train(prepared, tmp_path, teacher=teacher)
    assert [record["epoch"] for record in fitted.history] == [0, 1]
    terms = {"loss", "loss/heatmap", "loss/size", "loss/offset", "loss/pixelwise", "loss/pairwise", "map50"}
    for record in fitted.history:
        assert terms <= set(record)
        assert all(np.isfinite(value) for value in record.values())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == fitted.history


def test_an_epoch_without_the_teacher_records_no_term_of_the_teacher(prepared: Path, tmp_path: Path) -> None:
    _, fitted = train(prepared, tmp_path, teacher=build_model("hrnet_w16", 1), distill_epochs=1)
    taught, alone = fitted.history
    assert taught.keys() - alone.keys() == {"loss/pixelwise", "loss/pairwise"}


def test_without_a_terminal_every_epoch_is_one_line_of_the_log(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="mobile_centernet"):
        train(prepared, tmp_path)
    lines = [entry.getMessage() for entry in caplog.records if entry.name.startswith("mobile_centernet.training")]
    assert [line.split(":")[0] for line in lines] == ["epoch 0/1", "epoch 1/1"]
    assert "validation mAP@0.5" in lines[0]
    captured = capsys.readouterr()
    assert "Epoch" not in captured.out + captured.err  # a progress bar


def test_in_fp32_two_trainings_give_equal_bytes(prepared: Path, tmp_path: Path) -> None:
    teacher = build_model("hrnet_w16_lite", 1)
    runs = []
    for name in ("first", "second"):
        student, fitted = train(prepared, tmp_path / name, teacher=teacher, epochs=1)
        weights = {key: value.contiguous() for key, value in student.state_dict().items()}
        runs.append((save(weights), [record["map50"] for record in fitted.history]))
    assert runs[0] == runs[1]


def test_a_finished_training_that_is_asked_for_again_gives_the_same_answer(prepared: Path, tmp_path: Path) -> None:
    """As pretraining when a run was killed while fine-tuning."""
    first, fitted = train(prepared, tmp_path)
    second, again = train(prepared, tmp_path)
    assert again == fitted
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_model_that_was_in_eval_mode_is_trained_in_train_mode(prepared: Path, tmp_path: Path) -> None:
    """As fine-tuning after pretraining: the batch norms' statistics must move from the first epoch on."""
    modes = []
    student = build_model("hrnet_w16", 1).eval()
    student.backbone.register_forward_hook(lambda module, *_: modes.append(module.training))
    train(prepared, tmp_path, epochs=1, student=student)
    assert modes[0] is True
    assert student.training is False


def test_the_checkpoint_of_another_training_is_refused(prepared: Path, tmp_path: Path) -> None:
    train(prepared, tmp_path, epochs=1)
    with pytest.raises(UserError, match=r"expected fingerprint b .* found a"):
        train(prepared, tmp_path, fingerprint="b")


def test_a_split_without_labels_is_named(prepared: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "set"
    unlabelled.mkdir()
    for path in prepared.iterdir():
        text = path.read_bytes()
        if path.suffix == ".json":
            text = text.replace(b'"labelled"', b'"unlabelled"')
        (unlabelled / path.name).write_bytes(text)
    with pytest.raises(DataError, match="expected labelled frames in split 'train', found none"):
        train(unlabelled, tmp_path / "work")


def test_the_learning_rate_rises_and_falls_by_tens() -> None:
    schedule = Schedule(1e-3, milestones=(2, 3), warmup_steps=4)
    factors = [schedule.factor(step, steps_per_epoch=10) for step in (0, 4, 19, 20, 29, 30)]
    np.testing.assert_allclose(factors, [0.2, 1, 1, 0.1, 0.1, 0.01])


def test_a_checkpoint_every_second_epoch_is_where_a_killed_run_resumes(prepared: Path, tmp_path: Path) -> None:
    def die(record: dict[str, float]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    plan: dict[str, Any] = {"epochs": 4, "checkpoint_every": 2}
    expected, _ = train(prepared, tmp_path / "whole", **plan)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(prepared, tmp_path / "killed", on_epoch=die, **plan)
    assert torch.load(tmp_path / "killed/last.ckpt", weights_only=True)["epoch"] == 1
    found, resumed = train(prepared, tmp_path / "killed", **plan)
    assert [record["epoch"] for record in resumed.history] == [0, 1, 2, 3]
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())


@pytest.mark.parametrize(("rate", "loss", "shown"), [(1e30, "nan|inf", r"1e\+30"), (1e4, r"\d\S*e\+\d\d", "10000")])
def test_a_loss_that_diverges_stops_at_once_and_says_what_to_try(
    prepared: Path, tmp_path: Path, rate: float, loss: str, shown: str
) -> None:
    sentence = rf"the loss is ({loss}) in step [12] \(epoch 0\) at learning rate {shown}: try a lower learning_rate"
    with pytest.raises(UserError, match=sentence):
        train(prepared, tmp_path, learning_rate=rate, batch_size=2)


def test_only_every_second_epoch_and_the_last_are_scored(prepared: Path, tmp_path: Path) -> None:
    _, fitted = train(prepared, tmp_path, epochs=5, validate_every=2)
    assert [record["epoch"] for record in fitted.history if "map50" in record] == [1, 3, 4]
    assert fitted.best_epoch in (1, 3, 4)


def test_training_ends_when_the_score_stays(prepared: Path, tmp_path: Path) -> None:
    _, fitted = train(prepared, tmp_path, epochs=9, learning_rate=1e-12, patience=2)
    assert len(fitted.history) == 3


def test_two_batches_of_a_step_are_one_of_twice_the_size_but_for_batch_norm(prepared: Path, tmp_path: Path) -> None:
    """The learning rate has as many steps as it has with batches of twice the size."""
    rates = [
        train(prepared, tmp_path / str(batch_size), epochs=1, batch_size=batch_size, accumulate=accumulate)[1]
        for batch_size, accumulate in ((2, 3), (6, 1))
    ]
    losses = [fitted.history[0]["loss"] for fitted in rates]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    steps = [torch.load(tmp_path / name / "last.ckpt", weights_only=True)["global_step"] for name in ("2", "6")]
    assert steps == [1, 1]


def test_a_clipped_gradient_moves_the_weights_less(prepared: Path, tmp_path: Path) -> None:
    """Adam divides by the gradient's size: only its second step sees that the first was clipped."""
    start = {name: value.clone() for name, value in build_model("hrnet_w16", 1).state_dict().items()}
    moved = []
    for clip in (0.0, 1e-9):
        student = build_model("hrnet_w16", 1)
        student.load_state_dict(start)
        train(prepared, tmp_path / str(clip), epochs=1, student=student, gradient_clip=clip)
        weight = student.state_dict()["backbone.conv2.weight"]
        moved.append(float((weight - start["backbone.conv2.weight"]).abs().sum()))
    assert moved[1] < moved[0]
