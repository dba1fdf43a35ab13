"""A prepare that was killed goes on behind its last finished shard and ends with the bytes of an uninterrupted one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare import prepare as prepare_module
from mobile_centernet.data.prepare.journal import Journal
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store import shards
from mobile_centernet.errors import DataError

CLASSES = ClassMap(("vehicle",), {"car": "vehicle", "rider": None})
FRAMES, PER_SHARD, BROKEN = 48, 4, 9

SCRIPT = """
import sys
from pathlib import Path
from tests.data.prepare.test_resume import raw_set, write
write(raw_set(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
"""


@pytest.fixture
def raw(tmp_path: Path) -> RawSet:
    """Frames of two splits, large enough to be slow, of which one image is broken."""
    rng = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for number in range(FRAMES):
        rough = rng.integers(0, 255, (30, 40, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"raw/{number:02d}.jpg"), cv2.resize(rough, (640, 480)))
    (tmp_path / f"raw/{BROKEN:02d}.jpg").write_bytes(b"no picture")
    return raw_set(tmp_path / "raw")


def raw_set(root: Path) -> RawSet:
    frames = []
    for number in range(FRAMES):
        third = number + 1 / 3  # boxes that no short decimal fraction expresses
        boxes = (Box("car", (third, third, 200 + third, 150)), Box("car", (450, 450, 650, 475)), Box("rider", (0,) * 4))
        ignored = (Box("car", (0, 0, 50, 50), ignore=True),)
        split = "train" if number % 3 else "val"
        frame = Frame(root / f"{number:02d}.jpg", f"v/{number}", f"v{number}", split, FrameState.LABELLED)
        frames.append(replace(frame, boxes=boxes + ignored, attributes={"timeofday": "night"}))
    return RawSet(root, tuple(frames), ())


def write(raw: RawSet, out: Path, work: Path | None, workers: int = 1, **options: object) -> None:
    shards.MAX_FRAMES = PER_SHARD
    options = {"max_size": (90, 160), "progress": False} | options
    prepare(raw, raw.frames, CLASSES, out, work=work, workers=workers, **options)


@pytest.fixture(autouse=True)
def short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_FRAMES", PER_SHARD)


def killed(raw: RawSet, out: Path, work: Path, finished: int, workers: int = 1) -> None:
    """Prepare in a process of its own, which dies by kill -9 as soon as so many shards are finished."""
    arguments = [sys.executable, "-c", SCRIPT, *map(str, (raw.root, out, work, workers))]
    root = Path(__file__).resolve().parents[3]
    victim = subprocess.Popen(arguments, cwd=root, start_new_session=True, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        while len(list(work.glob("shards/*.notes"))) < finished:
            assert victim.poll() is None, "it was done before it could be killed"
            time.sleep(0.002)
    finally:
        os.killpg(victim.pid, signal.SIGKILL)
        assert victim.wait(20) == -signal.SIGKILL
    assert not out.exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def spoil(raw: RawSet, frames: int) -> None:
    """Make the first frames' images unreadable, in a way that only reading them shows."""
    splits = ("val", "train")  # in the order in which they are written
    for frame in sorted(raw.frames, key=lambda frame: splits.index(frame.split))[:frames]:
        times = frame.image.stat()
        frame.image.write_bytes(b"\0" * times.st_size)
        os.utime(frame.image, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_killed_twice_it_ends_with_the_same_bytes_and_reads_no_frame_again(raw: RawSet, tmp_path: Path) -> None:
    write(raw, tmp_path / "whole", None)
    out, work = tmp_path / "out", tmp_path / "work"
    killed(raw, out, work, finished=2)
    kept = {path.name: path.stat().st_ino for path in sorted((work / "set").glob("*.tar"))[:2]}
    killed(raw, out, work, finished=7, workers=2)
    spoil(raw, 7 * PER_SHARD)
    write(raw, out, work)
    assert contents(out) == contents(tmp_path / "whole")
    assert json.loads((out / "report.json").read_text())["quarantined"] == {"unreadable_image": 1}
    assert {path.name: path.stat().st_ino for path in out.iterdir() if path.name in kept} == kept
    assert not work.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw", "whole"]


def test_a_failure_keeps_the_work_folder_and_the_next_run_goes_on(
    raw: RawSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(raw, tmp_path / "whole", None)
    finished = len(list((interrupted(raw, tmp_path, monkeypatch) / "shards").iterdir()))
    assert finished == -(-(FRAMES - 1) // PER_SHARD) - 1  # the last shard may have grown still
    spoil(raw, finished * PER_SHARD)
    write(raw, tmp_path / "out", tmp_path / "work")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def interrupted(raw: RawSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder in which all but the last shard are finished."""
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(raw, tmp_path / "out", tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("change", ["picture", "boxes", "quality"])
def test_other_inputs_or_settings_start_anew(
    raw: RawSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    work = interrupted(raw, tmp_path, monkeypatch)
    options: dict[str, object] = {}
    if change == "picture":
        cv2.imwrite(str(raw.frames[0].image), np.zeros((480, 640, 3), np.uint8))
    elif change == "boxes":
        raw = replace(raw, frames=(replace(raw.frames[0], boxes=()), *raw.frames[1:]))
    else:
        options = {"quality": 50}
    write(raw, tmp_path / "out", work, **options)
    write(raw, tmp_path / "whole", None, **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_shard_that_is_cut_off_or_gone_is_made_again(
    raw: RawSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(raw, tmp_path / "whole", None)
    for damage in (lambda path: os.truncate(path, 700), Path.unlink):
        work = interrupted(raw, tmp_path, monkeypatch)
        damage(work / "set/images-00003.tar")
        journal = Journal(work, (work / "fingerprint").read_text())
        assert (journal.shards, len(list(journal.set.iterdir()))) == (3, 3)
        write(raw, tmp_path / "out", work)
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_next_set_takes_unchanged_frames_and_reads_only_the_others(raw: RawSet, tmp_path: Path) -> None:
    keep, settings = tmp_path / "keep", {"keep": tmp_path / "keep"}
    write(replace(raw, frames=raw.frames[3:]), tmp_path / "out", None, **settings)
    shards_of_keep = {path.name: path.stat().st_ino for path in keep.glob("*.tar")}
    assert shards_of_keep == {path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}  # no room

    fresh = [frame for frame in raw.frames[:3] if frame.split == "train"]
    changed = replace(raw.frames[20], boxes=raw.frames[20].boxes[:1])
    frames = (*raw.frames[20:4:-1], raw.frames[3], *fresh)  # other order; frames 0 and 4 and those behind 20 are gone
    raw = replace(raw, frames=tuple(changed if frame is raw.frames[20] else frame for frame in frames))
    write(raw, tmp_path / "whole", None)
    untouched = [frame for frame in raw.frames if frame not in (*fresh, changed)]
    for frame in untouched:  # in a way that only reading them shows
        times = frame.image.stat()
        frame.image.write_bytes(b"\0" * times.st_size)
        os.utime(frame.image, ns=(times.st_atime_ns, times.st_mtime_ns))
    write(raw, tmp_path / "out", None, workers=2, **settings)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not {path for path in tmp_path.iterdir() if path.name.endswith((".new", ".partial"))}


def test_a_frame_that_could_not_be_read_is_read_again_and_other_settings_take_nothing(
    raw: RawSet, tmp_path: Path
) -> None:
    settings = {"keep": tmp_path / "keep"}
    write(raw, tmp_path / "out", None, **settings)
    broken, good = raw.frames[BROKEN].image, raw.frames[BROKEN + 1].image
    times = broken.stat()
    broken.write_bytes(good.read_bytes())
    with broken.open("r+b") as file:  # the disk reads it now: as long and as old as it was
        file.truncate(times.st_size)
    os.utime(broken, ns=(times.st_atime_ns, times.st_mtime_ns))
    write(raw, tmp_path / "out", None, **settings)
    write(raw, tmp_path / "whole", None)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    spoil(raw, FRAMES)
    with pytest.raises(DataError, match="expected readable images"):
        write(raw, tmp_path / "other", None, **settings, quality=50)


def test_a_kept_shard_that_is_cut_off_or_gone_is_named(raw: RawSet, tmp_path: Path) -> None:
    for damage in (lambda path: os.truncate(path, 700), Path.unlink):
        write(raw, tmp_path / "out", None, keep=tmp_path / "keep")
        damage(tmp_path / "keep/images-00003.tar")
        with pytest.raises(DataError, match=r"keep/images-00003.tar: expected \d+ bytes at .*; delete that folder"):
            write(raw, tmp_path / "out", None, keep=tmp_path / "keep")
        shutil.rmtree(tmp_path / "keep")
        shutil.rmtree(tmp_path / "out")  # its third shard was the same file
