"""What a killed prepare leaves for the next one: its finished shards, and what was found out about their frames.

A work folder holds
- `fingerprint`: of the frames, settings and code at work; where another one stands, everything is done anew,
- `set/`: the prepared set so far,
- `shards/images-00000.tar.jsonl`, ...: one entry per frame, written whole once that shard is safely on disk.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_centernet.data.annotations import Action, Finding, FrameState
from mobile_centernet.data.convert import Converted
from mobile_centernet.data.similarity.perceptual import ImageHash
from mobile_centernet.data.store.shards import Place, shard_name
from mobile_centernet.files import write_atomically


@dataclass(frozen=True)
class Placed:
    """One frame in its shard: that picture's (height, width), its boxes in the picture's pixels, and its hash."""

    place: Place
    size: tuple[int, int]
    converted: Converted
    hash: ImageHash


Entry = Placed | Finding
"""A frame in its shard, or why its picture could not be used."""


class Journal:
    """The finished shards of `work`, kept only where its fingerprint is `fingerprint`.

    `shards` of them are finished, which hold the first `frames` frames of the set.
    """

    def __init__(self, work: Path, fingerprint: str) -> None:
        self.set = work / "set"
        self._notes = work / "shards"
        self._open: list[Entry] = []
        mark = work / "fingerprint"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != fingerprint:
            shutil.rmtree(work, ignore_errors=True)
        for folder in (self.set, self._notes):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(mark, fingerprint.encode())
        self.shards, self.frames = 0, 0
        while (count := self._finished(self.shards)) is not None:
            self.shards, self.frames = self.shards + 1, self.frames + count
        kept = {shard_name(shard) for shard in range(self.shards)}
        for path in self.set.iterdir():
            if path.name not in kept:
                path.unlink()

    def entries(self) -> Iterator[Entry]:
        """What is known about the frames of the shards that were finished when this journal was opened."""
        for shard in range(self.shards):
            with self._note(shard).open(encoding="utf-8") as lines:
                yield from (_read(json.loads(line)) for line in lines)

    def add(self, entry: Entry) -> None:
        """Note the next frame. The first one of a new shard says that the one before is finished."""
        shard = next((known.place.shard for known in reversed(self._open) if isinstance(known, Placed)), None)
        if isinstance(entry, Placed) and shard is not None and entry.place.shard != shard:
            lines = "".join(json.dumps(_write(known)) + "\n" for known in self._open)
            write_atomically(self._notes / f"{shard}.jsonl", lines.encode())
            self._open = []
        self._open.append(entry)

    def _note(self, shard: int) -> Path:
        return self._notes / f"{shard_name(shard)}.jsonl"

    def _finished(self, shard: int) -> int | None:
        """How many frames a finished shard answers for; None where it is not there, or shorter than it should be."""
        note, pictures = self._note(shard), self.set / shard_name(shard)
        if not note.is_file() or not pictures.is_file():
            return None
        entries = [_read(json.loads(line)) for line in note.read_text(encoding="utf-8").splitlines()]
        end = max(entry.place.offset + entry.place.nbytes for entry in entries if isinstance(entry, Placed))
        return len(entries) if pictures.stat().st_size >= end else None


def _write(entry: Entry) -> dict[str, Any]:
    """As JSON, from which `_read` makes exactly the same: Python writes floats so that they come back bit by bit."""
    if isinstance(entry, Finding):
        return {"finding": asdict(entry)}
    found = entry.converted
    return {
        "place": entry.place,
        "size": entry.size,
        "hash": entry.hash.tobytes().hex(),
        "state": found.state,
        "boxes": found.boxes.tolist(),
        "labels": found.labels.tolist(),
        "ignore_boxes": found.ignore_boxes.tolist(),
        "findings": [asdict(finding) for finding in found.findings],
        "dropped": found.dropped,
    }


def _read(entry: dict[str, Any]) -> Entry:
    if "finding" in entry:
        return _finding(entry["finding"])
    converted = Converted(
        state=FrameState(entry["state"]),
        boxes=_boxes(entry["boxes"]),
        labels=np.array(entry["labels"], np.int64),
        ignore_boxes=_boxes(entry["ignore_boxes"]),
        findings=tuple(_finding(finding) for finding in entry["findings"]),
        dropped=Counter(entry["dropped"]),
    )
    height, width = entry["size"]
    digest = np.frombuffer(bytes.fromhex(entry["hash"]), np.uint8)
    return Placed(Place(*entry["place"]), (height, width), converted, digest)


def _boxes(rows: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(rows, np.float64).reshape(-1, 4)


def _finding(entry: dict[str, str]) -> Finding:
    return Finding(**{**entry, "action": Action(entry["action"])})  # type: ignore[arg-type]  # the rest are strings
