"""What people do with root's and targets' keys: begin a repository, change and revoke keys, sign in several places."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, Role, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from mobile_centernet.files import write_atomically
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import same_key
from mobile_centernet.trust.layout import (
    BUNDLES,
    CHANNELS,
    MAX_VERSION,
    METADATA_FOLDER,
    PATTERNS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    statement_path,
    stored_path,
)
from mobile_centernet.trust.repository import LONG_AGO, TIMESTAMP_FILE, Repository, Signed, SignedState
from mobile_centernet.trust.statement import Statement

STAGED = "mobile-centernet staged metadata"
ROOT_THRESHOLD = 2
LEAST_ROOT_KEYS = 3


def init(
    repository: Repository, root_file: Path, keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int]
) -> None:
    """Write the first version of everything, and `root_file`, which devices are installed with.

    Args:
        keys: public ones, by role; private keys of all of these roles must be at hand, of root as many as must sign.
        thresholds: by role, how many must sign; 1 unless named, 2 of root.

    Raises:
        TrustError: there is a repository already, or a key has two roles, or too few sign.
    """
    if repository.store.read(TIMESTAMP_FILE) is not None or root_file.exists():
        raise TrustError(f"{repository.store.where}, {root_file}: expected no repository yet, found one")
    if len(keys[ROOT]) < LEAST_ROOT_KEYS:
        raise TrustError(f"{ROOT}: expected {LEAST_ROOT_KEYS} keys, so that one may be lost, found {len(keys[ROOT])}")
    least, top = {ROOT: ROOT_THRESHOLD, **thresholds}, (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
    ids = {role: ([key.keyid for key in found], least.get(role, 1)) for role, found in keys.items()}
    delegated = {role: DelegatedRole(role, *ids[role], True, [pattern]) for role, pattern in PATTERNS.items()}
    delegations = Delegations({key.keyid: key for role in PATTERNS for key in keys[role]}, delegated)
    by_id = {key.keyid: key for role in top for key in keys[role]}
    before: dict[str, Any] = {
        ROOT: Root(keys=by_id, roles={role: Role(*ids[role]) for role in top}),
        TARGETS: Targets(delegations=delegations),
        SNAPSHOT: Snapshot(meta={}),
        TIMESTAMP: Timestamp(),
        **{role: Targets() for role in PATTERNS},
    }
    for signed in before.values():
        signed.version, signed.expires = 0, LONG_AGO
    nothing = SignedState({role: Metadata(signed) for role, signed in before.items()}, None)
    _check_keys(nothing.root, nothing.targets)
    first = {role: repository.successor(nothing, role) for role in (ROOT, TARGETS, *PATTERNS)}
    for role, metadata in first.items():
        repository.keys.sign(role, metadata, nothing.delegator(role))
    root = first.pop(ROOT)
    if missing := repository.lacks(nothing.root, ROOT, root):
        raise TrustError(missing)
    with repository.store.locked():
        root_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(root_file, root.to_bytes())
        try:
            repository.commit(nothing, first, {}, root=root)
        except TrustError:
            if repository.store.read(TIMESTAMP_FILE) is None:
                root_file.unlink()
            raise


@dataclass
class Staged:
    """Metadata that travels between the people who sign it: a root, or a channel's next statement."""

    role: str
    metadata: Signed
    statement: Statement | None = None

    def encode(self) -> bytes:
        """As a file."""
        text = self.statement.encode().decode() if self.statement else None
        document = {"kind": STAGED, "role": self.role, "statement": text, "metadata": self.metadata.to_dict()}
        return f"{json.dumps(document, indent=1)}\n".encode()

    @classmethod
    def parse(cls, content: bytes) -> "Staged":
        """The inverse of `encode`. Raises TrustError for anything else."""
        try:
            document = json.loads(content)
            if document["kind"] != STAGED or document["role"] not in (ROOT, *CHANNELS):
                raise ValueError(f"{document['kind']!r:.100} of {document['role']!r:.100}")
            statement = Statement.parse(document["statement"].encode()) if document["role"] != ROOT else None
            return cls(document["role"], Metadata.from_dict(document["metadata"]), statement)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DeserializationError) as error:
            raise TrustError(f"expected {STAGED}, found something else ({error!r:.300})") from error

    def sign(self, repository: Repository) -> str:
        """Add the signatures of the keys at hand; what signatures are missing still, in words."""
        state = repository.state()
        self._check(repository, state)
        delegators = [state.root, self.metadata.signed] if self.role == ROOT else [state.targets]
        repository.keys.sign(self.role, self.metadata, *delegators)
        missing = [repository.lacks(delegator, self.role, self.metadata) for delegator in delegators]
        return "; ".join(filter(None, missing))

    def publish(self, repository: Repository) -> None:
        """Raises TrustError where signatures are missing, its own or those of snapshot and timestamp."""
        with repository.store.locked():
            state = repository.state()
            self._check(repository, state)
            if self.statement is None:
                _publish_root(repository, state, self.metadata)
            else:
                content = self.statement.encode()
                place = stored_path(statement_path(self.role), sha256(content).hexdigest())
                repository.commit(state, {self.role: self.metadata}, {place: content})

    def _check(self, repository: Repository, state: SignedState) -> None:
        """What is signed must be what the statement says, or the very next root."""
        signed = self.metadata.signed
        if self.statement is None:
            if signed.version != state.root.version + 1:
                raise TrustError(f"root: expected version {state.root.version + 1}, found {signed.version}")
            _check_keys(signed, state.targets)
            return
        targets = repository.stage_statement(state, self.statement).signed.targets
        if (self.role, targets, None) != (self.statement.channel, signed.targets, signed.delegations):
            raise TrustError(f"{self.role}: expected metadata that names this statement alone, found others")


