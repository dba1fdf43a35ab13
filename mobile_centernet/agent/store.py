"""The agent's folder: releases, engines, and what must be remembered through a loss of power.

    memory.json                      what is committed, what was before, what is on trial, what was refused
    current                          link to the release to run; the application reads no more than this
    releases/DIGEST/                 a release, whole
    releases/DIGEST.partial          a download that is not whole yet
    engines/KEY/                     what TensorRT built
    heartbeat, status.json           of the application and for people; losing them costs nothing

`memory.json` is the truth: `current` is made from it at every start.
"""

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mobile_centernet.agent import disk
from mobile_centernet.bundle.errors import LockedError, StorageError

REFUSALS = 32
"""So many are remembered; the oldest are forgotten."""


@dataclass(frozen=True)
class Installed:
    """A release in the store: digest of its bundle, version in the registry, release number of its manifest."""

    digest: str
    version: str
    release: int


@dataclass(frozen=True)
class Refusal:
    """Why a release is not tried again, and under which keys, device and settings that was."""

    why: str
    circumstances: str


@dataclass(frozen=True)
class Memory:
    """What the agent must not forget.

    floor:       the highest release number ever committed; no older one is taken
    newest:      SHA-256 of the manifest of that release, which no other of its number may have
    refused:     by digest, oldest first
    interrupted: how often the trial of a release was cut off, by digest
    """

    committed: Installed | None = None
    previous: Installed | None = None
    trial: Installed | None = None
    floor: int = 0
    newest: str = ""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    interrupted: Mapping[str, int] = field(default_factory=dict)

    def refusing(self, digest: str, why: str, circumstances: str) -> "Memory":
        kept = {name: refusal for name, refusal in self.refused.items() if name != digest}
        newest = [*kept.items(), (digest, Refusal(why, circumstances))][-REFUSALS:]
        return replace(self, refused=dict(newest))

    def committing(self, installed: Installed, manifest_sha256: str) -> "Memory":
        """What is remembered once `installed`, which was on trial, stays."""
        is_newest = installed.release > self.floor
        return replace(
            self,
            committed=installed,
            previous=self.committed,
            trial=None,
            floor=installed.release if is_newest else self.floor,
            newest=manifest_sha256 if is_newest else self.newest,
            refused={digest: refusal for digest, refusal in self.refused.items() if digest != installed.digest},
            interrupted={},
        )

    def to_bytes(self) -> bytes:
        return f"{json.dumps(asdict(self), indent=2)}\n".encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Memory":
        """Raises ValueError for anything that is no memory."""
        try:
            document = json.loads(content)
            memory = cls(
                **{name: _installed(document[name]) for name in ("committed", "previous", "trial")},
                floor=document["floor"],
                newest=document["newest"],
                refused={digest: Refusal(**refusal) for digest, refusal in document["refused"].items()},
                interrupted=dict(document["interrupted"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a memory: {error!r}") from error
        if type(memory.floor) is not int:
            raise ValueError(f"not a release number: {memory.floor!r}")
        return memory


def _installed(document: Any) -> Installed | None:
    return None if document is None else Installed(**document)


class Store:
    """Reads and changes the folder. Changes return when they are on the disk; OSError where it refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.engines = root / "engines"
        self.current = root / "current"
        self._memory = root / "memory.json"

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
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(
                    f"{self.root}: expected to be the only agent here, found another one running"
                ) from error
            yield

    def folder(self, digest: str) -> Path:
        return self.releases / digest

    def partial(self, digest: str) -> Path:
        return self.releases / f"{digest}.partial"

    def engine(self, key: str) -> Path:
        return self.engines / key

    def remember(self, memory: Memory) -> None:
        disk.write_durably(self._memory, memory.to_bytes())

    def recall(self) -> Memory | None:
        """None where nothing was ever remembered. Raises ValueError for a file that is damaged."""
        try:
            return Memory.from_bytes(self._memory.read_bytes())
        except FileNotFoundError:
            return None

    def point(self, digest: str | None) -> None:
        """Make `current` lead to a release, or to none."""
        if digest is None:
            disk.remove_durably(self.current)
        else:
            disk.link_durably(self.current, f"{self.releases.name}/{digest}")

    def pointed(self) -> str | None:
        """The digest that `current` leads to; None where there is no such link."""
        return self.current.readlink().name if self.current.is_symlink() else None

    def collect(self, digests: Iterable[str], engines: Iterable[str]) -> None:
        """Remove everything but these releases, with their downloads, and these engines."""
        kept = {name for digest in digests for name in (digest, f"{digest}.partial")}
        for folder, names in ((self.releases, kept), (self.engines, set(engines))):
            for entry in folder.iterdir():
                if entry.name not in names:
                    disk.remove_folder(entry)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free


def read_current(root: Path) -> str | None:
    """For the application: the digest of the release to run, None where there is none yet."""
    return Store(root).pointed()
