"""What a start makes of whatever the last agent, or a loss of power, left behind."""

from dataclasses import replace

from mobile_centernet.agent.store import AgentState, AgentStore, Installed
from mobile_centernet.bundle.bundle import verify_folder
from mobile_centernet.bundle.errors import BundleError, StorageError


def settle(state: AgentState, store: AgentStore) -> tuple[AgentState, list[str]]:
    """Make `current` and the memory name the best committed release that is whole and not withdrawn.

    That is the committed one, the one before, or none. What is so already is not written again.

    Returns:
        `state` with that release committed, and what is to be said about it.

    Raises:
        OSError: the disk refuses.
    """
    problems: list[str] = []

    def runs(installed: Installed) -> bool:
        if installed.digest in state.withdrawn:
            problems.append(f"version {installed.version} runs here no longer: it was withdrawn")
            return False
        try:
            verify_folder(store.folder(installed.digest))
        except StorageError as error:
            problems.append(str(error))
        except BundleError as error:
            problems.append(f"version {installed.version} runs here no longer: {error}")
            return False
        return True

    settled = state
    if state.committed is not None and not runs(state.committed):
        before = state.previous if state.previous is not None and runs(state.previous) else None
        settled = replace(state, committed=before, previous=None)
    if settled.unproven and not store.folder(settled.unproven.digest).is_dir():
        settled = replace(settled, unproven=None)
    running = settled.committed or settled.unproven
    if store.pointed() != (running.digest if running else None):
        store.point(running.digest if running else None)
    if settled != state or not store.is_intact:
        store.save(settled)
    return settled, problems
