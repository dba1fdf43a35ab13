"""The publisher's side of a repository: reads its verified state, signs what follows, and writes it.

Order of every publish: the targets' files, then `N.ROLE.json`, then `N.snapshot.json`, all of them new names, and last
`timestamp.json`. What it leads to is the state: files that a publish left behind that was cut off are never read.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tuf.api import exceptions
from tuf.api.metadata import Metadata, MetaFile, Root, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater

from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import KeyRing
from mobile_centernet.trust.layout import (
    BUNDLES,
    CHANNELS,
    LIFE_DAYS,
    MAX_VERSION,
    METADATA_FOLDER,
    PATTERNS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TARGETS_FOLDER,
    TIMESTAMP,
    bundle_path,
    statement_path,
    stored_path,
)
from mobile_centernet.trust.statement import Statement
from mobile_centernet.trust.store import RepositoryStore, open_store

TIMESTAMP_FILE = f"{METADATA_FOLDER}/{TIMESTAMP}.json"
KEPT_BUNDLES = 50
KEPT_STATEMENTS = 10
"""Bundles that the last so many statements of a channel name stay listed, to roll back to."""

CACHE = Path(".work/trust")
MAX_JUMP = 1000
"""Versions; more than publishes that were cut off will leave."""

_BASE = "store:/"
LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)

Signed = Metadata[Any]


@dataclass(frozen=True)
class SignedState:
    """What timestamp.json leads to, all of it verified, expired or not: metadata by role."""

    roles: Mapping[str, Signed]
    timestamp: bytes | None

    @property
    def root(self) -> Root:
        signed: Root = self.roles[ROOT].signed
        return signed

    @property
    def targets(self) -> Targets:
        signed: Targets = self.roles[TARGETS].signed
        return signed

    def delegator(self, role: str) -> Root | Targets:
        """Whose metadata names the role's keys."""
        return self.targets if role in PATTERNS else self.root


