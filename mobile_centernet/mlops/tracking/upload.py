"""Sending run records to MLflow: as often as one likes, nothing twice, from wherever it was cut off."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import psutil

from mobile_centernet.errors import without_password
from mobile_centernet.mlops import mlflow_server
from mobile_centernet.mlops.tracking.record import END, METRICS, START, Event, RunRecord, SyncState

RECORD_TAG = "record"  # of the run in MLflow: the record's name
SYSTEM = "system/"  # what MLflow shows as system metrics
SYSTEM_PAUSE = 60.0  # seconds between two of their samples
PAUSE = 5.0  # seconds between two uploads of a run that is not over
LONGEST_PAUSE = 300.0  # between two tries at a server that does not answer
LAST_WAIT_SERVER, LAST_WAIT_LOCAL = 20.0, 120.0  # seconds that the end of a run waits for what is still on its way
MOST_METRICS, MOST_PARAMS = 1000, 100  # of MLflow, for one request
LONGEST_PARAM = 6000  # characters

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


def sync_record(record: RunRecord, *, ended: bool = False) -> None:
    """Send all events that the server does not have yet.

    Cut off anywhere, it is repeated without harm: the run is found again by its tag, and the same number, of the same
    step and time, counts once.

    Args:
        record: the run.
        ended: nothing will be added any more; a run without an end was killed.

    Raises:
        Exception: one of those that `mlflow_server.failures` names.
    """
    from mlflow.entities import Metric, Param

    mlflow = mlflow_server.connect()
    client = mlflow.MlflowClient()
    server = without_password(mlflow.get_tracking_uri())
    events = record.events()
    known = [event for event in events if event is not None]
    started = int(known[0]["time_ms"]) if known else int(time.time() * 1000)
    start = next((event for event in known if event["event"] == START), {})
    state = record.sync_state(server)
    if state is None:
        experiment = mlflow.get_experiment_by_name(mlflow_server.EXPERIMENT).experiment_id
        tags = {**start.get("tags", {}), RECORD_TAG: record.name}
        parent = None
        if execution := start.get("execution"):
            above = {**start["tags"], "stage": "pipeline", mlflow_server.EXECUTION_TAG: execution}
            parent = mlflow_server.find_or_create_run(
                client, experiment, mlflow_server.EXECUTION_TAG, above, execution, started
            )
            tags[mlflow_server.PARENT_TAG] = parent
        run = mlflow_server.find_or_create_run(
            client, experiment, RECORD_TAG, tags, start.get("stage", record.name), started
        )
        state = SyncState(run, 0, parent=parent)
        record.mark_synced(server, state)
    if state.complete:
        return

    new = [event for event in events[state.lines :] if event is not None]
    param_names = mlflow_server.accepted_names(start.get("params", {}))
    params = [Param(param_names[key], str(value)[:LONGEST_PARAM]) for key, value in start.get("params", {}).items()]
    if any(event["event"] == START for event in new):
        for few_params in _chunks(params, MOST_PARAMS):
            client.log_batch(state.run_id, params=few_params)
        if datasets := mlflow_server.dataset_inputs(start.get("datasets", {})):
            client.log_inputs(state.run_id, datasets=datasets)
    names = mlflow_server.accepted_names(key for event in known if event["event"] == METRICS for key in event["values"])

    def metrics_of(some: Sequence[Event]) -> list[Metric]:
        return [
            Metric(names[key], value, event["time_ms"], event["step"])
            for event in some
            if event["event"] == METRICS
            for key, value in event["values"].items()
        ]

    for few_metrics in _chunks(metrics_of(new), MOST_METRICS):
        client.log_batch(state.run_id, metrics=few_metrics)

    end = next((event for event in new if event["event"] == END), None)
    if end is None and ended:
        end = {"status": "KILLED", "tags": {}, "time_ms": max([started, *(event["time_ms"] for event in new)])}
    if end is not None:
        for key, value in end["tags"].items():
            client.set_tag(state.run_id, key, value)
        if record.files.is_dir():
            client.log_artifacts(state.run_id, str(record.files))
        client.set_terminated(state.run_id, end["status"], end["time_ms"])
        if state.parent:  # it has what its stages have said so far, and stands as the last of them
            for few_params in _chunks(params, MOST_PARAMS):
                client.log_batch(state.parent, params=few_params)
            last = {metric.key: metric.value for metric in metrics_of(known) if not metric.key.startswith(SYSTEM)}
            summary = [Metric(f"{start['stage']}/{key}", value, end["time_ms"], 0) for key, value in last.items()]
            for few_metrics in _chunks(summary, MOST_METRICS):
                client.log_batch(state.parent, metrics=few_metrics)
            client.set_terminated(state.parent, end["status"], end["time_ms"])
    record.mark_synced(server, replace(state, lines=len(events), complete=end is not None))


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Uploader:
    """Syncs a record from a thread of its own, so that nobody waits for a server, and resumes when one is back."""

    def __init__(self, record: RunRecord, stage: str, pause: float = PAUSE) -> None:
        self._record, self._stage, self._pause = record, stage, pause
        self._ending = threading.Event()
        self._failed, self._samples = False, 0
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """Upload the rest, within a few seconds; whether the server has everything."""
        self._ending.set()
        # The project's own database never hangs, a server may.
        is_server = os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))
        wait = LAST_WAIT_SERVER if is_server else LAST_WAIT_LOCAL
        # Where the last try failed, the next one is left to `tracking sync`: every stage would wait in vain.
        self._thread.join(0 if self._failed else wait)
        return self._record.complete

    def _work(self) -> None:
        pause, ending, sampled = 0.0, False, -SYSTEM_PAUSE
        process = psutil.Process()
        while not ending:
            ending = self._ending.wait(pause)
            try:
                if time.monotonic() - sampled >= SYSTEM_PAUSE:
                    sampled = time.monotonic()
                    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._record.folder))
                    values = {
                        f"{SYSTEM}cpu_utilization_percentage": psutil.cpu_percent(),
                        f"{SYSTEM}system_memory_usage_percentage": memory.percent,
                        f"{SYSTEM}process_memory_usage_megabytes": process.memory_info().rss / 1e6,
                        f"{SYSTEM}disk_available_megabytes": disk.free / 1e6,
                        f"{SYSTEM}load_average": os.getloadavg()[0],
                    }
                    self._record.write(METRICS, step=self._samples, values=values)
                    self._samples += 1
                sync_record(self._record)
                self._failed, pause = False, self._pause
            except mlflow_server.failures() as error:
                if not self._failed:
                    message = "%s: MLflow has not taken its numbers, they are kept here (%s)"
                    logger.warning(message, self._stage, mlflow_server.first_line(error))
                self._failed, pause = True, min(LONGEST_PAUSE, max(2 * pause, 6 * self._pause))


def sync(records: Sequence[RunRecord]) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """Send every record of a run that has ended; one that the server refuses keeps none of the others.

    Returns:
        How many were `sent`, are `running`, were there `already`; and by the name of its record, why one was refused.

    Raises:
        Exception: one of those that `mlflow_server.failures` names, where MLflow does not answer; what was sent until
            then stays so.
    """
    counts = {"sent": 0, "running": 0, "already": 0}
    refused: dict[str, str] = {}
    for record in records:
        if record.complete:
            counts["already"] += 1
            continue
        with record.when_dead() as dead:
            if dead:
                try:
                    sync_record(record, ended=True)
                except mlflow_server.failures() as error:
                    mlflow_server.connect()  # raises where it is not the record's fault
                    refused[record.name] = mlflow_server.first_line(error)
                    continue
                logger.info("sent %s", record.name)
            counts["sent" if dead else "running"] += 1
    return counts, refused
