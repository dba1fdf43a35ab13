"""What a prepare leaves for the next one: its finished shards, and what was found out about their frames.

A killed one leaves its work folder, which holds
- `fingerprint`: of the frames, settings and code at work; where there is another one, it is begun again,
- `set/`: the prepared set so far,
- `shards/images-00000.tar.jsonl`, ...: one entry per frame, written whole once that shard is safely on disk.

A complete one leaves the same notes and links to its shards in another folder (`KeptFrames`).
"""

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mobile_centernet.data.annotations import Action, Finding, FrameState
from mobile_centernet.data.convert import CheckedBoxes
from mobile_centernet.data.similarity.perceptual import ImageHash
from mobile_centernet.data.store.shards import ShardReader, ShardRef, shard_name
from mobile_centernet.errors import DataError
from mobile_centernet.files import write_atomically


@dataclass(frozen=True)
class PreparedFrame:
    """One frame as it is stored: its JPEG's (height, width), its boxes in that image's pixels, and its hash."""

    size: tuple[int, int]
    checked: CheckedBoxes
    hash: ImageHash


Entry = tuple[ShardRef, PreparedFrame] | Finding
"""A frame in its shard, or why its image could not be used."""


class Journal:
    """The finished shards of `work`, kept only where its fingerprint is `fingerprint`.

    `shards` of them are finished, which hold the first `frames` frames of the set.
    """

    def __init__(self, work: Path, fingerprint: str) -> None:
        self.set = work / "set"
        self._notes = work / "shards"
        self._lines: list[str] = []  # of the shard that is being written, whose name is `_shard`
        self._shard: str | None = None
        mark = work / "fingerprint"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != fingerprint:
            shutil.rmtree(work, ignore_errors=True)
        for folder in (self.set, self._notes):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(mark, fingerprint.encode())

        self.shards, self.frames, finished = 0, 0, True
        while finished:
            note, images = self._note(self.shards), self.set / shard_name(self.shards)
            finished = note.is_file() and images.is_file()
            if finished:
                entries = [_read(line.partition(" ")[2]) for line in note.read_text(encoding="utf-8").splitlines()]
                places = (entry[0] for entry in entries if not isinstance(entry, Finding))
                finished = images.stat().st_size >= max(place.offset + place.nbytes for place in places)
            if finished:
                self.shards, self.frames = self.shards + 1, self.frames + len(entries)
        kept = {shard_name(shard) for shard in range(self.shards)}
        for path in self.set.iterdir():
            if path.name not in kept:
                path.unlink()

    def entries(self) -> Iterator[Entry]:
        """What is known about the frames of the shards that were finished when this journal was opened."""
        for shard in range(self.shards):
            with self._note(shard).open(encoding="utf-8") as lines:
                yield from (_read(line.partition(" ")[2]) for line in lines)

    def add(self, key: str, entry: Entry) -> None:
        """Note the next frame. The first one of a new shard says that the one before is finished.

        As JSON, from which `_read` makes exactly the same: Python writes floats so that they come back bit by bit.

        Args:
            key: digest of all that the entry was made from.
            entry: what was made of it.
        """
        if isinstance(entry, Finding):
            self._lines.append(f"{key} {json.dumps({'finding': asdict(entry)})}")
            return
        place, frame = entry
        if self._shard not in (None, place.shard):
            self.finish_shard()
        self._shard = place.shard
        checked = frame.checked
        record = {
            "place": place,
            "size": frame.size,
            "hash": frame.hash.tobytes().hex(),
            "state": checked.state,
            "boxes": checked.boxes.tolist(),
            "labels": checked.labels.tolist(),
            "ignore_boxes": checked.ignore_boxes.tolist(),
            "findings": [asdict(finding) for finding in checked.findings],
            "dropped": checked.dropped,
        }
        self._lines.append(f"{key} {json.dumps(record)}")

    def finish_shard(self) -> None:
        """Write down what is known about the frames of a shard that is safely on disk."""
        if self._shard is None:
            return
        lines = "".join(f"{line}\n" for line in self._lines)
        write_atomically(self._notes / f"{self._shard}.jsonl", lines.encode())
        self._lines = []

    def keep(self, folder: Path) -> None:
        """Leave the complete set's shards in `folder` for the next prepare, which takes unchanged frames from there.

        They are hard links, which take no room, and copies where `folder` is on another disk.
        """
        self.finish_shard()
        new = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for note in sorted(self._notes.glob("*.jsonl")):
            shutil.copy(note, new / note.name)
            try:
                os.link(self.set / note.stem, new / note.stem)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                shutil.copy(self.set / note.stem, new / note.stem)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)

    def _note(self, shard: int) -> Path:
        return self._notes / f"{shard_name(shard)}.jsonl"


class KeptFrames:
    """Frames of the last complete set, each by the digest of all that it was made from."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path()
        self._images = ShardReader(self._folder)
        self._lines: dict[str, str] = {}
        for note in sorted(folder.glob("*.jsonl")) if folder else ():
            for line in note.read_text(encoding="utf-8").splitlines():
                key, _, entry = line.partition(" ")
                if not entry.startswith('{"finding"'):  # a disk that failed once may read the image now
                    self._lines[key] = entry

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def take(self, key: str) -> tuple[bytes, PreparedFrame]:
        """The stored image and what is known about it. Raises DataError where its shard is gone or damaged."""
        place, frame = cast(tuple[ShardRef, PreparedFrame], _read(self._lines[key]))
        try:
            data = self._images.read(place)
        except OSError as error:
            data, found = b"", str(error)
        else:
            found = f"{len(data)} bytes"
        if len(data) != place.nbytes:
            shard = self._folder / place.shard
            raise DataError(
                f"{shard}: expected {place.nbytes} bytes at {place.offset}, found {found}; delete that folder"
            )
        return data, frame


def _read(line: str) -> Entry:
    entry: dict[str, Any] = json.loads(line)
    if "finding" in entry:
        return _finding(entry["finding"])
    checked = CheckedBoxes(
        state=FrameState(entry["state"]),
        boxes=_boxes(entry["boxes"]),
        labels=np.array(entry["labels"], np.int64),
        ignore_boxes=_boxes(entry["ignore_boxes"]),
        findings=tuple(_finding(finding) for finding in entry["findings"]),
        dropped=Counter(entry["dropped"]),
    )
    height, width = entry["size"]
    digest = np.frombuffer(bytes.fromhex(entry["hash"]), np.uint8)
    return ShardRef(*entry["place"]), PreparedFrame((height, width), checked, digest)


def _boxes(rows: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(rows, np.float64).reshape(-1, 4)


def _finding(entry: dict[str, str]) -> Finding:
    return Finding(**{**entry, "action": Action(entry["action"])})  # type: ignore[arg-type]  # the rest are strings
