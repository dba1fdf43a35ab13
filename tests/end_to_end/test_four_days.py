"""Four nights of an unattended retraining: `examples/four_nights.py`, which `make demo-retraining` runs."""

import json
import sys
from pathlib import Path

import pytest

from examples.four_nights import NOTHING_NEW, PROMOTED, REJECTED, Night, make_project, nights
from tests.end_to_end.project import run

# How the runs ended, as ZenML shows them.
LOOK = """
import json
from pipelines.settings import prepare_environment
prepare_environment()
from zenml.client import Client
runs = [run.status.value for run in Client().list_pipeline_runs(pipeline_name="retraining")]
print(json.dumps(runs))
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # batches of two small images: a second thread would only wait
    project = make_project(tmp_path)
    story = nights(project)

    def night(exit_code: int) -> Night:
        found = next(story)
        assert found.exit_code == exit_code, f"{found.what}: {found.said}"
        assert "up to date" in found.left_to_do, "DVC must have nothing left to do"
        return found

    assert night(PROMOTED).aliases == {"challenger": 1, "champion": 1}
    assert night(NOTHING_NEW).aliases == {"challenger": 1, "champion": 1}

    better = night(PROMOTED)
    assert "fetch_ivslab" in better.watched
    assert better.aliases == {"challenger": 2, "champion": 2, "previous": 1}
    facts = better.decision["facts"]
    assert facts["scored"]["fp32"]["challenger"]["map50"] > facts["scored"]["fp32"]["champion"]["map50"]

    worse = night(REJECTED)
    assert worse.aliases == {"challenger": 3, "champion": 2, "previous": 1}
    assert "better than the champion" in worse.decision["failed"]
    night(NOTHING_NEW)
    assert not list(story)

    assert json.loads(run(project, sys.executable, "-c", LOOK).stdout.splitlines()[-1]) == ["completed"] * 3
