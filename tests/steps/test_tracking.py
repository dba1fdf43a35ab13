"""No failure of MLflow stops a stage."""

import socket
import sqlite3
from pathlib import Path

import pytest

from steps import tracking
from steps.params import load_params

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_dead_server_is_said_once_and_the_stage_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with tracking.run("train_teacher", load_params(ROOT / "params.yaml"), ("seed",)) as tracker:
        tracker.log({"loss": 1.0}, step=0)
        tracker.log({"loss": 0.5}, step=1)
    assert capsys.readouterr().err.count("train_teacher is no longer tracked in MLflow") == 1


def test_a_run_keeps_params_metrics_and_its_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(RuntimeError, match="boom"), tracking.run("evaluate", params, ("seed", "loss")) as tracker:
        tracker.log({"map50": 0.25}, step=3, prefix="finetune/")
        raise RuntimeError("boom")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select name, status from runs").fetchall() == [("evaluate", "FAILED")]
        assert ("loss.alpha", "2.0") in database.execute("select key, value from params").fetchall()
        assert database.execute("select key, value, step from metrics").fetchall() == [("finetune/map50", 0.25, 3)]
