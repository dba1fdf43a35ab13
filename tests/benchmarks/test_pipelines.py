"""What ZenML adds to a DVC stage, and how soon a retraining with nothing to do answers, on a toy project.

Both are processes of their own, so the clock is the CPU time of ended children.
"""

import resource
import time
from pathlib import Path

import pytest

from pipelines.graph import stage_graph
from tests.pipelines.toy import make_toy, run

pytestmark = pytest.mark.benchmark


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages have run, and ZenML has made its database."""
    folder = make_toy(tmp_path_factory.mktemp("toy"))
    done = run(folder, "-m", "pipelines", "training")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_zenml_adds_little_to_a_stage(toy: Path, side_by_side, row) -> None:
    stages = list(stage_graph(toy / "dvc.yaml"))

    def by_dvc() -> None:
        for stage in stages:
            assert run(toy, "-m", "dvc", "repro", "--single-item", f"dvc.yaml:{stage}").returncode == 0

    def by_zenml() -> None:
        assert run(toy, "-m", "pipelines", "training").returncode == 0

    seconds = side_by_side({"dvc": by_dvc, "zenml": by_zenml}, repetitions=2, clock=children, warm_up=0)
    added = (seconds["zenml"] - seconds["dvc"]) / len(stages)
    row(
        "a pipeline of four stages with nothing to do, by ZenML",
        f"by DVC: {seconds['dvc']:.1f} s of CPU time",
        f"{seconds['zenml']:.1f} s",
        f"{added:.2f} s a step, ZenML's start included",
    )
    assert added <= 3


def test_a_retraining_with_nothing_to_do_answers_soon(toy: Path, row) -> None:
    before, started = children(), time.monotonic()
    done = run(toy, "-m", "pipelines", "retraining")
    assert done.returncode == 10, done.stdout + done.stderr
    used, passed = children() - before, time.monotonic() - started
    row(
        "`python -m pipelines retraining` with nothing to do",
        f"{used:.1f} s of CPU time",
        f"{passed:.1f} s by the clock",
    )
    assert used < 20
