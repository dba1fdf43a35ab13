"""Applications that do not live with a release, and clocks that lie: the agent goes back, or does not care."""

import json
import os
import threading
import time
from collections.abc import Callable

import pytest

from mobile_centernet.agent.health import HEARTBEAT, Heartbeat
from tests.helpers.lab import Lab
from tests.helpers.outcomes import Releases


def unhealthy(device: Lab, releases: Releases, application: Callable[[threading.Event], None], sentence: str) -> None:
    """It swaps, sees that, and goes back; then it does not try again."""
    device.configure(health={"start_s": 0.4, "gap_s": 0.2, "window_s": 1.0})
    end = threading.Event()
    thread = threading.Thread(target=application, args=(end,))
    thread.start()
    try:
        agent = device.polled()
    finally:
        end.set()
        thread.join()
    assert device.running() == releases[12].digest
    assert agent.problem and agent.problem.startswith("unhealthy: ") and sentence in agent.problem
    assert agent._events["swapping: done"] == 1
    agent.poll()
    assert agent._events["swapping: done"] == 1 and agent.problem.startswith("refused before: unhealthy: ")


def test_an_application_that_never_comes_up(device: Lab, releases: Releases) -> None:
    (device.root / HEARTBEAT).write_text(json.dumps({"release": releases[13].digest, "pid": 1}))
    unhealthy(device, releases, lambda _: None, "expected a heartbeat of the new release within 0.4 s, found none")


def beat_until(device: Lab, digest: str, beats: int) -> Callable[[threading.Event], None]:
    def beat(end: threading.Event) -> None:
        heart, left = Heartbeat(device.root), beats
        while left and not end.wait(0.02):
            if device.store.pointed() == digest:
                heart.beat(digest)
                left -= 1

    return beat


def test_an_application_that_dies_after_the_swap(device: Lab, releases: Releases) -> None:
    dies = beat_until(device, releases[13].digest, 5)
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
            if device.store.pointed() == releases[13].digest:
                beat = {"release": releases[13].digest, "pid": 1000 + life // 5, "beats": life}
                (device.root / ".beat").write_text(json.dumps(beat))
                (device.root / ".beat").replace(device.root / HEARTBEAT)

    unhealthy(device, releases, crash, "expected at most 0 restarts of the application, found 1")


def test_an_application_that_only_touches_the_file(device: Lab, releases: Releases) -> None:
    end = threading.Event()

    (device.root / HEARTBEAT).unlink()

    def touch() -> None:
        while not end.wait(0.02):
            (device.root / HEARTBEAT).touch()

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        device.polled()
    finally:
        end.set()
        thread.join()
    assert device.running() == releases[13].digest


@pytest.mark.parametrize("now", [0.0, 4e9])
def test_a_clock_that_is_wrong_and_jumps(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    """1970 or 2096, and heartbeats whose time stands still."""
    monkeypatch.setattr(time, "time", lambda: now)
    end = threading.Event()

    def beat() -> None:
        heart = Heartbeat(device.root)
        while not end.wait(0.02):
            if digest := device.store.pointed():
                heart.beat(digest)
                os.utime(device.root / HEARTBEAT, (now, now))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        device.polled()
    finally:
        end.set()
        thread.join()
    assert device.running() == releases[13].digest
