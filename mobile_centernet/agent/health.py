"""The heartbeat that an application leaves, and what the agent makes of it. No wall clock takes part.

A beat is any change of the heartbeat file. Its text names the release and the process:
`{"release": DIGEST, "pid": 4711, "beats": 12}`. An empty file (`touch`) beats too, but cannot tell what it runs.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.agent.config import HealthSettings

HEARTBEAT = "heartbeat"


class Heartbeat:
    """Written by the application, in the agent's folder: at every frame will do, it writes once a second at most."""

    def __init__(self, root: Path) -> None:
        self._path = root / HEARTBEAT
        self._beats = 0

    def beat(self, release: str) -> None:
        """Say that this process has just run the release of that digest. OSError where the file cannot be written."""
        self._beats += 1
        beat = {"release": release, "pid": os.getpid(), "beats": self._beats}
        temporary = self._path.with_name(f".{HEARTBEAT}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(beat), encoding="utf-8")
        temporary.replace(self._path)


@dataclass(frozen=True)
class Beat:
    """One look at the heartbeat. `stamp` changes with every beat; release and pid are None where it does not tell."""

    stamp: tuple[int, int, int, bytes]
    release: str | None
    pid: int | None


def read_beat(root: Path) -> Beat | None:
    """None where there is no heartbeat, or half of one."""
    path = root / HEARTBEAT
    try:
        with path.open("rb") as file:
            content = file.read(1000)
            found = os.fstat(file.fileno())
        document = json.loads(content) if content else {}
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    release, pid = document.get("release"), document.get("pid")
    return Beat(
        (found.st_mtime_ns, found.st_ino, found.st_size, content),
        release if isinstance(release, str) else None,
        pid if isinstance(pid, int) else None,
    )


class HealthMonitor:
    """The health window of one release. All times are seconds of a clock that only goes forward.

    After each `update`: `reason` is a sentence where the release is unhealthy, `is_over` tells whether it has lived
    through the window.
    """

    def __init__(self, release: str, settings: HealthSettings, now: float, before: Beat | None) -> None:
        """`before`: the heartbeat as it was before the swap, which says nothing about the new release."""
        self.reason: str | None = None
        self.is_over = False
        self._release = release
        self._settings = settings
        self._began = now
        self._stamp = before.stamp if before else None
        self._first: float | None = None
        self._last = now
        self._pid: int | None = None
        self._restarts = 0

    def update(self, beat: Beat | None, now: float) -> None:
        """Take in the heartbeat as it is; call it often."""
        if beat is not None and beat.stamp != self._stamp:
            self._stamp = beat.stamp
            if beat.release in (None, self._release):
                if beat.pid != self._pid and self._pid is not None:
                    self._restarts += 1
                self._pid = beat.pid
                self._last = now
                if self._first is None:
                    self._first = now

        settings = self._settings
        if self._restarts > settings.restarts:
            self.reason = f"expected at most {settings.restarts} restarts of the application, found {self._restarts}"
        elif self._first is None and now - self._began > settings.start_s:
            self.reason = f"expected a heartbeat of the new release within {settings.start_s:g} s, found none"
        elif self._first is not None and now - self._last > settings.gap_s:
            self.reason = f"expected a heartbeat every {settings.gap_s:g} s, found none for {now - self._last:.1f} s"
        self.is_over = self._first is not None and now - self._first >= settings.window_s
