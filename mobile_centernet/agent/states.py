"""The agent's states and every transition between them: one table, which docs/agent.md repeats row by row.

A device runs one committed release at every moment. Only `swapping` to `reverting` touch what the application sees.
"""

from enum import Enum


class State(Enum):
    """What the agent is doing."""

    STARTING = "starting"  # reads the disk, makes `current` what was committed last
    IDLE = "idle"  # waits for the next poll
    CHECKING = "checking"  # asks the repository which release the channel's statement names
    DOWNLOADING = "downloading"  # fetches the bundle, or the rest of it
    VERIFYING = "verifying"  # every hash, up to the statement's; unpacks what it verified
    PROVING = "proving"  # builds the engine or finds it, runs the golden images, measures the latency
    SWAPPING = "swapping"  # the application must be up; writes down the trial, points `current` at the new release
    WATCHING = "watching"  # the health window: the application must run the new release and keep running
    COMMITTING = "committing"  # writes down that the new release stays
    REVERTING = "reverting"  # points `current` back, then writes down why; keeps trying on a disk that refuses


class Event(Enum):
    """How a state ends."""

    DONE = "done"
    UNCOMMITTED = "uncommitted"  # the last agent ended inside a trial
    NOTHING_NEW = "nothing new"
    NEW = "new"  # its files are not on the disk, or not whole
    KNOWN = "known"  # not what runs here, but its files are on the disk already
    FAILED = "failed"  # for reasons that may pass: tried again later
    REFUSED = "refused"  # not tried again as long as device and settings stay, or, where it may pass, not at once
    UNHEALTHY = "unhealthy"
    ROLLBACK = "rollback"  # an operator asked for the release before


S, E = State, Event

TRANSITIONS: dict[tuple[State, Event], State] = {
    (S.STARTING, E.DONE): S.IDLE,
    (S.STARTING, E.UNCOMMITTED): S.REVERTING,
    (S.STARTING, E.FAILED): S.STARTING,
    (S.IDLE, E.DONE): S.CHECKING,
    (S.IDLE, E.ROLLBACK): S.VERIFYING,
    (S.CHECKING, E.NOTHING_NEW): S.IDLE,
    (S.CHECKING, E.FAILED): S.IDLE,
    (S.CHECKING, E.NEW): S.DOWNLOADING,
    (S.CHECKING, E.KNOWN): S.VERIFYING,
    (S.DOWNLOADING, E.DONE): S.VERIFYING,
    (S.DOWNLOADING, E.FAILED): S.IDLE,
    (S.VERIFYING, E.DONE): S.PROVING,
    (S.VERIFYING, E.NEW): S.DOWNLOADING,
    (S.VERIFYING, E.FAILED): S.IDLE,
    (S.VERIFYING, E.REFUSED): S.IDLE,
    (S.PROVING, E.DONE): S.SWAPPING,
    (S.PROVING, E.FAILED): S.IDLE,
    (S.PROVING, E.REFUSED): S.IDLE,
    (S.SWAPPING, E.DONE): S.WATCHING,
    (S.SWAPPING, E.REFUSED): S.IDLE,
    (S.SWAPPING, E.FAILED): S.REVERTING,
    (S.WATCHING, E.DONE): S.COMMITTING,
    (S.WATCHING, E.UNHEALTHY): S.REVERTING,
    (S.WATCHING, E.FAILED): S.REVERTING,
    (S.COMMITTING, E.DONE): S.IDLE,
    (S.COMMITTING, E.FAILED): S.REVERTING,
    (S.REVERTING, E.DONE): S.IDLE,
    (S.REVERTING, E.FAILED): S.REVERTING,
}
