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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mobile_centernet.agent import disk
from mobile_centernet.agent.errors import LockedError
from mobile_centernet.bundle.errors import StorageError

REFUSALS = 32
"""So many are remembered; the oldest are forgotten."""

_IN_FILE = {"min_release": "floor"}
"""Names that a field has in the file, which devices have since before it was renamed."""


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
class AgentState:
    """What the agent must not forget: the contents of `memory.json`.

    min_release: the highest release number ever committed, in the file `floor`; no older one is taken
    newest:      SHA-256 of the manifest of that release, which no other of its number may have
    refused:     by digest, oldest first
    interrupted: how often the trial of a release was cut off, by digest
    """

    committed: Installed | None = None
    previous: Installed | None = None
    trial: Installed | None = None
    min_release: int = 0
    newest: str = ""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    interrupted: Mapping[str, int] = field(default_factory=dict)

    def refusing(self, digest: str, why: str, circumstances: str) -> "AgentState":
        """The state with one more refusal."""
        kept = {name: refusal for name, refusal in self.refused.items() if name != digest}
        newest = [*kept.items(), (digest, Refusal(why, circumstances))][-REFUSALS:]
        return replace(self, refused=dict(newest))

    def to_json(self) -> bytes:
        """The contents of the file."""
        document = {_IN_FILE.get(name, name): value for name, value in asdict(self).items()}
        return f"{json.dumps(document, indent=2)}\n".encode()

    @classmethod
    def from_json(cls, content: bytes) -> "AgentState":
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            document = json.loads(content)
            releases = {name: document[name] for name in ("committed", "previous", "trial")}
            state = cls(
                **{name: None if release is None else Installed(**release) for name, release in releases.items()},
                min_release=document[_IN_FILE["min_release"]],
                newest=document["newest"],
                refused={digest: Refusal(**refusal) for digest, refusal in document["refused"].items()},
                interrupted=dict(document["interrupted"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not an agent's state: {error!r}") from error
        if type(state.min_release) is not int:
            raise ValueError(f"not a release number: {state.min_release!r}")
        return state


class AgentStore:
    """Reads and changes the folder. Changes return when they are on the disk; OSError where it refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self.engines = root / "engines"
        self.current = root / "current"
        self._state = root / "memory.json"

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

    def save(self, state: AgentState) -> None:
        """Replace `memory.json`, whole or not at all."""
        temporary = self._state.with_name(f".{self._state.name}.tmp")
        disk.write_file(temporary, state.to_json())
        disk.rename(temporary, self._state)
        disk.sync_folder(self.root)

    def load(self) -> AgentState | None:
        """None where nothing was ever saved. Raises ValueError for a file that is damaged."""
        try:
            return AgentState.from_json(self._state.read_bytes())
        except FileNotFoundError:
            return None

    def point(self, digest: str | None) -> None:
        """Make `current` lead to a release, or to none, in one step: whoever follows it meets the old or the new."""
        if digest is None:
            disk.remove_durably(self.current)
            return
        temporary = self.current.with_name(f".{self.current.name}.tmp")
        disk.unlink(temporary)
        disk.symlink(temporary, f"{self.releases.name}/{digest}")
        disk.rename(temporary, self.current)
        disk.sync_folder(self.root)

    def pointed(self) -> str | None:
        """The digest of the release that `current` leads to; None where there is none yet."""
        return self.current.readlink().name if self.current.is_symlink() else None

    def collect(self, digests: Iterable[str], engines: Iterable[str]) -> None:
        """Remove everything but these releases, with their downloads, and these engines."""
        kept = {name for digest in digests for name in (digest, f"{digest}.partial")}
        for folder, names in ((self.releases, kept), (self.engines, set(engines))):
            for entry in folder.iterdir():
                if entry.name not in names:
                    disk.remove_folder(entry)
