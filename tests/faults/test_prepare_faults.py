"""Preparing on a full disk: one sentence, the old set stays, and the next run goes on with what was finished."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.store.prepared import PreparedSet

VEHICLES = ClassMap(("vehicle",), {"vehicle": "vehicle"})
FRAMES, PER_SHARD = 24, 6
SCRIPT = f"""
import resource, sys
from pathlib import Path
from mobile_centernet.data.store import shards
from tests.faults.test_prepare_faults import write
shards.MAX_FRAMES = {PER_SHARD}
limit = int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
write(*map(Path, sys.argv[1:4]))
"""


def write(root: Path, out: Path, work: Path) -> None:
    raw = read_ivslab(root)
    prepare(raw, raw.frames, VEHICLES, out, max_size=(180, 320), workers=1, progress=False, work=work)


def start(limit: int, *folders: Path) -> subprocess.CompletedProcess[str]:
    """Prepare in a process of its own, in which no file may grow beyond `limit` bytes."""
    command = [sys.executable, "-c", SCRIPT, *map(str, folders), str(limit)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)


def test_a_full_disk_is_one_sentence_and_the_old_set_stays(tmp_path: Path) -> None:
    videos, out, work = tmp_path / "raw/ivslab_train/JPEGImages/All/a.mp4", tmp_path / "out", tmp_path / "work"
    videos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(FRAMES):  # later frames are rougher, and their images larger
        rough = rng.integers(0, 255, (9 + 3 * number, 16 + 5 * number, 3), np.uint8)
        cv2.imwrite(str(videos / f"a.mp4_{number:05d}.jpg"), cv2.resize(rough, (320, 180)))
    assert start(1 << 30, tmp_path / "raw", out, work).returncode == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    largest = sorted(len(content) for name, content in whole.items() if name.endswith(".tar"))
    assert len(largest) == FRAMES // PER_SHARD

    failed = start(largest[-2], tmp_path / "raw", out, work)  # the last shard does not fit
    assert failed.returncode == 1
    sentence = failed.stderr.strip().splitlines()[-1]
    assert sentence.endswith(f"DataError: {out}: expected a folder that can be written ([Errno 27] File too large)")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw", "work"]
    finished = {path: path.stat().st_ino for path in (work / "set").glob("*.tar")}
    assert len(finished) >= FRAMES // PER_SHARD - 1

    assert start(1 << 30, tmp_path / "raw", out, work).returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert len({path.stat().st_ino for path in out.glob("*.tar")} & set(finished.values())) >= len(finished) - 1
    assert len(PreparedSet(out, "train")) == FRAMES
