"""The heartbeats that applications leave, and what the agent makes of them. No wall clock takes part.

A beat is any change of a file `heartbeat` or `heartbeat.NAME`. Its text names the release and the process:
`{"release": DIGEST, "pid": 4711, "beats": 12}`. An empty file (`touch`) beats too, but cannot tell what it runs.
"""

import json
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobile_centernet.agent.config import HealthSettings
from mobile_centernet.outside import parse_object

HEARTBEAT = "heartbeat"
MOST = 32
"""So many applications are looked at."""


class Heartbeat:
    """Written by the application, in the agent's folder: at every frame will do, it writes at most once per second.

    `name` tells the applications of a device apart, such as one for each camera.
    """

    def __init__(self, root: Path, name: str = "") -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,64}", name):
            raise ValueError(f"name: expected letters, digits, _ or -, found {name!r}")
        self._path = root / (f"{HEARTBEAT}.{name}" if name else HEARTBEAT)
        self._beats = 0

    def beat(self, release: str) -> None:
        """Say that this process has just run the release of that digest. OSError where the file cannot be written."""
        self._beats += 1
        beat = {"release": release, "pid": os.getpid(), "beats": self._beats}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(beat), encoding="utf-8")
        temporary.replace(self._path)


@dataclass(frozen=True)
class Beat:
    """One look at a heartbeat. `stamp` changes with every beat; release and pid are None where it does not tell."""

    stamp: tuple[int, int, int, bytes]
    release: str | None
    pid: int | None


def read_beats(root: Path) -> dict[str, Beat]:
    """By the file's name; without half a heartbeat, or what is none."""
    beats = {}
    try:
        names = sorted(path.name for path in root.iterdir() if path.name.split(".")[0] == HEARTBEAT)
    except OSError:
        return {}
    for name in names[:MOST]:
        try:
            descriptor = os.open(root / name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name must not block
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    continue
                content = file.read(1000)
            document = parse_object(content) if content else {}
        except (OSError, ValueError):
            continue
        release, pid = document.get("release"), document.get("pid")
        beats[name] = Beat(
            (found.st_mtime_ns, found.st_ino, found.st_size, content),
            release if isinstance(release, str) else None,
            pid if isinstance(pid, int) else None,
        )
    return beats


@dataclass
class _Pulse:
    """Of one heartbeat file: its first and last beat for the new release, and each process's last."""

    first: float
    last: float
    pids: dict[int | None, float] = field(default_factory=dict)


class HealthMonitor:
    """The health window of one release. All times are seconds of a clock that only goes forward.

    After each `update`: `reason` is a sentence where the release is unhealthy, `is_over` tells whether it has lived
    through the window. Processes that take turns on one file are several applications, and no restarts.
    """

    def __init__(
        self,
        release: str,
        settings: HealthSettings,
        now: float,
        before: Mapping[str, Beat],
        expected: Collection[str] = (),
    ) -> None:
        """
        Args:
            release: its digest.
            settings: of the window.
            now: when it begins.
            before: the heartbeats as they were before the swap, which say nothing about the new release.
            expected: those that must come.
        """
        self.reason: str | None = None
        self.is_over = False
        self._release = release
        self._settings = settings
        self._began = now
        self._stamps = {name: beat.stamp for name, beat in before.items()}
        self._expected = expected
        self._pulses: dict[str, _Pulse] = {}

    def update(self, beats: Mapping[str, Beat], now: float) -> None:
        """Take in the heartbeats as they are; call it often."""
        for name, beat in beats.items():
            if beat.stamp != self._stamps.get(name):
                self._stamps[name] = beat.stamp
                if beat.release in (None, self._release):
                    pulse = self._pulses.setdefault(name, _Pulse(now, now))
                    pulse.last = pulse.pids[beat.pid] = now

        settings, pulses = self._settings, self._pulses
        missing = sorted(set(self._expected) - set(pulses)) or ([] if pulses else [HEARTBEAT])
        if missing and now - self._began > settings.start_s:
            within = f"within {settings.start_s:g} s"
            self.reason = f"expected a heartbeat of the new release {within}, found none ({', '.join(missing)})"
        for name, pulse in pulses.items():
            silent, gone = now - pulse.last, [at for at in pulse.pids.values() if now - at > settings.gap_s]
            if silent > settings.gap_s:
                self.reason = f"expected a {name} every {settings.gap_s:g} s, found none for {silent:.1f} s"
            elif len(gone) > settings.restarts:
                self.reason = (
                    f"expected at most {settings.restarts} restarts of the application, found {len(gone)} ({name})"
                )
        self.is_over = not missing and all(now - pulse.first >= settings.window_s for pulse in pulses.values())
