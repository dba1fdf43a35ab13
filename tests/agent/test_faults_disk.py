"""Disks that refuse, forget or rot."""

import builtins
import errno
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mobile_centernet.agent import disk
from mobile_centernet.agent.errors import LockedError, StoppedError
from mobile_centernet.agent.states import State
from tests.helpers.lab import Lab
from tests.helpers.outcomes import Releases, recovers

CHANGES = ("write_file", "rename", "symlink", "unlink", "sync_folder", "remove_folder")


def test_a_disk_that_refuses_each_change_in_turn(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the n-th change, and at every later one until the poll ends."""
    before = device.folder / "before"
    shutil.copytree(device.root, before, symlinks=True)
    monkeypatch.setattr("mobile_centernet.agent.agent._TICK", 0.01)
    real = {name: getattr(disk, name) for name in CHANGES}
    for refuse_from in range(1, 60):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root, symlinks=True)
        passed = 0

        def limited(name: str) -> Callable[..., None]:
            def change(*arguments: object) -> None:
                nonlocal passed
                passed += 1
                if refuse_from <= passed < refuse_from + 6:  # noqa: B023  # used within this turn
                    raise OSError(28, "No space left on device")
                real[name](*arguments)

            return change

        for name in CHANGES:
            monkeypatch.setattr(disk, name, limited(name))
        with device.application():
            agent = device.polled()
        for name in CHANGES:
            monkeypatch.setattr(disk, name, real[name])
        assert device.store.pointed() in (releases[12].digest, releases[13].digest)
        recovers(device, releases)
        if passed < refuse_from:
            break
        assert agent.problem or agent.saved.committed, refuse_from
    assert 10 < refuse_from < 59


DAMAGE = [b"", b"{}", b"\0" * 300, b"[" * 100_000, b'{"digest": 5}', b'{"counter": 1, "state": 5, "sha256": ""}']


@pytest.mark.parametrize("damage", [*DAMAGE, None], ids=range(len(DAMAGE) + 1))
def test_one_copy_of_the_memory_that_is_damaged(device: Lab, releases: Releases, damage: bytes | None) -> None:
    """Either of them: the other one has it all, the number and what is on trial included, and heals it."""
    for name in ("memory.json", "memory.2.json"):
        copy, saved = device.root / name, device.saved
        copy.unlink() if damage is None else copy.write_bytes(damage)
        agent = device.agent()
        agent.start()
        assert agent.problem is None and device.running() == releases[12].digest and device.saved == saved
        assert (device.root / "memory.json").read_bytes() == (device.root / "memory.2.json").read_bytes()


@pytest.mark.parametrize("damage", [*DAMAGE, None], ids=range(len(DAMAGE) + 1))
def test_both_copies_of_the_memory_damaged_inside_a_trial(
    device: Lab, releases: Releases, damage: bytes | None
) -> None:
    """What `current` leads to goes on, and counts as nothing until it has lived through a health window."""
    agent = device.agent(observe=stop_in(State.WATCHING))
    agent.start()
    with device.application(), pytest.raises(StoppedError):
        agent.poll()
    assert device.store.pointed() == releases[13].digest and device.saved.trial
    for name in ("memory.json", "memory.2.json"):
        (device.root / name).unlink() if damage is None else (device.root / name).write_bytes(damage)
    device.configure(health={"start_s": 0.3})
    agent = device.agent()
    agent.start()
    assert device.saved.committed is None and device.store.pointed() == releases[13].digest
    agent.poll()  # nothing beats
    assert device.saved.committed is None and agent.problem and agent.problem.startswith("unhealthy")
    with device.application():
        device.polled()
    assert device.running() == releases[13].digest


def stop_in(state: State) -> Callable[..., None]:
    def observe(_left: State, _event: object, reached: State) -> None:
        if reached is state:
            raise StoppedError

    return observe


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENFILE, errno.ESTALE])
def test_a_read_error_at_each_place_of_a_start_loses_nothing(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """It says nothing about the release: the same runs on, and after the next start nothing is amiss."""
    recovers(device, releases)
    saved, told = device.saved, 0
    for place in itertools.count(1):
        passed = fail_reading(monkeypatch, device.root, place, error)
        agent = device.agent()
        agent.start()
        monkeypatch.undo()
        assert device.store.pointed() == releases[13].digest, place
        if passed() < place:
            break
        told += agent.problem is not None
        agent.poll()
        assert agent.problem is None and device.running() == releases[13].digest and device.saved == saved, place
    of_a_copy = 2 if error == errno.EIO else 1
    assert told == place - 1 - 2 * of_a_copy > 5, "all but an error at one of the two copies of the memory"


@pytest.mark.slow
def test_a_read_error_at_each_place_of_an_update_loses_nothing(
    device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start to the commit, the self-test included: nothing is refused for it."""
    before = device.folder / "before"
    shutil.copytree(device.root, before, symlinks=True)
    for place in itertools.count(1):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root, symlinks=True)
        passed = fail_reading(monkeypatch, device.root, place, errno.EIO)
        with device.application():
            device.polled()
        monkeypatch.undo()
        assert device.store.pointed() in (releases[12].digest, releases[13].digest), place
        assert not device.saved.refused, place
        recovers(device, releases)
        if passed() < place:
            break
    print(f"\n{place - 1} read errors")
    assert place > 40


