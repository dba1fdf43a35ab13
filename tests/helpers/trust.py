"""A whole trust repository in a folder, with every key at hand, and a device that reads it."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuf.ngclient import Updater

from mobile_centernet.trust.ceremony import init
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
from mobile_centernet.trust.store import FolderStore, RepositoryStore

MODEL = "street"


class Fleet:
    """A repository in `folder`/repository, `folder`/root.json for devices, and the keys in `folder`/keys.

    Devices read it from disk by `statement`, or from any web server that serves `served`.
    """

    def __init__(self, folder: Path, store: RepositoryStore | None = None) -> None:
        self.folder = folder
        self.served = folder / "repository"
        self.root_file = folder / "root.json"
        self.store = store or FolderStore(self.served)
        names = {role: [role] for role in LIFE_DAYS if role != ROOT} | {ROOT: ["root-1", "root-2", "root-3"]}
        self.places = {role: [self.key(name) for name in named] for role, named in names.items()}
        init(
            self.repository(),
            self.root_file,
            {role: [public_key(place) for place in places] for role, places in self.places.items()},
            {},
        )

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

    def publish(self, content: bytes, version: str, channel: str = CHAMPION, **fields: Any) -> Statement:
        """List a bundle, and have the devices of a channel run it; `manifest` is its own digest unless given."""
        repository = self.repository()
        path = repository.publish_bundle(content, MODEL, version)
        return self.promote(content, version, path, channel, **fields)

    def promote(self, content: bytes, version: str, path: str, channel: str = CHAMPION, **fields: Any) -> Statement:
        """A channel's next statement, signed: it names a bundle that is listed already."""
        digest = sha256(content).hexdigest()
        named = {"model": MODEL, "bundle": path, "sha256": digest, "bytes": len(content), "version": version}
        repository = self.repository()
        statement = repository.next_statement(
            repository.state(), channel, **{**named, "manifest": sha256(b"manifest" + content).hexdigest(), **fields}
        )
        repository.publish_statement(statement)
        return statement


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
