"""What a prepare leaves for the next one: its finished shards, and what was found out about their frames.

A killed one leaves its work folder, which holds
- `fingerprint`: of the frames, settings and code at work; where there is another one, it is begun again,
- `set/`: the prepared set so far,
- `shards/images-00000.tar.notes`, ...: one entry per frame, written whole once that shard is safely on disk.

A complete one leaves the same notes and links to its shards in another folder (`KeptFrames`).
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from mobile_centernet.data.annotations import Action, Finding, FrameState
from mobile_centernet.data.similarity.perceptual import ImageHash
from mobile_centernet.data.store.coco import ImageEntry
from mobile_centernet.data.store.shards import ShardReader, ShardRef, padded, shard_name
from mobile_centernet.errors import DataError
from mobile_centernet.files import write_atomically


class PreparedFrame(NamedTuple):
    """What was found out about one frame.

    entry:    as its document has it
    hash:     its stored image's
    findings: what was dropped or changed
    dropped:  boxes per category that has no class
    """

    entry: ImageEntry
    hash: ImageHash
    findings: Sequence[Finding]
    dropped: Mapping[str, int]

    def encode(self) -> str:
        """As one line, from which `decode` makes exactly the same: JSON and texts between tabs, which JSON has not."""
        entry = self.entry
        head = {
            "hash": self.hash.tobytes().hex(),
            "state": entry.state,
            "labels": entry.labels,
            "findings": [asdict(finding) for finding in self.findings],
            "dropped": self.dropped,
        }
        return "\t".join([json.dumps(head), entry.before, entry.behind, *entry.boxes, *entry.regions])

    @classmethod
    def decode(cls, line: str) -> Self:
        text, before, behind, *boxes = line.split("\t")
        head: dict[str, Any] = json.loads(text)
        labels = head["labels"]
        count = len(labels)
        entry = ImageEntry(before, behind, FrameState(head["state"]), labels, boxes[:count], boxes[count:])
        digest = np.frombuffer(bytes.fromhex(head["hash"]), np.uint8)
        return cls(entry, digest, [_finding(finding) for finding in head["findings"]], head["dropped"])


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
                places = [place for _, place, _ in _lines(note)]
                end = max(place.offset + place.nbytes for place in places if place)
                finished = images.stat().st_size >= end
            if finished:
                self.shards, self.frames = self.shards + 1, self.frames + len(places)
        kept = {shard_name(shard) for shard in range(self.shards)}
        for path in self.set.iterdir():
            if path.name not in kept:
                path.unlink()

    def entries(self) -> Iterator[Entry]:
        """What is known about the frames of the shards that were finished when this journal was opened."""
        for shard in range(self.shards):
            for _, place, text in _lines(self._note(shard)):
                yield (place, PreparedFrame.decode(text)) if place else _finding(json.loads(text))

    def add(self, key: str, place: ShardRef | None, text: str) -> None:
        """Note the next frame. The first one of a new shard says that the one before is finished.

        Args:
            key: digest of all that the entry was made from.
            place: of its image; None where there is none.
            text: what is known about it as one line, of `PreparedFrame.encode` or a finding's JSON.
        """
        if place is None:
            self._lines.append(f"{key} - 0 0 {text}")
            return
        if self._shard not in (None, place.shard):
            self.finish_shard()
        self._shard = place.shard
        self._lines.append(f"{key} {place.shard} {place.offset} {place.nbytes} {text}")

    def finish_shard(self) -> None:
        """Write down what is known about the frames of a shard that is safely on disk."""
        if self._shard is None:
            return
        lines = "".join(f"{line}\n" for line in self._lines)
        write_atomically(self._notes / f"{self._shard}.notes", lines.encode())
        self._lines = []

    def keep(self, folder: Path) -> None:
        """Leave the complete set's shards in `folder` for the next prepare, which takes unchanged frames from there.

        They are hard links, which take no room, and copies where `folder` is on another disk.
        """
        self.finish_shard()
        new = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for note in sorted(self._notes.glob("*.notes")):
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
        return self._notes / f"{shard_name(shard)}.notes"


class KeptFrames:
    """Frames of the last complete set, each by the digest of all that it was made from."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path()
        self._images = ShardReader(self._folder)
        self._frames: dict[str, tuple[int, ShardRef, str]] = {}  # where its member begins, its image, what is known
        for note in sorted(folder.glob("*.notes")) if folder else ():
            start = 0
            for key, place, text in _lines(note):
                if place:  # of the others: a disk that failed once may read the image now
                    self._frames[key] = start, place, text
                    start = place.offset + padded(place.nbytes)

    def __contains__(self, key: str) -> bool:
        return key in self._frames

    def take(self, key: str) -> tuple[bytes, int, str]:
        """The image as `ShardWriter.add_member` takes it, its length in bytes, and the line about it.

        Raises DataError where its shard is gone or damaged.
        """
        start, place, text = self._frames[key]
        wanted = ShardRef(place.shard, start, place.offset + padded(place.nbytes) - start)
        try:
            member = self._images.read(wanted)
        except OSError as error:
            member, found = b"", str(error)
        else:
            found = f"{len(member)} bytes"
        if len(member) != wanted.nbytes:
            raise DataError(
                f"{self._folder / place.shard}: expected {wanted.nbytes} bytes at {start}, found {found}; "
                "delete that folder"
            )
        return member, place.nbytes, text


def _lines(note: Path) -> Iterator[tuple[str, ShardRef | None, str]]:
    """Key, place and text of every frame of one shard, as `Journal.add` notes them."""
    with note.open(encoding="utf-8") as lines:
        for line in lines:
            key, shard, offset, nbytes, text = line.split(" ", 4)
            yield key, None if shard == "-" else ShardRef(shard, int(offset), int(nbytes)), text.rstrip("\n")


def _finding(entry: dict[str, str]) -> Finding:
    return Finding(**{**entry, "action": Action(entry["action"])})  # type: ignore[arg-type]  # the rest are strings
