"""The agent: keeps a device on the release that an alias names, and never without a verified one that it had.

`states.TRANSITIONS` says what may follow what; here each state has one method, which does its work and returns how it
ended. Killed anywhere, the next start makes `current` what was committed last.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Protocol

from mobile_centernet.agent import recovery
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.health import Watch, read_beat
from mobile_centernet.agent.install import Intake
from mobile_centernet.agent.outbox import Outbox
from mobile_centernet.agent.registry_client import Offer, RegistryClient
from mobile_centernet.agent.reports import HEALTHY, REFUSED, REVERTED
from mobile_centernet.agent.selftest_runner import Proof, Prove, prover
from mobile_centernet.agent.states import TRANSITIONS, Event, State
from mobile_centernet.agent.status import Status, event_key, write_status
from mobile_centernet.agent.store import Installed, Memory, Store
from mobile_centernet.agent.transfer import download
from mobile_centernet.bundle.errors import (
    BundleError,
    NothingOfferedError,
    ProofError,
    ProofInterruptedError,
    RottenError,
    StorageError,
    TransferError,
)
from mobile_centernet.bundle.manifest import Manifest

log = logging.getLogger("mobile-centernet-edge")

TRIALS = 5
"""A release whose trial was cut off so often is refused: it may be what brings the device down."""

_TICK = 1.0


class Registry(Protocol):
    """As `registry_client.RegistryClient`."""

    def offered(self, alias: str) -> Offer: ...
    def report(self, version: str, key: str, value: str) -> None: ...
    def headers(self) -> dict[str, str]: ...


class StoppedError(Exception):
    """The agent was asked to end inside a trial; the next start goes back."""


@dataclass(frozen=True)
class Candidate:
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
        registry: Registry | None = None,
        prove: Prove | None = None,
        device: Device | None = None,
        observe: Callable[[State, Event, State], None] = lambda *_: None,
        stop: threading.Event | None = None,
    ) -> None:
        source = config.registry
        self.config = config
        self.store = Store(config.paths.root)
        self.state = State.STARTING
        self.memory = Memory()
        self.problem: str | None = None
        self.failures = 0
        self._registry = registry or RegistryClient(source.url, source.model, source.timeout_s)
        self._intake = Intake(config, self.store, device or Device.here(), prove or prover(config))
        self._outbox = Outbox(config, self._registry)
        self._observe = observe
        self._stop = stop or threading.Event()
        self._events: Counter[str] = Counter()
        self._since = now_text()
        self._last_check: str | None = None
        self._candidate: Candidate | None = None
        self._proof: Proof | None = None
        self._watch: Watch | None = None
        self._unhealthy: str | None = None

    # What a caller may ask for.

    def start(self) -> None:
        """Take up what the last agent left, however it ended."""
        self.state, self._candidate = State.STARTING, None
        self._run(self._starting())

    def poll(self) -> None:
        """Ask the registry, and take what it offers if it is new and good. Raises StoppedError inside a trial."""
        self._run(Event.DONE)
        self._outbox.send()

    def rollback(self) -> None:
        """Go back to the release before, with proof and health window, and refuse the present one from now on."""
        if self.memory.previous is None:
            self._say("rollback: expected a release before this one, found none")
            return
        self.problem = None
        self._candidate = Candidate(self.memory.previous)
        self._run(Event.ROLLBACK)

    def forget_refusals(self) -> None:
        """Try again what was refused. Raises StorageError."""
        try:
            self._remember(replace(self.memory, refused={}, interrupted={}))
        except OSError as error:
            raise StorageError(f"{self.store.root}: cannot be changed ({error.strerror})") from error

    def status(self) -> Status:
        """What is known now; may be called from another thread."""
        memory, candidate, config = self.memory, self._candidate, self.config
        return Status(
            device=config.device.name,
            profile=config.device.profile,
            alias=config.registry.alias,
            state=self.state.value,
            since=self._since,
            release=_plain(memory.committed),
            previous=_plain(memory.previous),
            trial=_plain(memory.trial),
            offered=_plain(candidate.installed) if candidate else None,
            problem=self.problem,
            failures=self.failures,
            last_check=self._last_check,
            proof=asdict(self._proof) if self._proof else None,
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
        self._events[event_key(left, event)] += 1
        if self.state is State.IDLE:
            self.failures = self.failures + 1 if event is Event.FAILED else 0
        is_routine = event is Event.NOTHING_NEW or left is State.IDLE
        log.log(logging.DEBUG if is_routine else logging.INFO, "%s: %s", left.value, event.value)
        try:
            write_status(self.store.root, self.status())
        except OSError as error:
            log.warning("status.json cannot be written (%s)", error.strerror)
        self._observe(left, event, self.state)

    # One method a state.

    def _starting(self) -> Event:
        self.store.create()
        self.memory = recovery.recall(self.store)
        if self.memory.trial is not None:
            return Event.UNCOMMITTED
        self._settle()
        self._report_committed()
        return Event.DONE

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
        self._candidate = Candidate(Installed(offer.digest, offer.version, offer.release), offer)
        if self.memory.committed and offer.digest == self.memory.committed.digest:
            return Event.NOTHING_NEW
        refusal = self.memory.refused.get(offer.digest)
        if refusal and refusal.circumstances == self._intake.circumstances():
            self.problem = f"refused before: {refusal.why}"
            return Event.NOTHING_NEW
        self._collect(offer.digest)
        return Event.KNOWN if self.store.folder(offer.digest).is_dir() else Event.NEW

    def _downloading(self) -> Event:
        offer = self._chosen().offer
        assert offer is not None  # noqa: S101  # only what was offered is downloaded
        try:
            self._intake.check_space(offer)
            partial = self.store.partial(offer.digest)
            download(offer, partial, self._registry.headers(), self.config.registry.timeout_s)
        except (TransferError, StorageError) as error:
            return self._fail(error)
        return Event.DONE

    def _verifying(self) -> Event:
        candidate = self._chosen()
        try:
            self._intake.trusted()
        except BundleError as error:  # the device's own keys cannot be read: says nothing about the release
            return self._fail(error)
        try:
            manifest = self._intake.verify(candidate.installed.digest)
            if candidate.offer is not None:  # what ran here before fits
                self._intake.check_fit(manifest, self.memory)
        except RottenError as error:
            self._say(error)
            return Event.NEW if candidate.offer else Event.FAILED
        except StorageError as error:
            return self._fail(error)
        except BundleError as error:
            self._intake.discard(candidate.installed.digest)
            return self._refuse(error)
        self.problem = None
        installed = replace(candidate.installed, release=manifest.release)
        self._candidate = replace(candidate, installed=installed, manifest=manifest)
        return Event.DONE

    def _proving(self) -> Event:
        candidate = self._chosen()
        assert candidate.manifest is not None  # noqa: S101  # it was verified
        try:
            self._proof = self._intake.prove(candidate.installed.digest, candidate.manifest)
        except ProofError as error:
            return self._refuse(error)
        except ProofInterruptedError as error:
            return self._fail(error)
        return Event.DONE

    def _swapping(self) -> Event:
        installed = self._chosen().installed
        before = read_beat(self.store.root)
        try:
            self._remember(replace(self.memory, trial=installed))
            self.store.point(installed.digest)
        except OSError as error:
            return self._fail(f"{self.store.root}: cannot be changed ({error.strerror})")
        self._watch = Watch(installed.digest, self.config.health, time.monotonic(), before)
        return Event.DONE

    def _watching(self) -> Event:
        health = self.config.health
        tick = min(0.5, health.gap_s / 5, health.start_s / 5)
        assert self._watch is not None  # noqa: S101  # set by the swap
        while True:
            now = time.monotonic()
            if complaint := self._watch.look(read_beat(self.store.root), now):
                self._unhealthy = f"unhealthy: {complaint}"
                self._say(self._unhealthy)
                return Event.UNHEALTHY
            if self._watch.is_over(now):
                return Event.DONE
            self._pause(tick)

    def _committing(self) -> Event:
        candidate, memory = self._chosen(), self.memory
        assert candidate.manifest is not None  # noqa: S101  # it was verified
        committed = memory.committing(candidate.installed, candidate.manifest.sha256)
        if candidate.offer is None and memory.committed:
            why = "an operator rolled back from it"
            committed = committed.refusing(memory.committed.digest, why, self._intake.circumstances())
        try:
            self._remember(committed)
        except OSError as error:
            return self._fail(f"{self.store.root}: the new release cannot be committed ({error.strerror})")
        self._collect(candidate.installed.digest)
        self._report_committed()
        return Event.DONE

    def _reverting(self) -> Event:
        """From an unhealthy trial, from a disk that refused, or from a trial that the last agent did not end."""
        trial = self.memory.trial
        memory = replace(self.memory, trial=None)
        if trial and self._candidate is None:
            memory = self._cut_off(memory, trial)
        elif trial and self._unhealthy:
            memory = memory.refusing(trial.digest, self._unhealthy, self._intake.circumstances())
        try:
            self.store.point(memory.committed.digest if memory.committed else None)
            self._remember(memory)
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

    def _chosen(self) -> Candidate:
        assert self._candidate is not None  # noqa: S101  # set by the check that led here
        return self._candidate

    def _say(self, problem: object) -> None:
        self.problem = str(problem)
        log.warning("%s", problem)

    def _fail(self, problem: object) -> Event:
        self._say(problem)
        return Event.FAILED

    def _refuse(self, problem: object) -> Event:
        """Remember that the candidate is of no use here; what cannot be remembered is tried again."""
        installed, why = self._chosen().installed, str(problem)
        self._say(why)
        self._outbox.put(installed, REFUSED, now_text(), why)
        try:
            self._remember(self.memory.refusing(installed.digest, why, self._intake.circumstances()))
        except OSError as error:
            return self._fail(f"{why}; that cannot be written down ({error.strerror})")
        return Event.REFUSED

    def _remember(self, memory: Memory) -> None:
        self.store.remember(memory)
        self.memory = memory

    def _cut_off(self, memory: Memory, trial: Installed) -> Memory:
        times = memory.interrupted.get(trial.digest, 0) + 1
        self._say(f"release {trial.release}: its trial was cut off (time {times}); back to the committed one")
        memory = replace(memory, interrupted={trial.digest: times})
        if times < TRIALS:
            return memory
        return memory.refusing(trial.digest, f"its trial was cut off {times} times", self._intake.circumstances())

    def _settle(self) -> None:
        """Leave `current` on the committed release if that is whole, else on the one before, else on none."""
        try:
            settled = recovery.whole(self.memory, self.store, self._intake.trusted())
            recovery.settle(settled, self.store)
        except BundleError as error:  # the device's own keys cannot be read: nothing can be judged, nothing changes
            self._say(error)
        except OSError as error:
            self._say(f"{self.store.root}: cannot be changed ({error.strerror})")
        else:
            self.memory = settled

    def _collect(self, *digests: str) -> None:
        kept = [entry.digest for entry in (self.memory.committed, self.memory.previous) if entry]
        self._intake.collect([*kept, *digests])

    def _report_committed(self) -> None:
        if self.memory.committed:
            self._outbox.put(self.memory.committed, HEALTHY, now_text())

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError


def now_text() -> str:
    """The device's clock in UTC, to be shown and never to be relied on."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(installed: Installed | None) -> dict[str, object] | None:
    return asdict(installed) if installed else None