def fail_reading(monkeypatch: pytest.MonkeyPatch, root: Path, place: int, error: int) -> Callable[[], int]:
    """Opening the `place`-th file or link below `root` for reading fails; returns how many were opened so far.

    EIO also comes at the first read of what was opened, which is a place of its own.
    """
    passed, real_readlink = 0, Path.readlink
    real_open: Any = io.open

    def count(path: object) -> None:
        nonlocal passed
        if str(path).startswith(str(root)) and threading.current_thread() is threading.main_thread():
            passed += 1
            if passed == place:
                raise OSError(error, os.strerror(error), str(path))

    def open_file(path: object, mode: str = "r", *arguments: object, **named: object) -> object:
        if mode not in ("r", "rb"):
            return real_open(path, mode, *arguments, **named)
        count(path)
        file = real_open(path, mode, *arguments, **named)
        if error == errno.EIO:
            real_read = file.read

            def read(*size: int) -> object:
                file.read = real_read
                count(path)
                return real_read(*size)

            file.read = read
        return file

    def read_link(path: Path) -> Path:
        count(path)
        return real_readlink(path)

    monkeypatch.setattr(io, "open", open_file)
    monkeypatch.setattr(builtins, "open", open_file)
    monkeypatch.setattr(Path, "readlink", read_link)
    return lambda: passed


def test_a_disk_that_became_read_only(device: Lab, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux does with one that fails: the agent is there, says so, and what runs goes on."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in CHANGES:
        monkeypatch.setattr(disk, name, refuse)
    with device.store.locked():
        agent = device.polled()
    assert agent.problem and "Read-only file system" in agent.problem
    assert device.running() == releases[12].digest
    monkeypatch.undo()
    recovers(device, releases)


def test_current_that_is_a_folder(device: Lab, releases: Releases) -> None:
    """As a backup that follows links restores it."""
    device.store.current.unlink()
    shutil.copytree(device.store.folder(releases[12].digest), device.store.current)
    device.agent().start()
    assert device.running() == releases[12].digest
    recovers(device, releases)


def test_a_lock_that_nobody_can_remove(device: Lab) -> None:
    with device.store.locked():
        for path in device.root.glob("*lock*"):
            path.unlink()
        with pytest.raises(LockedError), device.store.locked():
            pass


def test_a_request_that_is_a_folder(device: Lab, releases: Releases) -> None:
    device.install(releases[13])
    device.store.request.mkdir()
    with device.application():
        agent = device.agent()
        agent.start()
        assert agent.is_asked_to_roll_back()
        agent.rollback()
    assert device.running() == releases[12].digest and not device.store.request.exists()


def test_a_release_that_rots_gives_way_to_the_one_before(device: Lab, releases: Releases) -> None:
    recovers(device, releases)
    model = device.store.folder(releases[13].digest) / "model.fp32.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"x")
    device.agent().start()
    assert device.running() == releases[12].digest
    recovers(device, releases)
    assert model.read_bytes() == content


def test_no_root_on_the_device(device: Lab, releases: Releases) -> None:
    """The device's own fault changes nothing: neither what runs nor what is thought of the release."""
    for content in (None, b"", b"nonsense"):
        root = device.folder / "root.json"
        root.unlink(missing_ok=True) if content is None else root.write_bytes(content)
        device.configure(trust={"root": str(root)})
        agent = device.polled()
        assert agent.problem and agent.failures == 1 and device.running() == releases[12].digest
    device.configure()
    recovers(device, releases)


@pytest.mark.slow
def test_a_disk_that_is_really_full(device: Lab, releases: Releases) -> None:
    """At every page from none to room enough: a tmpfs, mounted where only that process sees it."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs a kernel that lets a process mount a tmpfs of its own (unshare -rm)")
    before = device.folder / "before"
    device.root.rename(before)
    pages = -(-2 * len(releases[13].content) // 4096) + 12
    order = {"settings": str(device.settings), "before": str(before), "free": [4096 * page for page in range(pages)]}
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.helpers.full_disk", json.dumps(order)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(turns) == pages > 10
    old, new = releases[12].digest, releases[13].digest
    assert {full for _, full, _ in turns} == {old, new}, "both a disk that was too full and one that was not"
    assert {after for _, _, after in turns} == {new}
