"""MLflow. Tracking a training is best effort: no failure of the tracking server stops or slows a training much."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from steps.params import Params

EXPERIMENT = "mobile-centernet"

# Before MLflow is imported: by default a dead server blocks every call for minutes, and usage is reported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def connect() -> Any:
    """The mlflow module, bound to MLFLOW_TRACKING_URI or else to the project's own sqlite database.

    A fresh sqlite database is damaged when two processes initialise it at once, hence the lock.
    """
    import mlflow

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # not a line per new table
    if "MLFLOW_TRACKING_URI" in os.environ:
        mlflow.set_experiment(EXPERIMENT)
        return mlflow
    root = Path.cwd().resolve()
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    with FileLock(root / "mlflow.lock"):
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=(root / "mlartifacts").as_uri())
        mlflow.set_experiment(EXPERIMENT)
    return mlflow


class Tracker:
    """One MLflow run. After its first failure it says so once and stays silent: the numbers are in the JSONL files."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._mlflow: Any = None
        self._failures: tuple[type[Exception], ...] = (OSError,)

    def start(self, settings: Mapping[str, Any]) -> None:
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        self._failures = (MlflowException, RequestException, SQLAlchemyError, OSError)
        with self._best_effort():
            mlflow = connect()
            mlflow.start_run(run_name=self.stage, tags={"stage": self.stage})
            mlflow.log_params(dict(_flat(settings)))
            self._mlflow = mlflow

    def log(self, record: Mapping[str, float], *, step: int = 0, prefix: str = "") -> None:
        """Numbers of one step; names get `prefix`."""
        with self._best_effort():
            if self._mlflow:
                self._mlflow.log_metrics({f"{prefix}{name}": value for name, value in record.items()}, step=step)

    def finish(self, folder: Path | None = None, **tags: str) -> None:
        """Attach a folder's small files (weights stay with DVC) and tags."""
        with self._best_effort():
            if self._mlflow:
                self._mlflow.set_tags(tags)
                for path in sorted(folder.iterdir()) if folder else ():
                    if path.is_file() and path.suffix != ".safetensors":
                        self._mlflow.log_artifact(str(path))

    def end(self, status: str) -> None:
        with self._best_effort():
            if self._mlflow:
                self._mlflow.end_run(status)

    @contextmanager
    def _best_effort(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            self._mlflow = None
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"warning: {self.stage} is no longer tracked in MLflow ({first_line})", file=sys.stderr)


@contextmanager
def run(stage: str, params: Params, sections: Sequence[str]) -> Iterator[Tracker]:
    """A run of `stage` with those sections of the params; FAILED when the block raises."""
    tracker = Tracker(stage)
    tracker.start({name: getattr(params, name) for name in sections})
    try:
        yield tracker
    except BaseException:
        tracker.end("FAILED")
        raise
    tracker.end("FINISHED")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        value = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
