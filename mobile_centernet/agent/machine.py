"""What all states of the agent share: the table, the one boundary for errors, and an open ear."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone

from mobile_centernet.agent.errors import RollbackRequestedError, StoppedError
from mobile_centernet.agent.states import TRANSITIONS, Event, State
from mobile_centernet.agent.status import STATUS, Status
from mobile_centernet.agent.store import AgentStore
from mobile_centernet.errors import UserError, printable

logger = logging.getLogger(__name__)


class Machine:
    """Moves by `states.TRANSITIONS`. `observe` is called after every transition, with state, event and next state."""

    def __init__(
        self, store: AgentStore, observe: Callable[[State, Event, State], None], stop: threading.Event
    ) -> None:
        self.store = store
        self.state = State.STARTING
        self.problem: str | None = None
        self.failures = 0
        self._has_failed = False  # since it was idle
        self._observe = observe
        self._stop = stop
        self._events: Counter[str] = Counter()
        self._since = now_text()

    def status(self) -> Status:
        """What is known now; may be called from another thread."""
        raise NotImplementedError

    def _guarded(self, action: Callable[[], Event | None]) -> Event:
        """The one boundary: whatever an action raises is a problem and a failure, and is tried again later."""
        try:
            return action() or Event.DONE
        except StoppedError:
            raise
        except RollbackRequestedError:
            logger.info("%s: cut off by an operator who asked for the release before", self.state.value)
        except UserError as error:
            self._say(error)
        except OSError as error:
            self._say(f"{error.filename or self.store.root}: cannot be read or changed ({error.strerror or error})")
        except Exception as error:
            logger.debug("%s", self.state.value, exc_info=True)
            self._say(f"{self.state.value}: expected no {type(error).__name__}, found one ({error!s:.300})")
        return Event.FAILED

    def _move(self, event: Event) -> None:
        left, self.state = self.state, TRANSITIONS[self.state, event]
        self._since = now_text()
        key = f"{left.value}: {event.value}"
        self._events[key] += 1
        self._has_failed |= event is Event.FAILED
        if self.state in (State.IDLE, State.STARTING):
            # Without a problem it was an operator who cut it off.
            self.failures = self.failures + 1 if self._has_failed and self.problem else 0
            self._has_failed = False
        is_routine = event is Event.NOTHING_NEW or left is State.IDLE
        logger.log(logging.DEBUG if is_routine else logging.INFO, key)
        try:
            # Not pushed to the disk: losing it costs nothing.
            temporary = self.store.root / f".{STATUS}.tmp"
            temporary.write_text(self.status().to_json(), encoding="utf-8")
            temporary.replace(self.store.root / STATUS)
        except OSError as error:
            logger.warning("status.json cannot be written (%s)", error.strerror)
        self._observe(left, event, self.state)

    def _hear(self) -> None:
        """Whatever takes long calls it several times a second."""
        if self._stop.is_set():
            raise StoppedError
        if self.state is not State.REVERTING and os.path.lexists(self.store.request):
            raise RollbackRequestedError

    def _say(self, problem: object) -> None:
        self.problem = printable(" ".join(str(problem).split()))
        logger.warning("%s", self.problem)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._hear()
            self._stop.wait(min(left, 0.2))
        self._hear()


def now_text() -> str:
    """The device's clock in UTC, to be shown and never to be relied on."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
