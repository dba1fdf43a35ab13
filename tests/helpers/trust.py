"""A whole trust repository in a folder, with every key at hand, and a device that reads it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater

from mobile_centernet.trust.ceremony import Staged, init
from mobile_centernet.trust.keys import KeyRing, generate_key, public_key
from mobile_centernet.trust.layout import (
    CHAMPION,
    LIFE_DAYS,
    METADATA_FOLDER,
    ROOT,
    TARGETS_FOLDER,
    statement_path,
)
from mobile_centernet.trust.repository import Repository, StoreFetcher
from mobile_centernet.trust.statement import Statement
from mobile_centernet.trust.store import LOCK, FolderStore

MODEL = "street"


class WatchedStore(FolderStore):
    """A folder that calls `before_write` with each name, also of what is written in vain."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.before_write: Callable[[str], None] = lambda _name: None

    def create(self, name: str, content: bytes) -> None:
        self.before_write(name)
        super().create(name, content)

    def replace(self, name: str, content: bytes, before: bytes | None) -> None:
        self.before_write(name)
        super().replace(name, content, before)


class CutOffError(Exception):
    """The publisher's machine stops here."""

    @classmethod
    def after(cls, writes: int) -> Callable[[str], None]:
        """For `WatchedStore.before_write`: raises before the write that follows so many."""
        left = iter(range(writes))

        def stop(name: str) -> None:
            if next(left, None) is None:
                raise cls(name)

        return stop


def publish(repository: Repository, statement: Statement) -> None:
    """Sign a channel's next statement with what is at hand, and publish it."""
    staged = Staged(statement.channel, repository.stage_statement(repository.state(), statement), statement)
    staged.sign(repository)
    staged.publish(repository)


class Fleet:
    """A repository in `folder`/repository, `folder`/root.json for devices, and the keys in `folder`/keys.

    Devices read it from disk by `statement`, or from any web server that serves `served`.
    """

    def __init__(self, folder: Path, store: WatchedStore | None = None) -> None:
        self.adopt(folder, store)
        for place in (place for places in self.places.values() for place in places):
            generate_key(Path(place))
        public = {role: [public_key(place) for place in places] for role, places in self.places.items()}
        init(self.repository(), self.root_file, public, {})

    def adopt(self, folder: Path, store: WatchedStore | None = None) -> None:
        """Take what lies in a folder already."""
        self.folder = folder
        self.served = folder / "repository"
        self.root_file = folder / "root.json"
        self.store = store or WatchedStore(self.served)
        names = {role: [role] for role in LIFE_DAYS if role != ROOT} | {ROOT: ["root-1", "root-2", "root-3"]}
        keys = folder / "keys"
        self.places = {role: [str(keys / f"{name}.key") for name in named] for role, named in names.items()}

    @classmethod
    def copy(cls, made: Path, folder: Path) -> "Fleet":
        """Another one with the same keys and contents."""
        shutil.copytree(made, folder)
        fleet = cls.__new__(cls)
        fleet.adopt(folder)
        return fleet

    def files(self) -> dict[str, bytes]:
        """All that devices can read, by path."""
        found = (path for path in self.served.rglob("*") if path.is_file() and path.name != LOCK)
        return {path.relative_to(self.served).as_posix(): path.read_bytes() for path in found}

    def key(self, name: str) -> str:
        """A new key; returns its place."""
        path = self.folder / "keys" / f"{name}.key"
        generate_key(path)
        return str(path)

    def repository(self, *roles: str, places: Mapping[str, Sequence[str]] | None = None) -> Repository:
        """As a machine sees it that has the keys of these roles only (none named: all)."""
        held = {role: found for role, found in (places or self.places).items() if role in roles or not roles}
        name = "-".join(roles) or "all"
        return Repository(self.store, self.root_file, self.folder / "cache" / name, KeyRing(held))

    def register(
        self, content: bytes, version: str, repository: Repository | None = None, manifest: str | None = None
    ) -> TargetFile:
        """List a bundle, or any bytes, as if they had the manifest of that digest."""
        manifest = manifest or sha256(b"manifest" + content).hexdigest()
        return (repository or self.repository()).publish_bundle(content, MODEL, version, manifest)

    def promote(
        self, bundle: TargetFile, channel: str = CHAMPION, repository: Repository | None = None, **fields: Any
    ) -> Statement:
        """A channel's next statement, signed: it names a bundle that is listed already."""
        repository = repository or self.repository()
        statement = repository.next_statement(repository.state(), channel, bundle, **fields)
        publish(repository, statement)
        return statement

    def publish(
        self, content: bytes, version: str, channel: str = CHAMPION, manifest: str | None = None, **fields: Any
    ) -> Statement:
        """List a bundle, and have the devices of a channel run it."""
        return self.promote(self.register(content, version, manifest=manifest), channel, **fields)


class Client:
    """A device's way: the client of python-tuf, which remembers in a folder what it has seen."""

    def __init__(self, fleet: Fleet, name: str = "device") -> None:
        self._folder = fleet.folder / "devices" / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fleet = fleet
        self._root = fleet.root_file.read_bytes()

    def statement(self, channel: str = CHAMPION) -> Statement | None:
        """What the device would do; raises what the client raises."""
        fetcher = StoreFetcher(self._fleet.store)
        updater = Updater(str(self._folder), f"store:/{METADATA_FOLDER}", fetcher=fetcher, bootstrap=self._root)
        target = updater.get_targetinfo(statement_path(channel))
        if target is None:
            return None
        content = self._fleet.store.read(f"{TARGETS_FOLDER}/{target.get_prefixed_paths()[0]}")
        assert content is not None
        target.verify_length_and_hashes(content)
        statement = Statement.parse(content)
        listed = updater.get_targetinfo(statement.bundle)
        assert listed is not None and listed.hashes["sha256"] == statement.sha256
        return statement