class Repository:
    """A repository that this machine publishes to; TrustError comes before anything is written that no device takes.

    Args:
        store: where its files lie.
        root: the file root.json that this project and its devices start from.
        cache: a folder for the newest metadata that was seen, so that an old state is not taken for the present one.
        keys: where the private keys are.
    """

    def __init__(self, store: RepositoryStore, root: Path, cache: Path, keys: KeyRing) -> None:
        self.store = store
        self.keys = keys
        self.root = root
        self._cache = cache

    def state(self, *, fast_forwarded: bool = False, expired: bool = False) -> SignedState:
        """What is published now, as far as this machine can know.

        Args:
            fast_forwarded: take version numbers that only an attack explains.
            expired: take what has expired though this machine has no memory that would tell an old state from it.

        Raises:
            TrustError: for anything else than a device's newest metadata.
        """
        timestamp_file = self._cache / f"{TIMESTAMP}.json"
        remembers = expired or (self._cache / f"{CHANNELS[-1]}.json").is_file()  # is read last
        try:
            try:
                self._read_as_a_device(self._cache, ignore_expiry=remembers)
            except TrustError as error:
                if isinstance(error.__cause__, exceptions.ExpiredMetadataError):
                    raise TrustError(
                        f"{error}; somebody may have put an old state there, and this machine has seen none: where you "
                        "know better, `trust refresh --expired`"
                    ) from error
                # A publish may have been cut off between a root and the first timestamp by its key. Then, and only
                # where this machine saw that timestamp when its key was good, the state is the one before.
                seen = timestamp_file.read_bytes() if timestamp_file.is_file() else None
                if (
                    not isinstance(error.__cause__, exceptions.UnsignedMetadataError)
                    or self.store.read(TIMESTAMP_FILE) != seen
                ):
                    raise
            roles: dict[str, Signed] = {
                role: Metadata.from_file(str(self._cache / f"{role}.json")) for role in LIFE_DAYS
            }
            timestamp = timestamp_file.read_bytes()
        except (OSError, DeserializationError) as error:
            raise TrustError(f"{self._cache}: expected the newest metadata and room for it: {error}") from error
        meta = {SNAPSHOT: roles[TIMESTAMP].signed.snapshot_meta}
        meta |= {role: roles[SNAPSHOT].signed.meta[f"{role}.json"] for role in (TARGETS, *PATTERNS)}
        for role, metadata in roles.items():
            if role in meta and metadata.signed.version != meta[role].version:
                raise TrustError(
                    f"{self._cache}: expected {role} {meta[role].version}, found {metadata.signed.version}"
                )
            if metadata.signed.version >= MAX_VERSION and not fast_forwarded:
                raise TrustError(
                    f"{self.store.where}: {role}: expected versions that count publishes, found "
                    f"{metadata.signed.version}: somebody signed it to lock you out; `trust recover` gets out of it"
                )
        return SignedState(roles, timestamp)

    def statements(self, state: SignedState, channel: str) -> Iterator[tuple[Statement, str]]:
        """A channel's signed history, newest first, each with its SHA-256. Every step back is checked by its digest."""
        path = statement_path(channel)
        target = state.roles[channel].signed.targets.get(path)
        digest = target.hashes["sha256"] if target else None
        while digest is not None:
            statement = Statement.parse(self.read_target(path, digest))
            yield statement, digest
            digest = statement.previous

    def bundle(self, state: SignedState, model: str, version: str) -> TargetFile | None:
        """What the repository lists as the release of a version; its `custom` names the manifest's SHA-256."""
        for target in state.roles[BUNDLES].signed.targets.values():
            if (described(target)["model"], described(target)["version"]) == (model, version):
                found: TargetFile = target
                return found
        return None

    def read_target(self, path: str, digest: str) -> bytes:
        """A target's file, which must have that SHA-256."""
        content = self.store.read(f"{TARGETS_FOLDER}/{stored_path(path, digest)}")
        if content is None or sha256(content).hexdigest() != digest:
            raise TrustError(f"{self.store.where}: {path}: expected SHA-256 {digest}, found no such file or another")
        return content

    def publish_bundle(self, content: bytes, model: str, version: str, manifest: str) -> TargetFile:
        """List a release for devices. The same bytes again change nothing.

        Args:
            content: the bundle.
            model: its name.
            version: the registry's.
            manifest: SHA-256 of the bundle's manifest.

        Raises:
            TrustError: the version has another bundle already, or a key is not at hand.
        """
        digest = sha256(content).hexdigest()
        with self.store.locked():
            state = self.state()
            if (same := self.bundle(state, model, version)) is not None:
                if same.hashes["sha256"] == digest:
                    return same
                raise TrustError(f"{model} {version}: expected a version that has no bundle yet, found {same.path}")
            named = {
                statement.bundle
                for channel in CHANNELS
                for statement, _ in islice(self.statements(state, channel), KEPT_STATEMENTS)
            }
            bundles = self.successor(state, BUNDLES)
            listed = bundles.signed.targets
            newest = sorted(listed, key=lambda name: described(listed[name])["number"])[1 - KEPT_BUNDLES :]
            bundles.signed.targets = {name: file for name, file in listed.items() if name in {*named, *newest}}
            custom = {"number": bundles.signed.version, "model": model, "version": version, "manifest": manifest}
            path = bundle_path(model, version, digest)
            file = TargetFile(len(content), {"sha256": digest}, path, {"custom": custom})
            bundles.signed.targets[path] = file
            self.keys.sign(BUNDLES, bundles, state.targets)
            self.commit(state, {BUNDLES: bundles}, {stored_path(path, digest): content})
        return file

    def next_statement(self, state: SignedState, channel: str, bundle: TargetFile, **fields: Any) -> Statement:
        """The statement that may follow a channel's newest one, about a listed bundle; `fields` are the others."""
        before, digest = next(self.statements(state, channel), (None, None))
        return Statement(
            channel=channel,
            number=before.number + 1 if before else 1,
            previous=digest,
            bundle=bundle.path,
            sha256=bundle.hashes["sha256"],
            bytes=bundle.length,
            **{name: described(bundle)[name] for name in ("model", "version", "manifest")},
            **fields,
        )

    def stage_statement(self, state: SignedState, statement: Statement) -> Signed:
        """The channel's metadata that names the statement, not signed by anybody yet."""
        listed = state.roles[BUNDLES].signed.targets.get(statement.bundle)
        found = listed and (listed.hashes["sha256"], listed.length, described(listed)["manifest"])
        if found != (statement.sha256, statement.bytes, statement.manifest):
            raise TrustError(f"{statement.bundle}: expected a bundle that the repository lists, found none or another")
        before, digest = next(self.statements(state, statement.channel), (None, None))
        expected = before.number + 1 if before else 1
        if (statement.number, statement.previous) != (expected, digest):
            raise TrustError(
                f"{statement.channel}: expected statement {expected}, found {statement.number}: there was "
                "another one meanwhile; promote again"
            )
        metadata = self.successor(state, statement.channel)
        content = statement.encode()
        target = TargetFile.from_data(statement_path(statement.channel), content, ["sha256"])
        metadata.signed.targets = {target.path: target}
        return metadata

    def refresh(self, *, expired: bool = False) -> list[str]:
        """Sign a new timestamp, and whatever is at hand and has lived more than half its time; returns these roles."""
        with self.store.locked():
            state = self.state(expired=expired)
            renewed = {}
            for role in (TARGETS, *PATTERNS):
                if self.is_due(state, role):
                    metadata = self.successor(state, role)
                    self.keys.sign(role, metadata, state.delegator(role))
                    if not self.lacks(state.delegator(role), role, metadata):
                        renewed[role] = metadata
            roles = [*renewed, *([SNAPSHOT] if renewed or self.is_due(state, SNAPSHOT) else []), TIMESTAMP]
            self.commit(state, renewed, {}, snapshot=SNAPSHOT in roles)
        return roles

    def is_due(self, state: SignedState, role: str) -> bool:
        """Whether more than half the role's time is over, or its key is another one by now."""
        left: timedelta = state.roles[role].signed.expires - datetime.now(timezone.utc)
        is_unsigned = bool(self.lacks(state.delegator(role), role, state.roles[role]))
        return is_unsigned or left < timedelta(days=LIFE_DAYS[role]) / 2

    def successor(self, state: SignedState, role: str) -> Signed:
        """The role's metadata once more, unsigned, with a new expiry and the next version that has no file yet.

        A publish that was cut off may have left a file of the next version; none is ever overwritten, because somebody
        else may be about to name it in timestamp.json.
        """
        signed = deepcopy(state.roles[role].signed)
        signed.version += 1
        names = set() if role in (ROOT, TIMESTAMP) else set(self.store.names(METADATA_FOLDER))
        while f"{signed.version}.{role}.json" in names:
            signed.version += 1
        signed.expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=LIFE_DAYS[role])
        if signed.expires < state.roles[role].signed.expires:
            raise TrustError(
                f"{role}: expected an expiry after {state.roles[role].signed.expires}, found {signed.expires}: "
                "the clock of this machine is wrong"
            )
        return Metadata(signed)

    def lacks(self, delegator: Root | Targets, role: str, metadata: Signed) -> str:
        """What signatures are missing, in words; nothing where devices would take the metadata."""
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if result.verified:
            return ""
        keys = ", ".join(key.keyid[:12] for key in result.unsigned.values())
        places = ", ".join(self.keys.places.get(role, ())) or "none"
        return (
            f"{role}: expected {result.missing} more of the signatures by keys {keys}, but no such key is at hand "
            f"(places: {places})"
        )

    def commit(
        self,
        state: SignedState,
        roles: Mapping[str, Signed],
        files: Mapping[str, bytes],
        *,
        snapshot: bool = True,
        also: Root | None = None,
        root: Signed | None = None,
    ) -> None:
        """Write what follows `state`, so that a device that reads meanwhile, or after a cut, finds either whole.

        Args:
            state: what this rests on; nothing is written where somebody else has published since.
            roles: signed metadata of targets and of delegated roles, of the versions after the state's.
            files: of targets, by place below TARGETS_FOLDER.
            snapshot: whether a new one is due; without it only the timestamp is signed again.
            also: a root that will follow, so that what is written must be signed by its keys, too.
            root: the state's root, where it is not published yet.
        """
        delegators = [state.root, *([also] if also else [])]
        targets = roles[TARGETS].signed if TARGETS in roles else state.targets
        writes: dict[str, bytes] = {f"{TARGETS_FOLDER}/{name}": content for name, content in files.items()}

        def take(role: str, metadata: Signed) -> None:
            for delegator in [targets] if role in PATTERNS else delegators:
                if missing := self.lacks(delegator, role, metadata):
                    raise TrustError(missing)
            writes[f"{METADATA_FOLDER}/{metadata.signed.version}.{role}.json"] = metadata.to_bytes()

        timestamp = self.successor(state, TIMESTAMP)
        for role, metadata in roles.items():
            before, version = state.roles[role].signed.version, metadata.signed.version
            if not before < version <= before + MAX_JUMP:
                raise TrustError(f"{role}: expected a version soon after {before}, found {version}")
            take(role, metadata)
        if snapshot:
            summary = self.successor(state, SNAPSHOT)
            summary.signed.meta.update({f"{role}.json": meta_file(metadata) for role, metadata in roles.items()})
            self.keys.sign(SNAPSHOT, summary, *delegators)
            take(SNAPSHOT, summary)
            timestamp.signed.snapshot_meta = meta_file(summary)
        if root:
            writes[f"{METADATA_FOLDER}/{root.signed.version}.{ROOT}.json"] = root.to_bytes()
        self.keys.sign(TIMESTAMP, timestamp, *delegators)
        take(TIMESTAMP, timestamp)
        last = writes.popitem()[1]
        for name, content in writes.items():
            self.store.create(name, content)
        self.store.replace(TIMESTAMP_FILE, last, state.timestamp)
        self.check()

    def check(self) -> None:
        """Read everything as a new device would, and remember it. Raises TrustError where the device would refuse."""
        with TemporaryDirectory() as folder:
            self._read_as_a_device(Path(folder), ignore_expiry=False)
        self._read_as_a_device(self._cache, ignore_expiry=True)

    def _read_as_a_device(self, folder: Path, *, ignore_expiry: bool) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            bootstrap = self.root.read_bytes()
        except OSError as error:
            raise TrustError(
                f"{self.root}: expected the root.json that `trust init` made ({error.strerror})"
            ) from error
        try:
            updater = Updater(
                str(folder), f"{_BASE}{METADATA_FOLDER}", fetcher=StoreFetcher(self.store), bootstrap=bootstrap
            )
            if ignore_expiry:  # what has expired must be read, in order to be renewed
                updater._trusted_set.reference_time = LONG_AGO
            updater.refresh()
            for pattern in PATTERNS.values():
                updater.get_targetinfo(pattern.replace("*", "-"))  # loads the role that would list it
        except (exceptions.RepositoryError, exceptions.DownloadError, ValueError) as error:
            raise TrustError(f"{self.store.where}: expected metadata that a device takes, found: {error}") from error


def described(bundle: TargetFile) -> dict[str, Any]:
    """What `bundles` says about a release beside its digest: model, version, manifest, and a number that grows."""
    custom = bundle.custom if isinstance(bundle.custom, dict) else {}
    number = custom.get("number")
    texts = {name: str(custom.get(name, "")) for name in ("model", "version", "manifest")}
    return {**texts, "number": number if type(number) is int else 0}


def meta_file(metadata: Signed) -> MetaFile:
    """What snapshot and timestamp say about other metadata."""
    return MetaFile.from_data(metadata.signed.version, metadata.to_bytes(), ["sha256"])


class StoreFetcher(FetcherInterface):
    """The client's way to a store."""

    def __init__(self, store: RepositoryStore) -> None:
        self._store = store

    def _fetch(self, url: str) -> Iterator[bytes]:
        content = self._store.read(url.removeprefix(_BASE))
        if content is None:
            raise exceptions.DownloadHTTPError(f"{url}: not found", 404)
        return iter([content])


def open_repository(address: str, root: Path, keys: Mapping[str, Sequence[str]]) -> Repository:
    """The repository at an address, as params.yaml's section `trust` names it."""
    return Repository(open_store(address), root, CACHE, KeyRing(keys))
