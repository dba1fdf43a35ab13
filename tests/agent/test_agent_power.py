"""Power that fails between a change and its push to the disk: every state that the disk may be left in is started from.

The changes of an update are recorded. What was not followed by an fsync of its folder may be lost or not, each alone;
a file's contents are there from its own fsync on, and before that it is empty, half there, or whole.
"""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mobile_centernet.agent import disk
from mobile_centernet.bundle.bundle import verify_folder
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle

Change = tuple[str, tuple[object, ...]]
RECORDED = ("write_file", "rename", "symlink", "unlink", "sync_folder", "remove_folder")


def record(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """The changes of one update, in order; arguments are paths below the device's folder."""
    changes: list[Change] = []

    def recorded(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def change(*arguments: object) -> None:
            changes.append((name, arguments))
            real(*arguments)

        return change

    for name in RECORDED:
        monkeypatch.setattr(disk, name, recorded(name, getattr(disk, name)))
    with lab.application():
        lab.polled()
    monkeypatch.undo()
    return changes


def left_behind(changes: list[Change]) -> list[list[Change]]:
    """Lists of changes that a loss of power may have let through: a prefix, its unsynced ones each there or not."""
    states = []
    for end in range(len(changes) + 1):
        synced, pending = [], []
        for change in changes[:end]:
            if change[0] == "sync_folder":
                folder = change[1][0]
                done = [p for p in pending if _folder(p) == folder]
                synced += done
                pending = [p for p in pending if p not in done]
            elif change[0] == "write_file":
                synced.append(change)  # the contents; its name counts only once it is renamed
            else:
                pending.append(change)
        for kept in itertools.product((False, True), repeat=len(pending)):
            states.append([*synced, *(change for change, is_kept in zip(pending, kept, strict=True) if is_kept)])
        if end and changes[end - 1][0] == "write_file":
            path, content = changes[end - 1][1]
            for part in (b"", content[: len(content) // 2], b"\0" * len(content)):  # type: ignore[index, arg-type]
                states.append([*synced[:-1], ("write_file", (path, part))])
    return states


def _folder(change: Change) -> Path:
    path = change[1][-1] if change[0] == "rename" else change[1][0]
    return Path(str(path)).parent


def replay(changes: list[Change]) -> None:
    for name, arguments in changes:
        if name == "rename" and not Path(str(arguments[0])).is_symlink() and not Path(str(arguments[0])).exists():
            continue  # its source was itself lost
        if name == "symlink":
            Path(str(arguments[0])).unlink(missing_ok=True)
        getattr(disk, name)(*arguments)


def test_power_lost_between_any_change_and_its_push(
    lab: Lab, releases: dict[int, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.install(releases[12])
    lab.offer(releases[13])
    before, after = lab.folder / "before", lab.folder / "after"
    shutil.copytree(lab.root, before, symlinks=True)
    changes = record(lab, monkeypatch)
    assert lab.running() == releases[13].digest
    shutil.copytree(lab.root, after, symlinks=True)
    states = left_behind([change for change in changes if change[0] != "remove_folder"])
    assert len(states) > 30
    old, new = releases[12].digest, releases[13].digest
    met = set()
    for number, state in enumerate(states):
        shutil.rmtree(lab.root)
        shutil.copytree(before, lab.root, symlinks=True)
        shutil.copytree(after / "releases" / new, lab.root / "releases" / new)  # extraction ends with its own fsyncs
        replay(state)
        found = lab.store.pointed()
        assert found in (old, new), (number, state)
        verify_folder(lab.store.folder(found))
        agent = lab.agent()
        agent.start()
        met.add(lab.running())
        assert lab.running() in (old, new) and lab.saved.trial is None, (number, state)
        with lab.application():
            agent.poll()
        assert lab.running() == new, (number, state, agent.problem)
    assert met == {old, new}


@pytest.mark.parametrize("cut", [0, 1, 1000, 10_000])
def test_power_lost_while_a_download_was_written(lab: Lab, releases: dict[int, Bundle], cut: int) -> None:
    """Its length may be there and its bytes not."""
    lab.install(releases[12])
    lab.offer(releases[13])
    content = releases[13].content
    partial = lab.store.partial(releases[13].digest)
    partial.write_bytes(content[:cut] + b"\0" * (len(content) - cut))
    with lab.application():
        agent = lab.polled()
        assert agent.problem and "starts again" in agent.problem and lab.running() == releases[12].digest
        agent.poll()
    assert lab.running() == releases[13].digest


def test_power_lost_while_a_release_was_unpacked(lab: Lab, releases: dict[int, Bundle]) -> None:
    lab.install(releases[12])
    lab.offer(releases[13])
    half = lab.store.releases / f".{releases[13].digest}.partial"
    half.mkdir()
    (half / "manifest.json").write_bytes(b"\0" * 100)
    with lab.application():
        lab.polled()
    assert lab.running() == releases[13].digest and not half.exists()
