"""Reaching MLflow: where it is, how long to wait for it, and what it raises when something is wrong."""

import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

EXPERIMENT = "mobile-centernet"
LONGEST_INITIALISATION = 300.0  # seconds that another process may take to make the database

# Before MLflow is imported: by default a dead server blocks every call for minutes, and usage is reported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def connect() -> Any:
    """The mlflow module, bound to MLFLOW_TRACKING_URI or else to the project's own sqlite database.

    A fresh sqlite database is damaged when two processes initialise it at once, hence the lock.
    """
    import mlflow

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # not a line per new table
    for talkative in ("mlflow.tracking.fluent", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    if "MLFLOW_TRACKING_URI" in os.environ:
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        mlflow.set_experiment(EXPERIMENT)
        return mlflow
    root = Path.cwd().resolve()
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    with FileLock(root / "mlflow.lock", timeout=LONGEST_INITIALISATION):
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=(root / "mlartifacts").as_uri())
        mlflow.set_experiment(EXPERIMENT)
    return mlflow


def failures() -> tuple[type[Exception], ...]:
    """What MLflow's calls raise when a server, a database or the network fails, or when it is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        return (ImportError,)
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, RequestException, SQLAlchemyError, OSError


def without_password(text: str) -> str:
    """User and password taken out of every address in `text`."""
    return re.sub(r"://[^/@\s]+@", "://...@", text)


def first_line(error: Exception) -> str:
    """What went wrong, in one line without credentials."""
    message = without_password(str(error)).strip()
    return message.splitlines()[0] if message else type(error).__name__
