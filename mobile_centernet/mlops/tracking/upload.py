"""Sending run records to MLflow: as often as one likes, nothing twice, from wherever it was cut off."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from mobile_centernet.mlops import mlflow_server
from mobile_centernet.mlops.tracking.record import END, METRICS, START, RunRecord, SyncState

RECORD_TAG = "record"  # of the run in MLflow: the record's name
PAUSE = 5.0  # seconds between two uploads of a run that goes on
LONGEST_PAUSE = 300.0  # between two tries at a server that does not answer
LAST_WAIT_SERVER, LAST_WAIT_LOCAL = 20.0, 120.0  # seconds that the end of a run waits for what is still on its way
MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 6000  # of MLflow, for one request

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


def sync_record(record: RunRecord, *, ended: bool = False) -> None:
    """Send all events that the server does not have yet.

    Cut off anywhere, it is repeated without harm: the run is found again by its tag, and the same number, of the same
    step and time, counts once.

    Args:
        record: the run.
        ended: nothing will be added any more; a run without an end was killed, and is marked so.

    Raises:
        Exception: one of those that `mlflow_server.failures` names.
    """
    from mlflow.entities import Metric, Param

    mlflow = mlflow_server.connect()
    client = mlflow.MlflowClient()
    server = mlflow_server.without_password(mlflow.get_tracking_uri())
    events = record.events()
    started = next((int(event["time_ms"]) for event in events if event), int(time.time() * 1000))
    state = record.sync_state(server)
    if state is None:
        experiment = mlflow.get_experiment_by_name(mlflow_server.EXPERIMENT).experiment_id
        found = client.search_runs([experiment], f"tags.{RECORD_TAG} = '{record.name}'", max_results=1)
        if not found:
            start = next((event for event in events if event and event["event"] == START), {})
            tags = {**start.get("tags", {}), RECORD_TAG: record.name}
            name = start.get("stage", record.name)
            found = [client.create_run(experiment, start_time=started, tags=tags, run_name=name)]
        state = SyncState(str(found[0].info.run_id), 0)
        record.mark_synced(server, state)
    if state.complete:
        return

    new = [event for event in events[state.lines :] if event is not None]
    starts = [event["params"] for event in new if event["event"] == START]
    params = [Param(key, str(value)[:LONGEST_PARAM]) for values in starts for key, value in values.items()]
    for few_params in _chunks(params, MOST_PARAMS):
        client.log_batch(state.run_id, params=few_params)
    metrics = [
        Metric(key, value, event["time_ms"], event["step"])
        for event in new
        if event["event"] == METRICS
        for key, value in event["values"].items()
    ]
    for few_metrics in _chunks(metrics, MOST_METRICS):
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
    record.mark_synced(server, SyncState(state.run_id, len(events), complete=end is not None))


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Uploader:
    """Syncs a record from a thread of its own, so that nobody waits for a server, and resumes when one is back."""

    def __init__(self, record: RunRecord, stage: str, pause: float = PAUSE) -> None:
        self._record, self._stage, self._pause = record, stage, pause
        self._ending = threading.Event()
        self._failed = False
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
        pause, ending = 0.0, False
        while not ending:
            ending = self._ending.wait(pause)
            try:
                sync_record(self._record)
                self._failed, pause = False, self._pause
            except mlflow_server.failures() as error:
                if not self._failed:
                    message = "%s: MLflow does not answer, its numbers are kept here (%s)"
                    logger.warning(message, self._stage, mlflow_server.first_line(error))
                self._failed, pause = True, min(LONGEST_PAUSE, max(2 * pause, 6 * self._pause))


def sync(records: Sequence[RunRecord]) -> Mapping[str, int]:
    """Send every record of a run that has ended; how many were `sent`, are `running`, were there `already`.

    Raises:
        Exception: one of those that `mlflow_server.failures` names; what was sent until then stays so.
    """
    counts = {"sent": 0, "running": 0, "already": 0}
    for record in records:
        if record.complete:
            counts["already"] += 1
            continue
        with record.when_dead() as dead:
            if dead:
                sync_record(record, ended=True)
                logger.info("sent %s", record.name)
            counts["sent" if dead else "running"] += 1
    return counts
