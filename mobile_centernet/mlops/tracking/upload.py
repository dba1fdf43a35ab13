"""Telling MLflow what run records hold: as often as one likes, nothing twice, from wherever it was cut off."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mobile_centernet.mlops import mlflow_server
from mobile_centernet.mlops.tracking.record import END, METRICS, START, Delivery, Event, RunRecord

RECORD_TAG = "record"  # of the run in MLflow: the record's name
PAUSE = 5.0  # seconds between two deliveries of a run that goes on
LONGEST_PAUSE = 300.0  # between two tries at a server that does not answer
LAST_WAIT_SERVER, LAST_WAIT_LOCAL = 20.0, 120.0  # seconds that the end of a run waits for what is still on its way
MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 6000  # of MLflow, for one request

Item = TypeVar("Item")


def deliver(record: RunRecord, *, ended: bool = False) -> None:
    """Hand over all events that the server does not have yet. Raises what `mlflow_server.failures` names.

    `ended`: nothing will be added any more; a run without an end was killed, and is told so.
    Cut off anywhere, it is repeated without harm: the run is found again by its tag, and the same number, of the same
    step and time, counts once.
    """
    mlflow = mlflow_server.connect()
    client = mlflow.MlflowClient()
    server = mlflow_server.without_password(mlflow.get_tracking_uri())
    events = record.events()
    known = record.delivered(server)
    if known is None:
        known = Delivery(_find_or_create(client, mlflow, record, events), 0)
        record.note(server, known)
    if known.complete:
        return
    new = [event for event in events[known.lines :] if event is not None]
    _log_params(client, known.run_id, new)
    _log_metrics(client, known.run_id, new)
    end = next((event for event in new if event["event"] == END), None)
    if end is None and ended:
        end = {"status": "KILLED", "tags": {}, "time_ms": max([_started(events), *(event["time_ms"] for event in new)])}
    if end is not None:
        for key, value in end["tags"].items():
            client.set_tag(known.run_id, key, value)
        if record.files.is_dir():
            client.log_artifacts(known.run_id, str(record.files))
        client.set_terminated(known.run_id, end["status"], end["time_ms"])
    record.note(server, Delivery(known.run_id, len(events), complete=end is not None))


class Courier:
    """Delivers a record from a thread of its own, so that nobody waits for a server, and goes on when one is back."""

    def __init__(self, record: RunRecord, complain: Callable[[str], None], pause: float = PAUSE) -> None:
        self._record, self._complain, self._pause = record, complain, pause
        self._ending = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """Deliver the rest, within a few seconds; whether the server has everything."""
        self._ending.set()
        wait = LAST_WAIT_LOCAL if mlflow_server.is_local() else LAST_WAIT_SERVER
        # Where the last try failed, the next one is left to `tracking sync`: every stage would wait in vain.
        self._thread.join(0 if self._failed else wait)
        return self._record.complete

    def _work(self) -> None:
        pause, ending = 0.0, False
        while not ending:
            ending = self._ending.wait(pause)
            try:
                deliver(self._record)
                self._failed, pause = False, self._pause
            except mlflow_server.failures() as error:
                if not self._failed:
                    self._complain(mlflow_server.first_line(error))
                self._failed, pause = True, min(LONGEST_PAUSE, max(2 * pause, 6 * self._pause))


def _find_or_create(client: Any, mlflow: Any, record: RunRecord, events: Sequence[Event | None]) -> str:
    experiment = mlflow.get_experiment_by_name(mlflow_server.EXPERIMENT).experiment_id
    found = client.search_runs([experiment], f"tags.{RECORD_TAG} = '{record.name}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    start = next((event for event in events if event and event["event"] == START), {})
    run = client.create_run(
        experiment,
        start_time=_started(events),
        tags={**start.get("tags", {}), RECORD_TAG: record.name},
        run_name=start.get("stage", record.name),
    )
    return str(run.info.run_id)


def _started(events: Sequence[Event | None]) -> int:
    return next((int(event["time_ms"]) for event in events if event), int(time.time() * 1000))


def _log_params(client: Any, run_id: str, events: Sequence[Event]) -> None:
    from mlflow.entities import Param

    params = [
        Param(key, str(value)[:LONGEST_PARAM])
        for event in events
        if event["event"] == START
        for key, value in event["params"].items()
    ]
    for some in _chunks(params, MOST_PARAMS):
        client.log_batch(run_id, params=some)


def _log_metrics(client: Any, run_id: str, events: Sequence[Event]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(key, value, event["time_ms"], event["step"])
        for event in events
        if event["event"] == METRICS
        for key, value in event["values"].items()
    ]
    for some in _chunks(metrics, MOST_METRICS):
        client.log_batch(run_id, metrics=some)


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def sync(records: Sequence[RunRecord]) -> Mapping[str, int]:
    """Deliver every record of a run that has ended; how many were `sent`, are `running`, were there `already`.

    Raises what `mlflow_server.failures` names; what was delivered until then stays so.
    """
    counts = {"sent": 0, "running": 0, "already": 0}
    for record in records:
        if record.complete:
            counts["already"] += 1
            continue
        with record.when_dead() as dead:
            if dead:
                deliver(record, ended=True)
                print(f"sent {record.name}", file=sys.stderr)
            counts["sent" if dead else "running"] += 1
    return counts
