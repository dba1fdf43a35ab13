"""Polling for as long as the device is on: when the next poll is due, and what an operator may ask for in between."""

import logging
import random
import threading
import time

from mobile_centernet.agent.agent import Agent, StoppedError
from mobile_centernet.agent.config import PollSettings

logger = logging.getLogger(__name__)

REQUEST = "rollback.request"
"""A file of this name in the agent's folder asks the running agent to roll back; it does within a second."""

_TICK = 1.0


def follow(agent: Agent, stop: threading.Event) -> None:
    """Poll until asked to stop. `stop` is the agent's own."""
    chance = random.Random()  # noqa: S311  # spreads the fleet's polls
    request = agent.store.root / REQUEST
    try:
        agent.start()
        while not stop.is_set():
            agent.poll()
            due = time.monotonic() + pause(agent.config.poll, agent.failures, chance)
            while not stop.is_set() and (left := due - time.monotonic()) > 0:
                if request.exists():
                    request.unlink()
                    agent.rollback()
                stop.wait(min(left, _TICK))
    except StoppedError:
        logger.info("stopped inside a trial: the next start goes back to the committed release")


def pause(settings: PollSettings, failures: int, chance: random.Random) -> float:
    """Seconds to the next poll: doubled by each failure in a row, spread by chance."""
    wait = min(settings.interval_s * 2.0 ** min(failures, 30), max(settings.longest_s, settings.interval_s))
    return wait * (1 + chance.uniform(-settings.jitter, settings.jitter))
