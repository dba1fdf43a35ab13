"""Applications that do not live with a release, or not at all, or are several: the agent goes back, or waits."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest

from mobile_centernet.agent.errors import StoppedError
from mobile_centernet.agent.health import HEARTBEAT, Heartbeat, read_beats
from mobile_centernet.agent.states import State
from mobile_centernet.agent.store import TRIALS
from tests.helpers.lab import Lab
from tests.helpers.outcomes import Releases

LIVES = {"health": {"start_s": 0.4, "gap_s": 0.2, "window_s": 1.0}}


@contextmanager
def beside(*applications: Callable[[threading.Event], None]) -> Iterator[None]:
    end = threading.Event()
    threads = [threading.Thread(target=application, args=(end,)) for application in applications]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def unhealthy(device: Lab, releases: Releases, application: Callable[[threading.Event], None], sentence: str) -> None:
    """It swaps, sees that, and goes back; it tries again some times, not at once, and then no more."""
    device.configure(**LIVES, poll={"interval_s": 100.0})
    with beside(application):
        agent = device.polled()
        assert device.running() == releases[12].digest
        assert agent.problem and agent.problem.startswith("unhealthy: ") and sentence in agent.problem
        assert agent._events["swapping: done"] == 1
        agent.poll()
        assert agent._events["swapping: done"] == 1 and agent.problem.startswith("tried again later: unhealthy: ")
    (refusal,) = device.saved.refused.values()
    assert refusal.tries == 1


def lives(
    device: Lab, beats: dict[str, int], name: str = "", pid: int | None = None
) -> Callable[[threading.Event], None]:
    """An application that beats for what `current` leads to, for so many beats of each release (others: for ever)."""

    def beat(end: threading.Event) -> None:
        heart, left = Heartbeat(device.root, name), dict(beats)
        while not end.wait(0.02):
            digest = device.store.pointed()
            if digest is not None and left.get(digest, 1):
                left[digest] = left.get(digest, 0) - 1
                with patched_pid(pid):
                    heart.beat(digest)

    return beat


@contextmanager
def patched_pid(pid: int | None) -> Iterator[None]:
    real = os.getpid
    with LOCK:
        if pid is not None:
            os.getpid = lambda: pid  # two processes, as far as the files tell
        try:
            yield
        finally:
            os.getpid = real


LOCK = threading.Lock()


def test_an_application_that_never_comes_up(device: Lab, releases: Releases) -> None:
    dies = lives(device, {releases[13].digest: 0})
    unhealthy(device, releases, dies, "expected a heartbeat of the new release within 0.4 s, found none")


def test_an_application_that_dies_after_the_swap(device: Lab, releases: Releases) -> None:
    dies = lives(device, {releases[13].digest: 5})
    unhealthy(device, releases, dies, "expected a heartbeat every 0.2 s, found none for")


def test_an_application_that_stays_with_the_old_release(device: Lab, releases: Releases) -> None:
    def beat(end: threading.Event) -> None:
        heart = Heartbeat(device.root)
        while not end.wait(0.02):
            heart.beat(releases[12].digest)

    unhealthy(device, releases, beat, "expected a heartbeat of the new release within 0.4 s, found none")


def test_an_application_in_a_crash_loop(device: Lab, releases: Releases) -> None:
    """Each life is healthy and short."""

    def crash(end: threading.Event) -> None:
        life = 0
        while not end.wait(0.02):
            life += 1
            if digest := device.store.pointed():
                beat = {"release": digest, "pid": 1000 + life // 5, "beats": life}
                (device.root / ".beat").write_text(json.dumps(beat))
                (device.root / ".beat").replace(device.root / HEARTBEAT)

    unhealthy(device, releases, crash, "expected at most 0 restarts of the application, found")


def test_an_application_that_was_down_before_has_no_vote(device: Lab, releases: Releases) -> None:
    """A camera that is unplugged refuses no release: it is put off, and tried when the application is back."""
    device.configure(**LIVES)
    agent = device.polled()
    assert agent._events["swapping: done"] == 0 and agent.problem and "no application has beaten" in agent.problem
    assert device.running() == releases[12].digest
    with device.application():
        device.polled()
    assert device.running() == releases[13].digest


def test_an_application_that_the_old_release_keeps_down_gets_the_new_one_in_the_end(
    device: Lab, releases: Releases
) -> None:
    device.configure(**LIVES)
    with beside(lives(device, {releases[12].digest: 0})):
        for _ in range(TRIALS):
            device.polled()
    assert device.running() == releases[13].digest


@pytest.mark.parametrize("names", [("", ""), ("front", "rear")], ids=["one file", "a file each"])
def test_two_cameras_on_one_device(device: Lab, releases: Releases, names: tuple[str, str]) -> None:
    device.configure(health={"start_s": 5.0, "gap_s": 1.5, "window_s": 2.0})
    with beside(lives(device, {}, names[0], 1), lives(device, {}, names[1], 2)):
        agent = device.polled()
    assert device.running() == releases[13].digest, agent.problem


def test_one_of_two_cameras_that_dies_of_the_release(device: Lab, releases: Releases) -> None:
    device.configure(**LIVES)
    with beside(lives(device, {}, "front", 1), lives(device, {releases[13].digest: 0}, "rear", 2)):
        agent = device.polled()
    assert device.running() == releases[12].digest
    assert agent.problem and "found none (heartbeat.rear)" in agent.problem


@pytest.mark.parametrize("content", [b"[" * 1000, b'{"pid": ' + b"9" * 900 + b"}", b"\xff\xfe", b"5", b'{"release"'])
def test_a_heartbeat_that_is_nonsense_is_none(device: Lab, content: bytes) -> None:
    (device.root / HEARTBEAT).write_bytes(content)
    assert all(beat.release is None for beat in read_beats(device.root).values())


def test_a_heartbeat_that_is_a_pipe_does_not_block(device: Lab) -> None:
    (device.root / HEARTBEAT).unlink()
    os.mkfifo(device.root / HEARTBEAT)
    assert read_beats(device.root) == {}


def test_an_application_that_only_touches_the_file(device: Lab, releases: Releases) -> None:
    (device.root / HEARTBEAT).unlink()

    def touch(end: threading.Event) -> None:
        while not end.wait(0.02):
            (device.root / HEARTBEAT).touch()

    with beside(touch):
        device.polled()
    assert device.running() == releases[13].digest


@pytest.mark.parametrize("stop_it", [True, False], ids=["stop", "rollback"])
def test_a_trial_that_hears(device: Lab, releases: Releases, stop_it: bool) -> None:
    """Though its window is an hour; the release that was tried is refused by the operator's word."""
    device.configure(health={"start_s": 3600.0, "gap_s": 3600.0, "window_s": 3600.0})
    stop, watching = threading.Event(), threading.Event()

    def ask(_end: threading.Event) -> None:
        assert watching.wait(60)
        (stop.set if stop_it else device.store.request.touch)()

    with device.application(), beside(ask):
        agent = device.agent(stop=stop, observe=lambda *moves: moves[-1] is State.WATCHING and watching.set())
        agent.start()
        with pytest.raises(StoppedError) if stop_it else nullcontext():
            agent.poll()
    if stop_it:
        device.agent().start()
    else:
        agent.poll()
        assert agent.problem == "refused before: an operator rolled back from it"
    assert device.running() == releases[12].digest and not device.store.request.exists()
