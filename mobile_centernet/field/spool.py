"""Where kept frames wait for their upload, within their budgets; killed anywhere, each is there whole or not at all.

DAY/DIGEST.jpg     a frame; DIGEST is the file's SHA-256, so that one content is there once
DAY/DIGEST.json    its record, written last: without it the frame does not count
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from mobile_centernet.errors import UserError
from mobile_centernet.files import sync_folder, write_atomically

FOLDER = "field"
"""In the agent's folder; below it one for each application that harvests."""

FORMAT = 1
MAX_RECORD = 1 << 20  # bytes
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_DIGEST = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


class SpoolError(UserError):
    """The folder of kept frames cannot be used."""


@dataclass(frozen=True)
class KeptFrame:
    """A frame in the spool: its day (UTC), its digest, and what it is worth, 0..1."""

    day: str
    digest: str
    usefulness: float
    control: bool
    nbytes: int

    def files(self, folder: Path) -> tuple[Path, Path]:
        """The image and the record."""
        return folder / self.day / f"{self.digest}.jpg", folder / self.day / f"{self.digest}.json"


@dataclass(frozen=True)
class Budget:
    """How much may wait. A day's `control` frames are among its `frames_a_day`."""

    frames_a_day: int
    control: int
    disk_bytes: int

    def surplus(self, frames: Iterable[KeptFrame]) -> set[KeptFrame]:
        """Which of them are too many: of a day, then on the disk, the least useful."""
        frames = sorted(frames, key=lambda frame: (frame.day, frame.control, -frame.usefulness, frame.digest))
        surplus: set[KeptFrame] = set()
        for (_, control), pool in groupby(frames, lambda frame: (frame.day, frame.control)):
            surplus.update(list(pool)[self.control if control else self.frames_a_day - self.control :])
        left = sorted(set(frames) - surplus, key=lambda frame: (frame.usefulness, frame.digest))
        nbytes = sum(frame.nbytes for frame in left)
        for frame in left:
            if nbytes <= self.disk_bytes:
                break
            surplus.add(frame)
            nbytes -= frame.nbytes
        return surplus


class Spool:
    """The folder, for the one process that fills it; another one may send frames and remove them meanwhile.

    Args:
        folder: made where it is missing; what a crash left half, and what is beyond the budget, is removed.
        budget: what may wait.

    Raises:
        SpoolError: another process fills it.
        OSError: the disk refuses.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.budget = folder, budget
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SpoolError(f"{folder}: another application of that name is already running") from error
        self._frames = set(waiting(folder))
        whole = {path for frame in self._frames for path in frame.files(folder)}
        for day in days(folder):
            for path in set(day.iterdir()) - whole:
                path.unlink()
        self._remove(budget.surplus(self._frames))

    def floor(self, day: str, control: bool) -> float:
        """What a frame of that day must be worth to be kept, or more."""
        worth = [frame.usefulness for frame in self._frames if frame.day == day and frame.control == control]
        most = self.budget.control if control else self.budget.frames_a_day - self.budget.control
        return min(worth, default=0.0) if len(worth) >= most else 0.0

    def add(self, day: str, image: bytes, record: Mapping[str, object], worth: float, *, control: bool) -> bool:
        """Keep a frame, in place of the least useful where a budget is spent.

        Args:
            day: as YYYY-MM-DD.
            image: its file.
            record: what is known about it, as JSON has it.
            worth: its usefulness, 0..1.
            control: whether it is one of the uniform sample.

        Returns:
            False where all others are more useful, or it is there already.

        Raises:
            OSError: the disk refuses; nothing is left of the frame then, or it is whole.
        """
        digest = sha256(image).hexdigest()
        document = {"format": FORMAT, "sha256": digest, "usefulness": worth, "control": control, **record}
        text = f"{json.dumps(document, indent=1, allow_nan=False)}\n".encode()
        frame = KeptFrame(day, digest, worth, control, len(image) + len(text))
        # What was sent meanwhile makes room.
        self._frames = {each for each in self._frames if each.files(self.folder)[1].exists()}
        surplus = self.budget.surplus([*self._frames, frame])
        if frame in surplus or any((each.day, each.digest) == (day, digest) for each in self._frames):
            return False
        picture, beside = frame.files(self.folder)
        picture.parent.mkdir(exist_ok=True)
        try:
            write_atomically(picture, image)
            write_atomically(beside, text)
        except OSError:
            picture.unlink(missing_ok=True)
            raise
        sync_folder(picture.parent)
        self._frames.add(frame)
        self._remove(surplus)
        return True

    def close(self) -> None:
        """Let another process fill it."""
        os.close(self._lock)

    def _remove(self, frames: Iterable[KeptFrame]) -> None:
        for frame in list(frames):
            remove(self.folder, frame)
            self._frames.discard(frame)


def days(folder: Path) -> Sequence[Path]:
    """The folders of days in a spool, oldest first."""
    return sorted(path for path in folder.iterdir() if _DAY.fullmatch(path.name) and path.is_dir())


def waiting(folder: Path) -> Iterator[KeptFrame]:
    """All frames of a spool that are whole, without looking into their images."""
    for day in days(folder):
        for path in sorted(day.glob("*.json")):
            try:
                record = read_record(path)
                nbytes = path.stat().st_size + path.with_suffix(".jpg").stat().st_size
            except (OSError, ValueError) as error:
                logger.debug("%s: no kept frame (%s)", path, error)
                continue
            yield KeptFrame(day.name, path.stem, record["usefulness"], record["control"], nbytes)


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file, see `parse_record`."""
    with path.open("rb") as file:
        return parse_record(file.read(MAX_RECORD + 1), path.stem)


def parse_record(content: bytes, digest: str) -> dict[str, Any]:
    """The record of the frame of that digest. ValueError where it is none, or of another frame."""
    try:
        record = json.loads(content) if len(content) <= MAX_RECORD else None
    except RecursionError:
        record = None
    expected = {"format": int, "sha256": str, "usefulness": float, "control": bool}
    if not isinstance(record, dict) or any(type(record.get(name)) is not kind for name, kind in expected.items()):
        raise ValueError("expected the record of a kept frame")
    if not (record["format"] == FORMAT and record["sha256"] == digest and _DIGEST.fullmatch(digest)):
        raise ValueError(f"expected a record of format {FORMAT} and of {digest[:12]}")
    return record


def remove(folder: Path, frame: KeptFrame) -> None:
    """Take a frame out of a spool, record first, so that half of it does not count."""
    picture, record = frame.files(folder)
    record.unlink(missing_ok=True)
    picture.unlink(missing_ok=True)
