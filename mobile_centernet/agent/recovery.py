"""What a start makes of whatever the last agent, or a loss of power, left behind."""

import logging
from dataclasses import replace

from mobile_centernet.agent.store import AgentState, AgentStore, Installed
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.keys import TrustedKeys
from mobile_centernet.bundle.unpack import read_manifest, verify_folder

logger = logging.getLogger(__name__)


def load_state(store: AgentStore) -> AgentState:
    """What was saved. Where that is damaged, what `current` leads to counts as committed: `settle` verifies it."""
    try:
        if (state := store.load()) is not None:
            return state
    except (OSError, ValueError) as error:
        logger.error("memory.json: expected what the last agent wrote, found something else (%s); made anew", error)
    digest = store.pointed()
    if digest is None:
        return AgentState()
    try:
        manifest = read_manifest(store.folder(digest))
    except (BundleError, OSError):
        return AgentState()
    committed = Installed(digest, manifest.version, manifest.release)
    return AgentState(committed=committed, min_release=manifest.release, newest=manifest.sha256)


def settle(state: AgentState, store: AgentStore, trusted: TrustedKeys) -> AgentState:
    """Make `current` and `memory.json` name the best committed release that is whole and still trusted.

    That is the committed one, the one before, or none. What is so already is not written again.

    Returns:
        `state` with that release committed.

    Raises:
        OSError: the disk refuses.
    """
    if state.committed is not None and not _is_whole(state.committed, store, trusted):
        is_before_whole = state.previous is not None and _is_whole(state.previous, store, trusted)
        state = replace(state, committed=state.previous if is_before_whole else None, previous=None)
    digest = state.committed.digest if state.committed else None
    if store.pointed() != digest:
        store.point(digest)
    try:
        is_saved = store.load() == state
    except (OSError, ValueError):
        is_saved = False
    if not is_saved:
        store.save(state)
    return state


def _is_whole(installed: Installed, store: AgentStore, trusted: TrustedKeys) -> bool:
    try:
        verify_folder(store.folder(installed.digest), trusted)
    except BundleError as error:
        logger.error("release %d runs here no longer: %s", installed.release, error)
        return False
    return True
