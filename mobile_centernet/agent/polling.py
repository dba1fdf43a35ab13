"""Polling for as long as the device is on: when the next poll is due, and what an operator may ask for in between."""

import logging
import random
import threading
import time

from mobile_centernet.agent.agent import Agent
from mobile_centernet.agent.config import PollSettings
from mobile_centernet.agent.errors import StoppedError

logger = logging.getLogger(__name__)

_TICK = 1.0


def follow(agent: Agent, stop: threading.Event) -> None:
    """Poll until asked to stop. `stop` is the agent's own."""
    chance = random.Random()  # noqa: S311  # spreads the fleet's polls
    try:
        while not stop.is_set():
            agent.poll()
            due = time.monotonic() + pause(agent.config.poll, agent.failures, chance)
            while not stop.is_set() and (left := due - time.monotonic()) > 0:
                if agent.is_asked_to_roll_back():
                    agent.rollback()
                stop.wait(min(left, _TICK))
    except StoppedError:
        logger.info("stopped within its work: the next start goes back from a trial to the committed release")


def pause(settings: PollSettings, failures: int, chance: random.Random) -> float:
    """Seconds to the next poll: doubled by each failure in a row, spread by chance."""
    return settings.backed_off(failures) * (1 + chance.uniform(-settings.jitter, settings.jitter))
