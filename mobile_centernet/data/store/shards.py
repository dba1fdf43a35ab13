"""Images in a few large files: uncompressed tar archives, read by offset without unpacking.

DVC and object stores suffer from a hundred thousand small files, and training reads images in random order. A plain
tar serves both: `tar xf` opens it anywhere, and one `pread` at a known offset returns one image.
"""

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

MAX_FRAMES = 2000
MAX_BYTES = 256 * 1024 * 1024


class ShardRef(NamedTuple):
    """Where the bytes of one image are: file name of the shard, offset and length in bytes."""

    shard: str
    offset: int
    nbytes: int

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> "ShardRef":
        """Where an entry of a prepared set's COCO document says that its bytes are."""
        return cls(image["shard"], image["offset"], image["nbytes"])


def padded(nbytes: int) -> int:
    """The room that so many bytes take in a shard, header aside."""
    return -(-nbytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def shard_name(number: int) -> str:
    """File name of a shard, from 0."""
    return f"images-{number:05d}.tar"


class ShardWriter:
    """Appends images to `images-00000.tar`, `images-00001.tar`, ... in one folder, after the first `finished` ones.

    The same images in the same order give the same bytes: owner, mode and time of all members are fixed.
    """

    def __init__(self, folder: Path, finished: int = 0) -> None:
        self._folder = folder
        self._shards = finished
        self._frames = 0
        self._end = 0
        self._file: BinaryIO | None = None

    def add(self, name: str, data: bytes) -> ShardRef:
        """Append one image under `name`; returns where it is."""
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = len(data), 0o644, 0
        return self.add_member(
            header.tobuf(tarfile.PAX_FORMAT) + data + b"\0" * (padded(len(data)) - len(data)), len(data)
        )

    def add_member(self, member: bytes, nbytes: int) -> ShardRef:
        """Append one image as another shard has it: its header, its own `nbytes`, and what fills the last block."""
        if self._file is None or self._frames >= MAX_FRAMES or self._end >= MAX_BYTES:
            self.close()
            self._file = (self._folder / shard_name(self._shards)).open("wb")
            self._shards += 1
            self._frames = self._end = 0
        self._file.write(member)
        self._frames += 1
        self._end += len(member)
        return ShardRef(shard_name(self._shards - 1), self._end - padded(nbytes), nbytes)

    def close(self) -> None:
        """End the current shard, as tar does, and put it safely on disk."""
        if self._file is None:
            return
        end = self._end + 2 * tarfile.BLOCKSIZE
        self._file.write(b"\0" * (-(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - self._end))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ShardReader:
    """Reads images by place. Files open at the first read, so it may be pickled at any time.

    `pread` moves no file position, so threads and forked processes may share the open files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, int] = {}

    def read(self, place: ShardRef) -> bytes:
        """The bytes of one image; fewer than `place.nbytes` where the shard is cut off."""
        if place.shard not in self._files:
            self._files[place.shard] = os.open(self._folder / place.shard, os.O_RDONLY)
        return os.pread(self._files[place.shard], place.nbytes, place.offset)

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Path]]:
        return ShardReader, (self._folder,)

    def __del__(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
