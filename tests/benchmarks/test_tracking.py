"""What tracking costs a training: a number logged after every step, with a server that answers, is dead, or hangs.

Two ratios of one run, both of CPU time: the calls that the training waits for, against its step; and what the thread
that talks to MLflow uses, against the time that goes by, because it delivers every few seconds however fast the steps
are. `fit` logs once an epoch, so this is far more than it does.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from mobile_centernet.mlops.params import load_params
from mobile_centernet.mlops.tracking import tracking
from tests.benchmarks.test_training import ours, some_batch
from tests.helpers.mlflow_servers import free_port, hanging_server

pytestmark = pytest.mark.benchmark
STEPS = 60
TERMS = ("loss", "loss/heatmap", "loss/size", "loss/offset", "loss/pixelwise", "loss/pairwise")


@contextmanager
def dead_server() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("place", ["the project's database", "a dead server", "a hanging server"])
def test_logging(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row) -> None:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    servers: dict[str, AbstractContextManager[str | None]] = {
        "the project's database": nullcontext(),
        "a dead server": dead_server(),
        "a hanging server": hanging_server(),
    }
    step = ours(some_batch(96, 192))
    with servers[place] as url:
        if url:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with tracking.run("warm up", params, ("seed",)):  # loads MLflow, makes the database
            step()
        with tracking.run("measured", params, ("seed", "loss")) as tracker:
            time.sleep(3)  # the run is announced, once
            cpu, start, stepping, logging = time.process_time(), time.monotonic(), 0.0, 0.0
            for number in range(STEPS):
                begin = time.thread_time()
                step()
                middle = time.thread_time()
                tracker.log(dict.fromkeys(TERMS, 0.5), step=number)
                stepping, logging = stepping + middle - begin, logging + time.thread_time() - middle
            spent, passed = time.process_time() - cpu, time.monotonic() - start
    beside = spent - stepping - logging  # of the thread that delivers
    row(
        f"a number of {len(TERMS)} terms logged after every step, {place}",
        f"step {1e3 * stepping / STEPS:.0f} ms",
        f"log {1e6 * logging / STEPS:.0f} µs = {logging / stepping:.2%} of it",
        f"thread {1e3 * beside:.0f} ms in {passed:.0f} s = {beside / passed:.2%}",
    )
