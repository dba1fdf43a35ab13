"""kill -9 anywhere: the device runs the old or the new release, verified, before and after the next start."""

import random
import shutil

import pytest

from mobile_centernet.agent.store import TRIALS
from mobile_centernet.bundle.bundle import verify_folder
from tests.helpers.lab import Forks, Lab
from tests.helpers.offers import Bundle

Releases = dict[int, Bundle]


class Update:
    """One device on release 12 that is offered 13, again and again."""

    def __init__(self, lab: Lab, releases: Releases, forks: Forks) -> None:
        self.lab, self.forks = lab, forks
        self.old, self.new = releases[12].digest, releases[13].digest
        lab.install(releases[12])
        lab.offer(releases[13])
        self._before = lab.folder / "before"
        lab.root.rename(self._before)

    def attempt(self, kill: str, at: int) -> dict[str, int]:
        """Killed or not, from the same state of the disk."""
        shutil.rmtree(self.lab.root, ignore_errors=True)
        shutil.copytree(self._before, self.lab.root, symlinks=True)
        with self.lab.application():
            return self.forks.run(self.lab.settings, kill, at)

    def places(self, kill: str) -> int:
        done = self.attempt(kill, 0)
        assert done["status"] == 0 and self.lab.running() == self.new
        return done["places"]

    def check(self, kill: str, at: int) -> None:
        """Kill there, look, start, look, poll, look."""
        killed = self.attempt(kill, at)
        where = f"killed at {kill} {at}"
        assert killed["killed"] or (kill == "line" and killed["status"] == 0), where  # the watch's length varies
        met = self.lab.store.pointed()
        assert met in (self.old, self.new), where
        verify_folder(self.lab.store.folder(met))
        agent = self.lab.agent()
        with agent.store.locked(), self.lab.application():
            agent.start()
            assert self.lab.running() in (self.old, self.new), where
            assert self.lab.saved.trial is None, where
            agent.poll()
        assert self.lab.running() == self.new and agent.problem is None, where
        assert {entry.name for entry in self.lab.store.releases.iterdir()} == {self.old, self.new}, where


@pytest.fixture
def update(lab: Lab, releases: Releases, forks: Forks) -> Update:
    return Update(lab, releases, forks)


def test_killed_at_every_transition(update: Update) -> None:
    places = update.places("transition")
    assert places == 9  # starting, idle, checking, downloading, verifying, proving, swapping, watching, committing
    for at in range(1, places + 1):
        update.check("transition", at)


def test_killed_before_within_and_after_every_change_of_the_disk(update: Update) -> None:
    places = update.places("change")
    assert places > 20
    for at in range(1, places + 1):
        update.check("change", at)


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_lines(update: Update, seed: int) -> None:
    _killed_at_random(update, seed, times=20)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_killed_at_random_lines_in_a_loop(update: Update, seed: int) -> None:
    _killed_at_random(update, seed, times=100)


def _killed_at_random(update: Update, seed: int, times: int) -> None:
    places, rng = update.places("line"), random.Random(seed)
    for _ in range(times):
        update.check("line", rng.randint(1, places))


def test_killed_while_it_installs_the_first_release(lab: Lab, releases: Releases, forks: Forks) -> None:
    lab.offer(releases[12])
    for at in range(1, 10):
        shutil.rmtree(lab.root, ignore_errors=True)
        with lab.application():
            forks.run(lab.settings, "transition", at)
        assert lab.store.pointed() in (None, releases[12].digest)
        with lab.application():
            lab.polled()
        assert lab.running() == releases[12].digest


def test_killed_while_it_goes_back(update: Update, releases: Releases) -> None:
    """A trial that was cut off, then the reverting start is killed at every change of the disk, and at the next too."""
    lab = update.lab
    for at in range(1, 50):
        assert update.attempt("transition", 7)["killed"]  # swapped, not committed
        assert lab.store.pointed() == update.new
        killed = update.forks.run(lab.settings, "change", at, poll=False)
        lab.agent().start()
        assert lab.running() == update.old
        if not killed["killed"]:
            break
    assert at > 5


def test_a_release_whose_trial_is_cut_off_too_often_is_given_up(update: Update, releases: Releases) -> None:
    """It may be what brings the device down; the next release has its chance."""
    lab = update.lab
    update.attempt("never", 0)
    shutil.rmtree(lab.root)
    shutil.copytree(lab.folder / "before", lab.root, symlinks=True)
    for _ in range(TRIALS):
        with lab.application():
            assert update.forks.run(lab.settings, "transition", 7)["killed"]
    with lab.application():
        agent = lab.polled()
        assert lab.running() == update.old
        assert agent.problem == f"refused before: its trial was cut off {TRIALS} times"
        lab.offer(releases[14])
        agent.poll()
    assert lab.running() == releases[14].digest
