"""What a run has for MLflow, written on this machine first: no server can lose it, slow it down or stop it.

.work/tracking/TIME-STAGE-ID/, in the project itself also while DVC runs a queued experiment elsewhere
    events.jsonl      one event a line: `start`, `metrics` ..., `end`
    files/            small files to attach
    delivered.json    by server: the run's id there and how many lines it has
    alive.lock        held by the run's process; the kernel frees it, also of one that was killed
"""

import json
import logging
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mobile_centernet.errors import UserError
from mobile_centernet.files import write_json
from mobile_centernet.mlops import paths

START, METRICS, END = "start", "metrics", "end"
Event = dict[str, Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncState:
    """How much of a run one server has: its id there, lines of events.jsonl, and whether that is all there will be.

    `parent` is the id of the run of the whole pipeline, above it.
    """

    run_id: str
    lines: int
    complete: bool = False
    parent: str | None = None


class RunRecord:
    """One run's folder. Writing is cheap: a line appended, never waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events_file = folder / "events.jsonl"
        self.files = folder / "files"
        self._states_file = folder / "delivered.json"
        self._alive = FileLock(folder / "alive.lock", timeout=0)
        self._writing = threading.Lock()

    @classmethod
    def create(cls, name: str) -> "RunRecord":
        """A new, empty record, alive until `close`."""
        stem = re.sub(r"[^\w.-]", "-", name)
        folder = (
            paths.project_root() / paths.TRACKING / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{stem}-{uuid.uuid4().hex[:12]}"
        )
        folder.mkdir(parents=True)
        record = cls(folder)
        record._alive.acquire()
        return record

    @property
    def name(self) -> str:
        """Unique; also the tag by which a server knows the run again."""
        return self.folder.name

    def write(self, kind: str, **fields: Any) -> None:
        line = json.dumps({"event": kind, "time_ms": int(time.time() * 1000), **fields}, ensure_ascii=False)
        with self._writing, self.events_file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def attach(self, path: Path) -> None:
        """Keep a copy of a small file: what is at `path` may be another one when a server answers again."""
        self.files.mkdir(exist_ok=True)
        shutil.copy(path, self.files / path.name)

    def events(self) -> list[Event | None]:
        """One for each line; None for one that a full disk or a power failure cut off."""
        if not self.events_file.is_file():
            return []
        events: list[Event | None] = []
        for number, line in enumerate(self.events_file.read_bytes().split(b"\n")[:-1], start=1):
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict) or event.get("event") not in (START, METRICS, END):
                logger.warning("%s line %d: expected an event, found %r", self.events_file, number, line[:60])
                event = None
            events.append(event)
        return events

    @property
    def lines(self) -> int:
        return len(self.events())

    def sync_state(self, server: str) -> SyncState | None:
        """How much of the run `server` has; None where it knows nothing of it."""
        found = self._read_states().get(server)
        return SyncState(**found) if found else None

    def mark_synced(self, server: str, state: SyncState) -> None:
        write_json(self._states_file, self._read_states() | {server: asdict(state)})
        if state.complete:
            shutil.rmtree(self.files, ignore_errors=True)  # megabytes of pages; the numbers stay

    def forget_synced(self) -> None:
        """As if no server had anything of it."""
        self._states_file.unlink(missing_ok=True)

    @property
    def complete(self) -> bool:
        """Whether some server has all of it."""
        return any(entry["complete"] for entry in self._read_states().values())

    @contextmanager
    def when_dead(self) -> Iterator[bool]:
        """Whether the run's process has ended; held meanwhile, so that two do not send the same run."""
        try:
            self._alive.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            self._alive.release()

    def close(self) -> None:
        self._alive.release()

    def _read_states(self) -> dict[str, dict[str, Any]]:
        if not self._states_file.is_file():
            return {}
        found: dict[str, dict[str, Any]] = json.loads(self._states_file.read_text(encoding="utf-8"))
        return found


def all_records() -> list[RunRecord]:
    """Oldest first."""
    place = paths.project_root() / paths.TRACKING
    return [RunRecord(folder) for folder in sorted(place.glob("*")) if folder.is_dir()]


def find_record(name: str) -> RunRecord:
    """Raises UserError where there is no record of that name."""
    for record in all_records():
        if record.name == name:
            return record
    raise UserError(f"{name}: expected a record that `mobile-centernet tracking list` names, found none of that name")
