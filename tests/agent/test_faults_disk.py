"""Disks that refuse, forget or rot."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mobile_centernet.agent import disk
from tests.helpers.lab import Lab
from tests.helpers.offers import ALIAS, answer
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


def test_memory_that_is_damaged(device: Lab, releases: Releases) -> None:
    """What `current` leads to is verified and counts as committed; the floor is not lost with it."""
    for damage in (b"", b"{}", b"\0" * 300, (device.root / "memory.json").read_bytes()[:-20]):
        (device.root / "memory.json").write_bytes(damage)
        device.agent().start()
        assert device.running() == releases[12].digest and device.saved.min_release == 12
    recovers(device, releases)


def test_a_release_that_rots_gives_way_to_the_one_before(device: Lab, releases: Releases) -> None:
    recovers(device, releases)
    model = device.store.folder(releases[13].digest) / "model.fp32.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"x")
    device.agent().start()
    assert device.running() == releases[12].digest
    recovers(device, releases)
    assert model.read_bytes() == content


def test_no_keys_on_the_device(device: Lab, releases: Releases, tmp_path: Path) -> None:
    """The device's own fault changes nothing: neither what runs nor what is thought of the release."""
    (tmp_path / "keys").mkdir()
    device.configure(paths={"trusted": [str(tmp_path / "keys")]})
    agent = device.polled()
    assert agent.problem == "expected at least one trusted public key (*.pub), found none"
    device.configure()
    recovers(device, releases)


def test_a_version_of_another_form(device: Lab, releases: Releases) -> None:
    device.server.files[ALIAS] = answer("13", {**releases[13].tags(), "bundle_path": "../../../etc/passwd"})
    recovers(device, releases)  # a place is the server's matter; the digest decides


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
