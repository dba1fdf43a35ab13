"""The agent's folder: releases, engines, and what must be remembered through a loss of power.

    memory.json, memory.2.json       what is committed, what was before, what is on trial, what was refused; twice
    current                          link to the release to run; the application reads no more than this
    releases/DIGEST/                 a release, whole; DIGEST is the SHA-256 of its manifest
    releases/DIGEST.partial          a download that is not whole yet
    engines/KEY/                     what TensorRT built
    trust/                           the newest metadata that was verified
    heartbeat*, status.json          of the applications and for people; losing them costs nothing

The memory is the truth: `current` is made from it at every start.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mobile_centernet.agent import disk
from mobile_centernet.agent.errors import LockedError
from mobile_centernet.bundle.errors import StorageError
from mobile_centernet.outside import parse_object, typed

REFUSALS = 32
"""So many are remembered; the oldest are forgotten."""

TRIALS = 5
"""A release that failed so often for reasons that may pass is refused: it may be what brings the device down."""

logger = logging.getLogger(__name__)

_COPIES = ("memory.json", "memory.2.json")


@dataclass(frozen=True)
class Installed:
    """A release in the store.

    digest: SHA-256 of its manifest, which is what a release is, whoever signed it how often.
    version: in the registry.
    number: of the statement that named it; a later statement may name it again.
    bundle: SHA-256 of the file that it came in.
    """

    digest: str
    version: str
    number: int
    bundle: str


@dataclass(frozen=True)
class Refusal:
    """Why a release is not tried again, and on which device and settings that was.

    tries: how often it has failed for reasons that may pass; 0 where the reason is the release itself.
    """

    why: str
    circumstances: str
    tries: int = 0

    @property
    def is_final(self) -> bool:
        return not 0 < self.tries < TRIALS


@dataclass(frozen=True)
class AgentState:
    """What the agent must not forget.

    unproven:  what `current` leads to where the memory was lost: it keeps running, and counts as nothing
    number:    of the newest statement ever taken, and `statement` its SHA-256; no smaller number is taken
    withdrawn: manifests that it withdrew
    seen:      when it was taken, by this device's clock, in seconds since 1970: no clock before it is right
    refused:   by digest, oldest first
    """

    committed: Installed | None = None
    previous: Installed | None = None
    trial: Installed | None = None
    unproven: Installed | None = None
    number: int = 0
    statement: str = ""
    withdrawn: tuple[str, ...] = ()
    seen: float = 0.0
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    def refusing(self, digest: str, why: str, circumstances: str, *, may_pass: bool = False) -> "AgentState":
        """The state with one more refusal."""
        before = self.refused.get(digest)
        tries = (before.tries if before and before.circumstances == circumstances else 0) + 1 if may_pass else 0
        kept = {name: refusal for name, refusal in self.refused.items() if name != digest}
        newest = [*kept.items(), (digest, Refusal(why, circumstances, tries))][-REFUSALS:]
        return replace(self, refused=dict(newest))

    def to_json(self, counter: int) -> bytes:
        """The contents of a copy, the `counter`-th that is written."""
        text = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{json.dumps({'counter': counter, 'sha256': digest, 'state': asdict(self)}, indent=2)}\n".encode()

    @classmethod
    def from_json(cls, content: bytes) -> "tuple[int, AgentState]":
        """The inverse of `to_json`: the counter and the state. ValueError for anything else."""
        document = parse_object(content)
        state: AgentState = typed(document.get("state"), cls)
        counter: int = typed(document.get("counter"), int, "counter")
        if state.to_json(counter) != content:
            raise ValueError("expected a state of its checksum")
        return counter, state


class AgentStore:
    """Reads and changes the folder. Changes return when they are on the disk; OSError where it refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.engines = root / "engines"
        self.current = root / "current"
        self.trust = root / "trust"
        self.request = root / "rollback.request"
        self.is_intact = False  # both copies of the memory are there, and equal
        self._counter = 0

    def create(self) -> None:
        """Make the folders that are missing. Raises StorageError."""
        try:
            for folder in (self.root, self.releases, self.engines):
                if not folder.is_dir():
                    folder.mkdir(parents=True)
                    disk.sync_folder(folder.parent)
        except OSError as error:
            raise StorageError(f"{self.root}: expected a folder of the agent's own ({error.strerror})") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; the kernel lets go of it when the process ends. Raises LockedError if another holds it."""
        self.create()
        try:
            # The folder itself: nobody can remove that lock, and a disk that has become read-only still has it.
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StorageError(f"{self.root}: expected a folder of the agent's own ({error.strerror})") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(f"{self.root}: another agent is already running here") from error
            yield
        finally:
            os.close(descriptor)

    def folder(self, digest: str) -> Path:
        return self.releases / digest

    def partial(self, digest: str) -> Path:
        return self.releases / f"{digest}.partial"

    def engine(self, key: str) -> Path:
        return self.engines / key

    def save(self, state: AgentState) -> None:
        """Replace both copies of the memory, one after the other, each whole or not at all."""
        self._counter += 1
        self.is_intact = False
        for name in _COPIES:
            temporary = self.root / f".{name}.tmp"
            disk.write_file(temporary, state.to_json(self._counter))
            disk.rename(temporary, self.root / name)
            disk.sync_folder(self.root)
        self.is_intact = True

    def load(self) -> AgentState:
        """The newest copy; where all are damaged, `current` stays as it is and counts as unproven.

        Raises:
            OSError: none can be read, which says nothing about what they hold.
        """
        found: list[tuple[int, AgentState]] = []
        refused: OSError | None = None
        for name in _COPIES:
            try:
                found.append(AgentState.from_json((self.root / name).read_bytes()))
            except FileNotFoundError:
                continue
            except OSError as error:
                refused = error
            except ValueError as error:
                logger.error("%s: expected what the last agent wrote, found something else (%s)", name, error)
        if found:
            self._counter, state = max(found, key=lambda copy: copy[0])
            self.is_intact = found == [(self._counter, state)] * len(_COPIES)
            return state
        if refused:
            raise refused
        digest = self.pointed()
        return AgentState(unproven=Installed(digest, "unknown", 0, "") if digest else None)

    def point(self, digest: str | None) -> None:
        """Make `current` lead to a release, or to none, in one step: whoever follows it meets the old or the new."""
        if digest is None:
            disk.remove_durably(self.current)
            return
        temporary = self.current.with_name(f".{self.current.name}.tmp")
        disk.unlink(temporary)
        if self.current.is_dir() and not self.current.is_symlink():
            disk.remove_folder(self.current)  # as a backup that follows links restores it
        disk.symlink(temporary, f"{self.releases.name}/{digest}")
        disk.rename(temporary, self.current)
        disk.sync_folder(self.root)

    def pointed(self) -> str | None:
        """The digest of the release that `current` leads to; None where there is none yet."""
        try:
            return self.current.readlink().name
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # there is none, or no link
                return None
            raise

    def collect(self, digests: Iterable[str], engines: Iterable[str]) -> None:
        """Remove everything but these releases, with their downloads, and these engines."""
        kept = {name for digest in digests for name in (digest, f"{digest}.partial")}
        for folder, names in ((self.releases, kept), (self.engines, set(engines))):
            for entry in folder.iterdir():
                if entry.name not in names:
                    disk.remove_folder(entry)
