"""Polling for as long as the device is on: when the next poll is due, and what an operator may ask for in between."""

import logging
import random
import threading
import time
from pathlib import Path

from mobile_centernet.agent.agent import Agent, StoppedError
from mobile_centernet.agent.config import PollSettings
from mobile_centernet.bundle.errors import StorageError

log = logging.getLogger("mobile-centernet-edge")

REQUEST = "rollback.request"
_TICK = 1.0


def follow(agent: Agent, stop: threading.Event) -> None:
    """Poll until asked to stop. `stop` is the agent's own."""
    chance = random.Random()  # noqa: S311  # spreads the fleet's polls
    try:
        agent.start()
        while not stop.is_set():
            agent.poll()
            _wait(agent, stop, pause(agent.config.poll, agent.failures, chance))
    except StoppedError:
        log.info("stopped inside a trial: the next start goes back to the committed release")


def pause(settings: PollSettings, failures: int, chance: random.Random) -> float:
    """Seconds to the next poll: doubled by each failure in a row, spread by chance."""
    wait = min(settings.interval_s * 2.0 ** min(failures, 30), max(settings.longest_s, settings.interval_s))
    return wait * (1 + chance.uniform(-settings.jitter, settings.jitter))


def ask_for_rollback(root: Path) -> None:
    """Leave a request that a running agent takes up within a second. Raises StorageError."""
    try:
        (root / REQUEST).touch()
    except OSError as error:
        raise StorageError(f"{root / REQUEST}: cannot be written ({error.strerror})") from error


def _wait(agent: Agent, stop: threading.Event, seconds: float) -> None:
    due = time.monotonic() + seconds
    request = agent.store.root / REQUEST
    while not stop.is_set() and (left := due - time.monotonic()) > 0:
        if request.exists():
            request.unlink()
            agent.rollback()
        stop.wait(min(left, _TICK))
