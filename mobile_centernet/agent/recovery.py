"""What a start makes of whatever the last agent, or a loss of power, left behind."""

import logging
from dataclasses import replace

from mobile_centernet.agent.install import read_manifest
from mobile_centernet.agent.store import Installed, Memory, Store
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys
from mobile_centernet.bundle.unpack import verify_folder

log = logging.getLogger("mobile-centernet-edge")


def recall(store: Store) -> Memory:
    """What was remembered. Where that is damaged, what `current` leads to counts as committed: `whole` verifies it."""
    try:
        memory = store.recall()
    except (OSError, ValueError) as error:
        log.error("memory.json: expected what the last agent wrote, found something else (%s); made anew", error)
        memory = None
    return _from_current(store) if memory is None else memory


def whole(memory: Memory, store: Store, trusted: TrustedKeys) -> Memory:
    """`memory` with the best committed release that is whole and still trusted: itself, the one before, or none."""
    if memory.committed is None or _is_whole(memory.committed, store, trusted):
        return memory
    if memory.previous is not None and _is_whole(memory.previous, store, trusted):
        return replace(memory, committed=memory.previous, previous=None)
    return replace(memory, committed=None, previous=None)


def settle(memory: Memory, store: Store) -> None:
    """Make `current` and `memory.json` say what `memory` says; what says so already is not written. OSError."""
    digest = memory.committed.digest if memory.committed else None
    if store.pointed() != digest:
        store.point(digest)
    if _remembered(store) != memory:
        store.remember(memory)


def _remembered(store: Store) -> Memory | None:
    try:
        return store.recall()
    except (OSError, ValueError):
        return None


def _from_current(store: Store) -> Memory:
    digest = store.pointed()
    if digest is None:
        return Memory()
    try:
        manifest = read_manifest(store.folder(digest))
    except (BundleError, OSError):
        return Memory()
    committed = Installed(digest, manifest.version, manifest.release)
    return Memory(committed=committed, floor=manifest.release, newest=manifest.sha256)


def _is_whole(installed: Installed, store: Store, trusted: TrustedKeys) -> bool:
    try:
        verify_folder(store.folder(installed.digest), trusted)
    except BundleError as error:
        log.error("release %d runs here no longer: %s", installed.release, error)
        return False
    return True
