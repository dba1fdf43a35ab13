"""The agent: keeps a device on the release that an alias names, and never without a verified one that it had.

`states.TRANSITIONS` says what may follow what; here each state has one method, which does its work and returns how it
ended (`start` for the first). Killed anywhere, the next start makes `current` what was committed last.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import partial

from mobile_centernet.agent import recovery
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.errors import (
    NothingOfferedError,
    RottenError,
    SelfTestError,
    SelfTestInterruptedError,
    TransferError,
)
from mobile_centernet.agent.health import HealthMonitor, read_beat
from mobile_centernet.agent.http import Offer
from mobile_centernet.agent.install import Installer
from mobile_centernet.agent.registry_client import RegistryClient
from mobile_centernet.agent.reports import Outbox
from mobile_centernet.agent.selftest_runner import SelfTest, SelfTestResult, run_self_test
from mobile_centernet.agent.states import TRANSITIONS, Event, State
from mobile_centernet.agent.status import STATUS, Status
from mobile_centernet.agent.store import AgentState, AgentStore, Installed
from mobile_centernet.bundle.errors import BundleError, StorageError
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.bundle.protocol import HEALTHY, REFUSED, REVERTED

logger = logging.getLogger(__name__)

TRIALS = 5
"""A release whose trial was cut off so often is refused: it may be what brings the device down."""

_TICK = 1.0


class StoppedError(Exception):
    """The agent was asked to end inside a trial; the next start goes back."""


@dataclass(frozen=True)
class CandidateRelease:
    """The release that the agent is about to run; `offer` is None where it goes back to the one before.

    `manifest` is there once it was verified.
    """

    installed: Installed
    offer: Offer | None = None
    manifest: Manifest | None = None


class Agent:
    """One device. Hold `store.locked()` around everything; `start` comes first.

    `observe` is called after every transition, with state, event and next state.
    """

    def __init__(
        self,
        config: Config,
        *,
        registry: RegistryClient | None = None,
        self_test: SelfTest | None = None,
        device: Device | None = None,
        observe: Callable[[State, Event, State], None] = lambda *_: None,
        stop: threading.Event | None = None,
    ) -> None:
        source = config.registry
        self.config = config
        self.store = AgentStore(config.paths.root)
        self.state = State.STARTING
        self.saved = AgentState()
        self.problem: str | None = None
        self.failures = 0
        self._registry = registry or RegistryClient(source.url, source.model, source.timeout_s)
        self._installer = Installer(
            config, self.store, device or Device.here(), self_test or partial(run_self_test, config)
        )
        self._outbox = Outbox(config, self._registry)
        self._observe = observe
        self._stop = stop or threading.Event()
        self._events: Counter[str] = Counter()
        self._since = now_text()
        self._last_check: str | None = None
        self._candidate: CandidateRelease | None = None
        self._result: SelfTestResult | None = None
        self._monitor: HealthMonitor | None = None
        self._unhealthy: str | None = None

    # What a caller may ask for.

    def start(self) -> None:
        """Take up what the last agent left, however it ended."""
        self.state, self._candidate = State.STARTING, None
        self.store.create()
        self.saved = recovery.load_state(self.store)
        if self.saved.trial is not None:
            self._run(Event.UNCOMMITTED)
            return
        self._settle()
        self._report_committed()
        self._run(Event.DONE)

    def poll(self) -> None:
        """Ask the registry, and take what it offers if it is new and good. Raises StoppedError inside a trial."""
        self._run(Event.DONE)
        self._outbox.send()

    def rollback(self) -> None:
        """Go back to the release before, with self-test and health window, and refuse the present one from now on."""
        if self.saved.previous is None:
            self._say("rollback: expected a release before this one, found none")
            return
        self.problem = None
        self._candidate = CandidateRelease(self.saved.previous)
        self._run(Event.ROLLBACK)

    def forget_refusals(self) -> None:
        """Try again what was refused. Raises StorageError."""
        try:
            self._save(replace(self.saved, refused={}, interrupted={}))
        except OSError as error:
            raise StorageError(f"{self.store.root}: cannot be changed ({error.strerror})") from error

    def status(self) -> Status:
        """What is known now; may be called from another thread."""
        saved, candidate, config = self.saved, self._candidate, self.config
        return Status(
            device=config.device.name,
            profile=config.device.profile,
            alias=config.registry.alias,
            state=self.state.value,
            since=self._since,
            release=_plain(saved.committed),
            previous=_plain(saved.previous),
            trial=_plain(saved.trial),
            offered=_plain(candidate.installed) if candidate else None,
            problem=self.problem,
            failures=self.failures,
            last_check=self._last_check,
            proof=asdict(self._result) if self._result else None,
            events=dict(self._events),
        )

    # The machine.

    def _run(self, event: Event) -> None:
        """Leave the present state with `event` and follow the table until the agent is idle."""
        actions: Mapping[State, Callable[[], Event]] = {
            State.CHECKING: self._checking,
            State.DOWNLOADING: self._downloading,
            State.VERIFYING: self._verifying,
            State.PROVING: self._proving,
            State.SWAPPING: self._swapping,
            State.WATCHING: self._watching,
            State.COMMITTING: self._committing,
            State.REVERTING: self._reverting,
        }
        self._move(event)
        while self.state is not State.IDLE:
            self._move(actions[self.state]())

    def _move(self, event: Event) -> None:
        left, self.state = self.state, TRANSITIONS[self.state, event]
        self._since = now_text()
        key = f"{left.value}: {event.value}"
        self._events[key] += 1
        if self.state is State.IDLE:
            self.failures = self.failures + 1 if event is Event.FAILED else 0
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

    # One method a state.

    def _checking(self) -> Event:
        self.problem, self._candidate = None, None
        self._last_check = now_text()
        try:
            offer = self._registry.offered(self.config.registry.alias)
        except NothingOfferedError as error:
            self._say(error)
            return Event.NOTHING_NEW
        except TransferError as error:
            return self._fail(error)
        self._candidate = CandidateRelease(Installed(offer.digest, offer.version, offer.release), offer)
        if self.saved.committed and offer.digest == self.saved.committed.digest:
            return Event.NOTHING_NEW
        refusal = self.saved.refused.get(offer.digest)
        if refusal and refusal.circumstances == self._installer.circumstances():
            self.problem = f"refused before: {refusal.why}"
            return Event.NOTHING_NEW
        self._collect(offer.digest)
        return Event.KNOWN if self.store.folder(offer.digest).is_dir() else Event.NEW

    def _downloading(self) -> Event:
        offer = self._chosen().offer
        assert offer is not None  # noqa: S101  # only what was offered is downloaded
        try:
            self._installer.fetch(offer, self._registry.headers())
        except (TransferError, StorageError) as error:
            return self._fail(error)
        return Event.DONE

    def _verifying(self) -> Event:
        candidate = self._chosen()
        try:
            self._installer.trusted()
        except BundleError as error:  # the device's own keys cannot be read: says nothing about the release
            return self._fail(error)
        try:
            wanted = self.saved if candidate.offer else None  # what ran here before fits
            manifest = self._installer.verify(candidate.installed.digest, wanted)
        except RottenError as error:
            self._say(error)
            return Event.NEW if candidate.offer else Event.FAILED
        except StorageError as error:
            return self._fail(error)
        except BundleError as error:
            self._installer.discard(candidate.installed.digest)
            return self._refuse(error)
        self.problem = None
        installed = replace(candidate.installed, release=manifest.release)
        self._candidate = replace(candidate, installed=installed, manifest=manifest)
        return Event.DONE

    def _proving(self) -> Event:
        candidate = self._chosen()
        assert candidate.manifest is not None  # noqa: S101  # it was verified
        try:
            self._result = self._installer.self_test(candidate.installed.digest, candidate.manifest)
        except SelfTestError as error:
            return self._refuse(error)
        except SelfTestInterruptedError as error:
            return self._fail(error)
        return Event.DONE

    def _swapping(self) -> Event:
        installed = self._chosen().installed
        before = read_beat(self.store.root)
        try:
            self._save(replace(self.saved, trial=installed))
            self.store.point(installed.digest)
        except OSError as error:
            return self._fail(f"{self.store.root}: cannot be changed ({error.strerror})")
        self._monitor = HealthMonitor(installed.digest, self.config.health, time.monotonic(), before)
        return Event.DONE

    def _watching(self) -> Event:
        health = self.config.health
        tick = min(0.5, health.gap_s / 5, health.start_s / 5)
        assert self._monitor is not None  # noqa: S101  # set by the swap
        while True:
            self._monitor.update(read_beat(self.store.root), time.monotonic())
            if self._monitor.reason:
                self._unhealthy = f"unhealthy: {self._monitor.reason}"
                self._say(self._unhealthy)
                return Event.UNHEALTHY
            if self._monitor.is_over:
                return Event.DONE
            self._pause(tick)

    def _committing(self) -> Event:
        candidate, saved = self._chosen(), self.saved
        assert candidate.manifest is not None  # noqa: S101  # it was verified
        installed = candidate.installed
        committed = replace(
            saved,
            committed=installed,
            previous=saved.committed,
            trial=None,
            refused={digest: refusal for digest, refusal in saved.refused.items() if digest != installed.digest},
            interrupted={},
        )
        if installed.release > saved.min_release:
            committed = replace(committed, min_release=installed.release, newest=candidate.manifest.sha256)
        if candidate.offer is None and saved.committed:
            why = "an operator rolled back from it"
            committed = committed.refusing(saved.committed.digest, why, self._installer.circumstances())
        try:
            self._save(committed)
        except OSError as error:
            return self._fail(f"{self.store.root}: the new release cannot be committed ({error.strerror})")
        self._collect(installed.digest)
        self._report_committed()
        return Event.DONE

    def _reverting(self) -> Event:
        """From an unhealthy trial, from a disk that refused, or from a trial that the last agent did not end."""
        trial = self.saved.trial
        state = replace(self.saved, trial=None)
        refusal = self._unhealthy
        if trial and self._candidate is None:
            times = state.interrupted.get(trial.digest, 0) + 1
            self._say(f"release {trial.release}: its trial was cut off (time {times}); back to the committed one")
            state = replace(state, interrupted={trial.digest: times})
            refusal = f"its trial was cut off {times} times" if times >= TRIALS else None
        if trial and refusal:
            state = state.refusing(trial.digest, refusal, self._installer.circumstances())
        try:
            self.store.point(state.committed.digest if state.committed else None)
            self._save(state)
        except OSError as error:
            self._say(f"{self.store.root}: cannot go back ({error.strerror}); tried again")
            self._collect()  # the trial's own files may be what fills the disk
            self._pause(_TICK)
            return Event.FAILED
        if trial and self._unhealthy:
            self._outbox.put(trial, REVERTED, now_text(), self._unhealthy)
        self._unhealthy = None
        self._settle()
        return Event.DONE

    # What they are made of.

    def _chosen(self) -> CandidateRelease:
        assert self._candidate is not None  # noqa: S101  # set by the check that led here
        return self._candidate

    def _say(self, problem: object) -> None:
        self.problem = str(problem)
        logger.warning("%s", problem)

    def _fail(self, problem: object) -> Event:
        self._say(problem)
        return Event.FAILED

    def _refuse(self, problem: object) -> Event:
        """Remember that the candidate is of no use here; what cannot be remembered is tried again."""
        installed, why = self._chosen().installed, str(problem)
        self._say(why)
        self._outbox.put(installed, REFUSED, now_text(), why)
        try:
            self._save(self.saved.refusing(installed.digest, why, self._installer.circumstances()))
        except OSError as error:
            return self._fail(f"{why}; that cannot be written down ({error.strerror})")
        return Event.REFUSED

    def _save(self, state: AgentState) -> None:
        self.store.save(state)
        self.saved = state

    def _settle(self) -> None:
        """Leave `current` on the committed release if that is whole, else on the one before, else on none."""
        try:
            self.saved = recovery.settle(self.saved, self.store, self._installer.trusted())
        except BundleError as error:  # the device's own keys cannot be read: nothing can be judged, nothing changes
            self._say(error)
        except OSError as error:
            self._say(f"{self.store.root}: cannot be changed ({error.strerror})")

    def _collect(self, *digests: str) -> None:
        kept = [entry.digest for entry in (self.saved.committed, self.saved.previous) if entry]
        self._installer.collect([*kept, *digests])

    def _report_committed(self) -> None:
        if self.saved.committed:
            self._outbox.put(self.saved.committed, HEALTHY, now_text())

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError


def now_text() -> str:
    """The device's clock in UTC, to be shown and never to be relied on."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(installed: Installed | None) -> dict[str, object] | None:
    return asdict(installed) if installed else None
