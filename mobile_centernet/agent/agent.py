"""The agent: keeps a device on the release that its channel names, and never without a verified one that it had.

`states.TRANSITIONS` says what may follow what; here each state has one method, which does its work and returns how it
ended (`start` for the first). Killed anywhere, the next start makes `current` what was committed last. Whatever is
raised anywhere becomes `problem`: nothing that comes from outside ends the process.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256

from mobile_centernet.agent import disk, recovery
from mobile_centernet.agent.config import Config
from mobile_centernet.agent.device import Device
from mobile_centernet.agent.errors import (
    NothingOfferedError,
    RollbackRequestedError,
    RottenError,
    SelfTestError,
    SlowSelfTestError,
)
from mobile_centernet.agent.health import Beat, HealthMonitor, read_beats
from mobile_centernet.agent.install import Installer
from mobile_centernet.agent.machine import Machine, now_text
from mobile_centernet.agent.reports import Outbox
from mobile_centernet.agent.selftest_runner import SelfTest, SelfTestResult, run_self_test
from mobile_centernet.agent.states import Event, State
from mobile_centernet.agent.status import Status
from mobile_centernet.agent.store import TRIALS, AgentState, AgentStore, Installed
from mobile_centernet.agent.trust_client import TrustClient
from mobile_centernet.bundle.errors import BundleError, StorageError
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.trust.errors import TrustError
from mobile_centernet.trust.reports import HEALTHY, REFUSED, REVERTED
from mobile_centernet.trust.statement import Statement

logger = logging.getLogger(__name__)

_TICK = 1.0
_LONGEST = 60.0  # seconds between two attempts to go back, at most
_ROLLED_BACK = "an operator rolled back from it"


@dataclass(frozen=True)
class CandidateRelease:
    """The release that the agent is about to run; `statement` is None where it goes back to the one before.

    `manifest` is there once it was verified.
    """

    installed: Installed
    statement: Statement | None = None
    manifest: Manifest | None = None


class Agent(Machine):
    """One device. Hold `store.locked()` around everything; `start` comes first, else the first `poll` does it.

    `observe` is as `Machine`'s.
    """

    def __init__(
        self,
        config: Config,
        *,
        self_test: SelfTest | None = None,
        device: Device | None = None,
        observe: Callable[[State, Event, State], None] = lambda *_: None,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(AgentStore(config.paths.root), observe, stop or threading.Event())
        self.config = config
        self.saved = AgentState()
        self._client = TrustClient(config.trust, self.store, self._hear)
        run = self_test or partial(run_self_test, config, self._hear)
        self._installer = Installer(config, self.store, device or Device.here(), run)
        self._outbox = Outbox(config, self.store, self._hear)
        self._last_check: str | None = None
        self._candidate: CandidateRelease | None = None
        self._result: SelfTestResult | None = None
        self._beats: Mapping[str, Beat] = {}
        self._monitor: HealthMonitor | None = None
        self._unhealthy: str | None = None
        self._retry_at: dict[str, float] = {}

    # What a caller may ask for.

    def start(self) -> None:
        """Take up what the last agent left, however it ended. What cannot be read now is tried again by `poll`."""
        self.state, self._candidate, self.problem = State.STARTING, None, None
        self._run(self._guarded(self._starting))

    def poll(self) -> None:
        """Ask the repository, and take what it offers if it is new and good. Raises StoppedError and no other."""
        if self.state is State.STARTING:
            self.start()
        if self.state is State.IDLE:
            self._run(Event.DONE)
            self._guarded(self._outbox.send)

    def rollback(self) -> None:
        """Go back to the release before, with self-test and health window, and refuse the present one from now on."""
        try:
            disk.remove_folder(self.store.request)
        except OSError as error:
            self._say(f"{self.store.request}: cannot be removed ({error.strerror})")
            return
        if self.saved.previous is None or self.saved.previous.digest in self.saved.withdrawn:
            self._say("rollback: expected a release before this one, found none")
            return
        self.problem = None
        self._candidate = CandidateRelease(self.saved.previous)
        self._run(Event.ROLLBACK)

    def is_asked_to_roll_back(self) -> bool:
        """Whether the file is there that the command leaves."""
        return self.state is State.IDLE and os.path.lexists(self.store.request)

    def forget_refusals(self) -> None:
        """Try again what was refused. Raises StorageError."""
        try:
            self._save(replace(self.saved, refused={}))
            self._retry_at.clear()
        except OSError as error:
            raise StorageError(f"{self.store.root}: cannot be changed ({error.strerror})") from error

    def status(self) -> Status:
        """What is known now; may be called from another thread."""
        saved, candidate, config = self.saved, self._candidate, self.config
        return Status(
            device=config.device.name,
            profile=config.device.profile,
            channel=config.trust.channel,
            state=self.state.value,
            since=self._since,
            release=_plain(saved.committed or saved.unproven),
            previous=_plain(saved.previous),
            trial=_plain(saved.trial),
            offered=_plain(candidate.installed) if candidate else None,
            statement=saved.number,
            problem=self.problem,
            failures=self.failures,
            last_check=self._last_check,
            proof=asdict(self._result) if self._result else None,
            events=dict(self._events),
        )

    # The machine.

    def _run(self, event: Event) -> None:
        """Leave the present state with `event` and follow the table until the agent is idle, or could not start."""
        self._move(event)
        while self.state not in (State.IDLE, State.STARTING):
            self._move(self._guarded(getattr(self, f"_{self.state.value}")))

    # One method a state.

    def _starting(self) -> Event:
        self.store.create()
        self.saved = self.store.load()
        if self.saved.trial is not None:
            return Event.UNCOMMITTED
        self._settle()
        self._report_committed()
        return Event.DONE

    def _checking(self) -> Event:
        self.problem, self._candidate = None, None
        self._last_check = now_text()
        try:
            offer = self._client.offered(self.saved.seen)
        except NothingOfferedError as error:
            self._say(error)
            return Event.NOTHING_NEW
        statement, config = offer.statement, self.config
        if statement.model != config.trust.model:
            raise TrustError(f"statement: expected a release of {config.trust.model}, found one of {statement.model}")
        if (statement.number, offer.digest) != (self.saved.number, self.saved.statement):
            if statement.number <= self.saved.number:
                raise TrustError(f"statement: expected one after number {self.saved.number}, found {statement.number}")
            taken = replace(self.saved, number=statement.number, statement=offer.digest, withdrawn=statement.withdrawn)
            self._save(replace(taken, seen=max(time.time(), self.saved.seen)))
        if self.saved.committed and self.saved.committed.digest in self.saved.withdrawn:
            self._settle()
        committed = self.saved.committed
        if offer.unlisted:
            self._say(offer.unlisted)
            return Event.NOTHING_NEW
        if committed and committed.digest == statement.manifest:
            return Event.NOTHING_NEW
        if statement.devices and config.device.profile not in statement.devices:
            logger.debug("statement %d is for %s", statement.number, ", ".join(statement.devices))
            return Event.NOTHING_NEW
        # Other devices come first for another release; a growing share of one release keeps those that have it.
        place = int(sha256(f"{statement.manifest} {config.device.name}".encode()).hexdigest()[:8], 16) / 2**32
        if committed and place >= statement.share:
            return Event.NOTHING_NEW
        installed = Installed(statement.manifest, statement.version, statement.number, statement.sha256)
        self._candidate = CandidateRelease(installed, statement)
        refusal = self.saved.refused.get(installed.digest)
        if refusal and refusal.circumstances == self._installer.circumstances():
            if refusal.is_final:
                self.problem = f"refused before: {refusal.why}"
                return Event.NOTHING_NEW
            if time.monotonic() < self._retry_at.get(installed.digest, 0.0):
                self.problem = f"tried again later: {refusal.why}"
                return Event.NOTHING_NEW
        self._collect(installed.digest)
        return Event.KNOWN if self.store.folder(installed.digest).is_dir() else Event.NEW

    def _downloading(self) -> Event:
        statement = self._chosen().statement
        assert statement is not None  # noqa: S101  # only what was offered is downloaded
        self._installer.fetch(statement, self._client, self._hear)
        return Event.DONE

    def _verifying(self) -> Event:
        candidate = self._chosen()
        try:
            manifest = self._installer.verify(candidate.installed)
        except RottenError as error:
            self._say(error)
            return Event.NEW if candidate.statement else Event.FAILED
        except StorageError:
            raise
        except BundleError as error:
            self._installer.discard(candidate.installed.digest)
            return self._refuse(error)
        self.problem = None
        self._candidate = replace(candidate, manifest=manifest)
        return Event.DONE

    def _proving(self) -> Event:
        candidate = self._chosen()
        assert candidate.manifest is not None  # noqa: S101  # it was verified
        self._beats = read_beats(self.store.root)
        try:
            self._result = self._installer.self_test(candidate.installed.digest, candidate.manifest)
        except SelfTestError as error:
            return self._refuse(error, may_pass=isinstance(error, SlowSelfTestError))
        return Event.DONE

    def _swapping(self) -> Event:
        installed, health = self._chosen().installed, self.config.health
        before, late = self._beats, time.monotonic() + health.gap_s
        while True:
            beats = read_beats(self.store.root)
            living = [name for name, beat in beats.items() if name not in before or beat.stamp != before[name].stamp]
            if (living and set(before) <= set(living)) or not self.saved.committed or time.monotonic() > late:
                break
            self._pause(self._tick)
        refusal = self.saved.refused.get(installed.digest)
        # What is dead already cannot judge a release; after some tries the release may be what brings it back.
        if (
            not living
            and self.saved.committed
            and self._chosen().statement
            and not (refusal and refusal.tries >= TRIALS - 2)
        ):
            return self._refuse(
                f"no application has beaten for {health.gap_s:g} s, so none could try it", may_pass=True
            )
        self._save(replace(self.saved, trial=installed))
        self.store.point(installed.digest)
        self._monitor = HealthMonitor(installed.digest, health, time.monotonic(), beats, living)
        return Event.DONE

    def _watching(self) -> Event:
        assert self._monitor is not None  # noqa: S101  # set by the swap
        while True:
            self._monitor.update(read_beats(self.store.root), time.monotonic())
            if self._monitor.reason:
                self._unhealthy = f"unhealthy: {self._monitor.reason}"
                self._say(self._unhealthy)
                return Event.UNHEALTHY
            if self._monitor.is_over:
                return Event.DONE
            try:
                self._pause(self._tick)
            except RollbackRequestedError:
                disk.remove_folder(self.store.request)
                self._unhealthy = _ROLLED_BACK
                self._say(f"version {self._chosen().installed.version}: {_ROLLED_BACK}")
                return Event.UNHEALTHY

    def _committing(self) -> Event:
        candidate, saved = self._chosen(), self.saved
        installed = candidate.installed
        committed = replace(
            saved,
            committed=installed,
            previous=saved.committed,
            trial=None,
            unproven=None,
            refused={digest: refusal for digest, refusal in saved.refused.items() if digest != installed.digest},
        )
        if candidate.statement is None and saved.committed:
            committed = committed.refusing(saved.committed.digest, _ROLLED_BACK, self._installer.circumstances())
        self._save(committed)
        self._collect(installed.digest)
        self._report_committed()
        return Event.DONE

    def _reverting(self) -> Event:
        """From an unhealthy trial, from a disk that refused, or from a trial that the last agent did not end."""
        trial, circumstances = self.saved.trial, self._installer.circumstances()
        state = replace(self.saved, trial=None)
        if trial and self._unhealthy:
            may_pass = self._unhealthy != _ROLLED_BACK
            state = state.refusing(trial.digest, self._unhealthy, circumstances, may_pass=may_pass)
        elif trial and self._candidate is None:
            counted = state.refusing(trial.digest, "", circumstances, may_pass=True)
            why = f"its trial was cut off {counted.refused[trial.digest].tries} times"
            self._say(f"version {trial.version}: {why}; back to the committed one")
            state = state.refusing(trial.digest, why, circumstances, may_pass=True)
        before = state.committed or state.unproven
        if trial and before and before.digest == trial.digest:
            before = None  # the memory was lost, and what ran then is what was tried
            state = replace(state, unproven=None)
        try:
            self.store.point(before.digest if before else None)
            self._save(state)
        except OSError as error:
            self._say(f"{self.store.root}: cannot go back ({error.strerror}); tried again")
            self._collect()  # the trial's own files may be what fills the disk
            self._pause(min(_LONGEST, _TICK * 2.0 ** min(self._events["reverting: failed"], 10)))
            return Event.FAILED
        if trial and self._unhealthy:
            self._retry_later(trial)
            self._outbox.put(trial, REVERTED, now_text(), self._unhealthy)
        self._unhealthy = None
        self._settle()
        return Event.DONE

    # What they are made of.

    @property
    def _tick(self) -> float:
        return min(0.5, self.config.health.gap_s / 5, self.config.health.start_s / 5)

    def _chosen(self) -> CandidateRelease:
        assert self._candidate is not None  # noqa: S101  # set by the check that led here
        return self._candidate

    def _refuse(self, problem: object, *, may_pass: bool = False) -> Event:
        """Remember that the candidate is of no use here, or not now; what cannot be remembered is tried again."""
        installed = self._chosen().installed
        self._say(problem)
        why = self.problem or ""
        self._save(self.saved.refusing(installed.digest, why, self._installer.circumstances(), may_pass=may_pass))
        self._retry_later(installed)
        if self.saved.refused[installed.digest].is_final:
            self._outbox.put(installed, REFUSED, now_text(), why)
        return Event.REFUSED

    def _retry_later(self, installed: Installed) -> None:
        tries = self.saved.refused[installed.digest].tries
        self._retry_at[installed.digest] = time.monotonic() + self.config.poll.backed_off(tries)

    def _save(self, state: AgentState) -> None:
        self.store.save(state)
        self.saved = state

    def _settle(self) -> None:
        """Leave `current` on the committed release if that is whole, else on the one before, else on none."""
        self.saved, problems = recovery.settle(self.saved, self.store)
        if problems:
            self._say("; ".join(problems))

    def _collect(self, *digests: str) -> None:
        saved = self.saved
        kept = [entry.digest for entry in (saved.committed, saved.previous, saved.unproven) if entry]
        self._installer.collect([*kept, *digests])

    def _report_committed(self) -> None:
        if self.saved.committed:
            self._outbox.put(self.saved.committed, HEALTHY, now_text())


def _plain(installed: Installed | None) -> dict[str, object] | None:
    return asdict(installed) if installed else None