def change_key(
    repository: Repository, role: str, old: Sequence[str], new: Sequence[Key], *, revoke: bool = False
) -> Staged | None:
    """Take keys from a role and give it others, without a moment in which a device refuses what it finds.

    A delegated role is signed again in the publish that changes its keys. Snapshot, timestamp and targets are first
    signed with the old and the new key; then comes the root that names the new one, then the new key signs alone.

    Args:
        role: whose.
        old: keys that go, by their ids or the beginnings of them.
        new: keys that come.
        revoke: the old ones are believed no more: they sign nothing again (a device that reads in the very moment of
            such a change of root tries again), and `bundles` lists only releases that a channel names.

    Returns:
        None when it is published. A root that too few at hand can sign is left to others.

    Raises:
        TrustError: nothing was changed.
    """
    with repository.store.locked():
        state = repository.state()
        delegator = deepcopy(state.delegator(role))
        present = [delegator.get_key(keyid) for keyid in delegator.get_delegated_role(role).keyids]
        for named in old:
            gone = [key for key in present if named and key.keyid.startswith(named)]
            if len(gone) != 1:
                known = ", ".join(key.keyid[:12] for key in present)
                raise TrustError(f"{role}: expected one of its keys {known}, found {named!r}")
            delegator.revoke_key(gone[0].keyid, role)
        for key in new:
            delegator.add_key(key, role)
        left = delegator.get_delegated_role(role)
        least = LEAST_ROOT_KEYS if role == ROOT else left.threshold
        if len(left.keyids) < least:
            raise TrustError(f"{role}: expected {least} keys at least, found {len(left.keyids)}: name a new one, too")
        changed = repository.successor(state, ROOT if role not in PATTERNS else TARGETS)
        if isinstance(delegator, Root):
            _check_keys(delegator, state.targets)
            changed.signed.keys, changed.signed.roles = delegator.keys, delegator.roles
            repository.keys.sign(ROOT, changed, state.root, delegator)
            if repository.lacks(state.root, ROOT, changed) or repository.lacks(delegator, ROOT, changed):
                return Staged(ROOT, changed)
            _publish_root(repository, state, changed, old_keys=not revoke)
            return None
        _check_keys(state.root, delegator)
        changed.signed.delegations = delegator.delegations
        own = repository.successor(state, role)
        if revoke and role == BUNDLES:
            heads = [next(repository.statements(state, channel), None) for channel in CHANNELS]
            believed = {head[0].bundle for head in heads if head}
            own.signed.targets = {path: file for path, file in own.signed.targets.items() if path in believed}
        repository.keys.sign(TARGETS, changed, state.root)
        repository.keys.sign(role, own, delegator)
        repository.commit(state, {TARGETS: changed, role: own}, {})
    return None


