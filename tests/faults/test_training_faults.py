"""A training that is killed anywhere, or whose disk is full, still ends with the weights of an undisturbed one."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from mobile_centernet.errors import UserError
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.training.fit import FitResult
from steps.train import _refuse_others
from tests.training.small_run import EPOCHS, draw_set, train_and_die, train_fully, train_on_a_full_disk

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.small_run"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set(tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CenterNet, FitResult]:
    return train_fully(prepared, tmp_path_factory.mktemp("work") / "whole")


def in_a_process(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    process = _CONTEXT.Process(target=work, args=arguments)
    process.start()
    process.join(300)
    assert process.exitcode is not None, "still running after five minutes"
    return process


def assert_the_same(found: tuple[CenterNet, FitResult], expected: tuple[CenterNet, FitResult]) -> None:
    for name, value in expected[0].state_dict().items():
        assert torch.equal(value, found[0].state_dict()[name]), name
    assert (found[1].best_epoch, found[1].best_map50) == (expected[1].best_epoch, expected[1].best_map50)
    timeless = [
        [{**record, "seconds": 0.0, "cpu_seconds": 0.0} for record in fitted.history] for _, fitted in (found, expected)
    ]
    assert timeless[0] == timeless[1]


# By what is left: how many of the three epochs the second run still has to train.
@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("in the middle of the first epoch", 3),
        ("in the middle of an epoch", 2),
        ("when the epoch is recorded and not saved", 2),
        ("with half a checkpoint on the disk", 2),
        ("between the best checkpoint and the last one", 2),
        ("right after the checkpoint", 1),
        ("at the very end", 0),
    ],
)
def test_killed_anywhere_and_run_again_it_ends_with_the_same_weights(
    point: str, left: int, prepared: Path, undisturbed: tuple[CenterNet, FitResult], tmp_path: Path
) -> None:
    assert in_a_process(train_and_die, prepared, tmp_path / "work", point).exitcode == -9
    trained: list[float] = []
    again = train_fully(prepared, tmp_path / "work", on_epoch=lambda record: trained.append(record["epoch"]))
    assert trained == list(range(EPOCHS - left, EPOCHS))
    assert_the_same(again, undisturbed)


def test_a_full_disk_leaves_the_last_good_checkpoint(
    prepared: Path, undisturbed: tuple[CenterNet, FitResult], tmp_path: Path
) -> None:
    assert in_a_process(train_on_a_full_disk, prepared, tmp_path / "work").exitcode == 1
    kept = torch.load(tmp_path / "work" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0 and kept["fingerprint"] == "a"
    names = {path.name for path in (tmp_path / "work").iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "history.jsonl", "speed.json"}  # nothing half-written is left
    assert_the_same(train_fully(prepared, tmp_path / "work"), undisturbed)


def test_another_training_s_checkpoint_is_refused_with_both_fingerprints(prepared: Path, tmp_path: Path) -> None:
    assert in_a_process(train_and_die, prepared, tmp_path, "right after the checkpoint").exitcode == -9
    with pytest.raises(UserError, match=r"expected fingerprint b .*found a"):
        train_fully(prepared, tmp_path, fingerprint="b")


def test_a_stage_names_the_unfinished_trainings_that_it_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Changed params after a kill: a schedule must go on by itself, and a person must see why it begins anew."""
    ours, other = "a" * 16, "b" * 16
    for name in (ours, other):
        (tmp_path / name).mkdir()
    _refuse_others(tmp_path / ours)
    said = caplog.text
    assert f"{other}: this unfinished training is refused: expected fingerprint {ours}" in said
    assert f"found {other}" in said and said.count("\n") == 1
