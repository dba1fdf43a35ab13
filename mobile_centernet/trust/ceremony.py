"""What people do with root's and targets' keys: begin a repository, change and revoke keys, sign in several places."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, Role, Root, Snapshot, Targets, Timestamp

from mobile_centernet.files import write_atomically
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.keys import same_key
from mobile_centernet.trust.layout import LIFE_DAYS, METADATA_FOLDER, PATTERNS, ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from mobile_centernet.trust.repository import TIMESTAMP_FILE, Repository, Signed, SignedState, meta_file

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
    least = {ROOT: ROOT_THRESHOLD, **thresholds}

    def role(name: str) -> Role:
        return Role([key.keyid for key in keys[name]], least.get(name, 1))

    now = datetime.now(timezone.utc).replace(microsecond=0)
    expiry = {name: now + timedelta(days=days) for name, days in LIFE_DAYS.items()}
    top = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
    root = Root(
        1, None, expiry[ROOT], {key.keyid: key for name in top for key in keys[name]}, {n: role(n) for n in top}
    )
    delegated = {
        name: DelegatedRole(name, role(name).keyids, role(name).threshold, True, [pattern])
        for name, pattern in PATTERNS.items()
    }
    delegations = Delegations({key.keyid: key for name in PATTERNS for key in keys[name]}, delegated)
    targets = Targets(1, None, expiry[TARGETS], {}, delegations)
    _check_keys(root, targets)
    state = SignedState({ROOT: Metadata(root), TARGETS: Metadata(targets)}, b"")
    written: dict[str, Signed] = {ROOT: Metadata(root), TARGETS: Metadata(targets)}
    written |= {name: Metadata(Targets(1, None, expiry[name])) for name in PATTERNS}
    for name in (*written, SNAPSHOT, TIMESTAMP):
        if name == SNAPSHOT:
            meta = {f"{each}.json": meta_file(written[each]) for each in (TARGETS, *PATTERNS)}
            written[name] = Metadata(Snapshot(1, None, expiry[name], meta))
        elif name == TIMESTAMP:
            written[name] = Metadata(Timestamp(1, None, expiry[name], snapshot_meta=meta_file(written[SNAPSHOT])))
        repository.keys.sign(name, written[name], state.delegator(name))
        if missing := repository.lacks(state.delegator(name), name, written[name]):
            raise TrustError(missing)
    with repository.store.locked():
        for name, metadata in written.items():
            if name != TIMESTAMP:
                repository.store.create(f"{METADATA_FOLDER}/1.{name}.json", metadata.to_bytes())
        root_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(root_file, written[ROOT].to_bytes())
        repository.store.replace(TIMESTAMP_FILE, written[TIMESTAMP].to_bytes(), None)
        repository.check()


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
