"""Reaching MLflow: where it is, how long to wait for it, and what it raises when something is wrong."""

import importlib.util
import json
import logging
import os
import posixpath
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from mobile_centernet.errors import UserError, without_password
from mobile_centernet.mlops import paths

EXPERIMENT = "mobile-centernet"
CLASSIC = "?workflowType=machine_learning"
"""Behind an address of MLflow's pages: without it MLflow 3 opens the view for language models, which is empty here."""
EXECUTION_TAG = "execution"  # of the run above the runs of all stages of one execution of the pipeline
PARENT_TAG = "mlflow.parentRunId"  # as MLflow calls it
LONGEST_DIGEST = 36  # characters that MLflow keeps of a dataset's
LONGEST_NAME = 240  # characters of MLflow's 250: room for what tells two apart
LONGEST_INITIALISATION = 300.0  # seconds that another process may take to make the database

logger = logging.getLogger(__name__)

# Before MLflow is imported: by default a dead server blocks every call for minutes, and usage is reported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


class TrackingAddressError(UserError):
    """MLFLOW_TRACKING_URI is no address."""


def tracking_uri() -> str | None:
    """What MLFLOW_TRACKING_URI says; None where it is not set, or empty as env files and compose leave it.

    Raises TrackingAddressError for an address without a scheme, which MLflow would take for a folder.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not address:
        return None
    if "://" not in address and address != "databricks":
        example = "an address such as https://mlflow.example.com"
        raise TrackingAddressError(f"MLFLOW_TRACKING_URI: expected {example}, found {without_password(address)!r}")
    return address


def connect() -> Any:
    """The mlflow module, bound to MLFLOW_TRACKING_URI or else to the project's own sqlite database.

    A fresh sqlite database is damaged when two processes initialise it at once, hence the lock.

    Raises:
        Exception: one of those that `failures` names.
    """
    root = paths.project_root()
    database, artifacts = root / paths.MLFLOW_DB, (root / "mlartifacts").as_uri()
    own = f"sqlite:///{database}"
    address = tracking_uri() or own
    import mlflow

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # not a line per new table
    for talkative in ("mlflow.tracking.fluent", "mlflow.store.model_registry.abstract_store"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(address)
    if address != own:
        mlflow.set_experiment(EXPERIMENT)
        return mlflow
    with FileLock(root / "mlflow.lock", timeout=LONGEST_INITIALISATION):
        if (
            not database.exists()
        ):  # MLflow does not finish tables whose making was killed: they appear whole or not at all
            fresh = database.with_name(f"{database.name}.new")
            fresh.unlink(missing_ok=True)
            mlflow.MlflowClient(f"sqlite:///{fresh}").search_experiments(max_results=1)
            fresh.replace(database)
        experiment = mlflow.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts)
        elif experiment.artifact_location != artifacts and experiment.artifact_location.endswith("/mlartifacts"):
            _move_artifacts(database, experiment.artifact_location, artifacts)
        mlflow.set_experiment(EXPERIMENT)
    return mlflow


def _move_artifacts(database: Path, before: str, now: str) -> None:
    """Let the database of a project that was moved or copied look for artifacts where the project is now.

    MLflow keeps absolute addresses in several tables, and would write new artifacts into the old folder.
    """
    changed = 0
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for column in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                where = f"rtrim(substr(\"{column[1]}\", 1, length(:old) + 1), '/') = :old"
                setting = f'"{column[1]}" = :new || substr("{column[1]}", length(:old) + 1)'
                update = f'UPDATE "{table}" SET {setting} WHERE {where}'  # noqa: S608 names from the database itself
                changed += connection.execute(update, {"old": before, "new": now}).rowcount
    logger.info("%s: the project was at %s before; %d addresses of artifacts follow it", database, before, changed)


def failures() -> tuple[type[Exception], ...]:
    """What MLflow's calls raise when a server, a database or the network fails, or when it is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        return ImportError, TrackingAddressError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError, TrackingAddressError


def find_or_create_run(client: Any, experiment: str, by: str, tags: Mapping[str, str], name: str, started: int) -> str:
    """Id of the run with the value that `tags` have for the tag `by`."""
    wanted = tags[by].replace("'", "")
    found = client.search_runs([experiment], f"tags.{by} = '{wanted}'", max_results=1)
    if not found:
        given = {**tags, by: wanted}
        found = [client.create_run(experiment, start_time=started, tags=given, run_name=name)]
    return str(found[0].info.run_id)


def dataset_inputs(datasets: Mapping[str, str]) -> list[Any]:
    """Sets, path and digest, as MLflow takes them for a run; by a digest of dvc.lock `dvc pull` finds the files."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for path, digest in datasets.items():
        dataset = Dataset(Path(path).name, digest[:LONGEST_DIGEST], "local", json.dumps({"uri": path}))
        found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", Path(path).parent.name)]))
    return found


def accepted_names(names: Iterable[str]) -> dict[str, str]:
    """Each name as MLflow takes it: class names may hold brackets, and it takes slashes for those of a path."""
    accepted: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        clean = re.sub(r"[^\w\-. :/]", "_", name)[:LONGEST_NAME] or "_"
        if posixpath.normpath(clean) != clean or clean.startswith(("/", "..")) or clean == ".":
            clean = clean.replace("/", "_").replace(".", "_")
        while clean in taken:
            clean += "_"
        accepted[name] = clean
        taken.add(clean)
    return accepted


def first_line(error: Exception) -> str:
    """What went wrong, in one line without credentials."""
    message = without_password(str(error)).strip()
    return message.splitlines()[0] if message else type(error).__name__