def recover(repository: Repository, new: Mapping[str, Key]) -> None:
    """Begin version numbers again that somebody drove up, so that every device takes what follows.

    A device forgets snapshot's and timestamp's versions with their keys, so both get new ones.

    Args:
        repository: all keys must be at hand: enough of root, the new ones, and those of roles that were driven up.
        new: the new keys of snapshot and timestamp.

    Raises:
        TrustError: a key is not at hand; nothing was changed.
    """
    with repository.store.locked():
        state = repository.state(fast_forwarded=True)
        root = repository.successor(state, ROOT)
        for role in (SNAPSHOT, TIMESTAMP):
            for keyid in list(root.signed.roles[role].keyids):
                root.signed.revoke_key(keyid, role)
            root.signed.add_key(new[role], role)
        _check_keys(root.signed, state.targets)
        repository.keys.sign(ROOT, root, state.root)
        if missing := repository.lacks(state.root, ROOT, root):
            raise TrustError(missing)
        roles = {**deepcopy(dict(state.roles)), ROOT: root}
        again = [role for role, metadata in roles.items() if metadata.signed.version >= MAX_VERSION]
        for role in again:
            files = [
                re.fullmatch(rf"(\d{{1,9}})\.{role}\.json", each) for each in repository.store.names(METADATA_FOLDER)
            ]
            roles[role].signed.version = max((int(file[1]) for file in files if file), default=0)
        lowered = SignedState(roles, state.timestamp)
        signed = {role: repository.successor(lowered, role) for role in again if role not in (SNAPSHOT, TIMESTAMP)}
        for role, metadata in signed.items():
            repository.keys.sign(role, metadata, lowered.delegator(role))
        repository.commit(lowered, signed, {}, root=root)


def _publish_root(repository: Repository, state: SignedState, root: Signed, *, old_keys: bool = True) -> None:
    """Publish a root that enough have signed, and what its keys sign; with `old_keys` first what both can verify."""
    for delegator in (state.root, root.signed):
        if missing := repository.lacks(delegator, ROOT, root):
            raise TrustError(missing)
    roles = {}
    if root.signed.roles[TARGETS] != state.root.roles[TARGETS]:
        roles[TARGETS] = repository.successor(state, TARGETS)
        repository.keys.sign(TARGETS, roles[TARGETS], *([state.root] if old_keys else []), root.signed)
    if old_keys:
        repository.commit(state, roles, {}, also=root.signed)
        state, roles = repository.state(), {}
    repository.commit(SignedState({**state.roles, ROOT: root}, state.timestamp), roles, {}, root=root)


def _check_keys(root: Root, targets: Targets) -> None:
    """Raises TrustError where one key, whatever its id, stands twice: it would count twice, or for two roles."""
    places = [(role, root.get_key(keyid)) for role in root.roles for keyid in root.roles[role].keyids]
    assert targets.delegations is not None and targets.delegations.roles is not None  # noqa: S101 init made them
    for role, delegated in targets.delegations.roles.items():
        places += [(role, targets.get_key(keyid)) for keyid in delegated.keyids]
    for number, (role, key) in enumerate(places):
        for other, same in places[:number]:
            if same_key(key, same):
                raise TrustError(f"{role}: expected a key of its own, found one that stands for {other}, too")
