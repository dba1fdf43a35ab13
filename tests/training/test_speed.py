"""How a training finds out what is fast here: with injected seconds, so that no test depends on the machine's load."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.speed import Speed, ThreadTuner, choose_speed, speed_for
from tests.training.test_fit import prepared, train

__all__ = ["prepared"]


def seconds(bf16: float = 1.0, contiguous: float = 1.0, one_thread: float = 1.0) -> Callable[[Speed], float]:
    """A step's, as factors of one in fp32, channels last, with all threads."""

    def measure(tried: Speed) -> float:
        factor = bf16 if tried.precision == "bf16" else 1.0
        return factor * (1.0 if tried.channels_last else contiguous) * (one_thread if tried.threads == 1 else 1.0)

    return measure


def never(tried: Speed) -> float:
    raise AssertionError(f"measured {tried}")


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "measure", "expected"),
    [
        ("auto", True, seconds(bf16=0.5), Speed("bf16", True, 4, "cpu")),
        ("auto", True, seconds(bf16=7.0), Speed("fp32", True, 4, "cpu")),
        ("auto", True, seconds(bf16=0.98), Speed("fp32", True, 4, "cpu")),  # noise decides nothing
        ("auto", False, seconds(bf16=0.5), Speed("fp32", True, 4, "cpu")),  # not even measured
        ("bf16", True, seconds(bf16=7.0, contiguous=0.8), Speed("bf16", False, 4, "cpu")),
        ("auto", True, seconds(bf16=0.5, contiguous=1.2, one_thread=0.3), Speed("bf16", True, 1, "cpu")),
        ("fp32", True, never, Speed("fp32", True, 4, "cpu")),
    ],
)
def test_the_fastest_is_chosen(wanted: str, has_bf16: bool, measure: Callable[[Speed], float], expected: Speed) -> None:
    assert choose_speed(wanted, 4, "cpu", bf16=has_bf16, measure=measure) == expected


def drive(tuner: ThreadTuner, step: Callable[[int], float], steps: int) -> float:
    """The seconds of so many steps, each of which takes what `step` says of its threads."""
    total = 0.0
    for _ in range(steps):
        taken = step(tuner.threads)
        total += taken
        tuner.after(taken)
    return total


IDLE: dict[int, float] = {1: 1.75, 2: 1.0}
BUSY: dict[int, float] = {1: 1.8, 2: 6.2}  # another program on one of two cores, as measured


def test_two_threads_become_one_while_another_program_runs_and_two_again_afterwards() -> None:
    tuner = ThreadTuner(2, 2)
    idle = drive(tuner, IDLE.__getitem__, 400)
    assert tuner.threads == 2
    assert idle < 1.02 * 400  # what the trials cost
    busy = drive(tuner, BUSY.__getitem__, 400)
    assert tuner.threads == 1
    assert 400 / busy > 0.45
    drive(tuner, IDLE.__getitem__, ThreadTuner.LONGEST_PAUSE + 10)
    assert drive(tuner, IDLE.__getitem__, 200) < 1.05 * 200


def test_one_slow_step_changes_nothing() -> None:
    tuner = ThreadTuner(2, 2)
    drive(tuner, IDLE.__getitem__, 10)
    assert tuner.after(9.0) == 2
    assert drive(tuner, IDLE.__getitem__, 10) == 10


def test_of_many_threads_as_many_as_are_fast() -> None:
    tuner = ThreadTuner(16, 16)
    drive(tuner, lambda threads: 16 / threads if threads <= 4 else threads, 1000)
    assert tuner.threads == 4


def test_a_single_thread_is_left_alone() -> None:
    tuner = ThreadTuner(1, 1)
    drive(tuner, lambda _: 1.0, 100)
    assert tuner.threads == 1


def test_measuring_leaves_weights_statistics_and_random_numbers_alone_and_is_done_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, batch = (
        build_model("hrnet_w16_lite", 1).train(),
        {
            "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
            "heatmap": torch.rand(2, 1, 16, 16),
            "size": torch.rand(2, 4, 2),
            "offset": torch.rand(2, 4, 2),
            "index": torch.zeros(2, 4, dtype=torch.int64),
            "mask": torch.ones(2, 4, dtype=torch.bool),
        },
    )
    before = {name: value.clone() for name, value in student.state_dict().items()}
    numbers, threads = torch.get_rng_state(), torch.get_num_threads()
    cache = tmp_path / "cache/speed.json"
    speed = speed_for(student, Criterion([1.0]), batch, "auto", work=tmp_path / "one", cache=cache)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(value.grad is None for value in student.parameters())

    (entry,) = json.loads(cache.read_text())
    entry["speed"]["channels_last"] = not speed.channels_last  # a choice that no measurement would make twice
    cache.write_text(json.dumps([entry]))
    again = speed_for(student, Criterion([1.0]), batch, "auto", work=tmp_path / "two", cache=cache)
    assert again == Speed(**entry["speed"])
    cache.unlink()
    resumed = speed_for(student, Criterion([1.0]), batch, "auto", work=tmp_path / "two", cache=cache)
    assert resumed == again
    assert not cache.exists()


def test_a_training_in_auto_runs_as_measured_and_says_so(prepared: Path, tmp_path: Path) -> None:
    cache = tmp_path / "speed.json"
    _, fitted = train(prepared, tmp_path / "work", epochs=1, precision="auto", speeds=cache)
    (entry,) = json.loads(cache.read_text())
    assert fitted.speed == Speed(**entry["speed"])
    assert fitted.speed.threads == 1


def test_fp32_measures_nothing(prepared: Path, tmp_path: Path) -> None:
    cache = tmp_path / "speed.json"
    _, fitted = train(prepared, tmp_path / "work", epochs=1, speeds=cache)
    assert (fitted.speed.precision, fitted.speed.channels_last) == ("fp32", True)
    assert not cache.exists()
