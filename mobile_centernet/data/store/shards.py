"""Pictures in a few large files: uncompressed tar archives, read by offset without unpacking.

DVC and object stores suffer from a hundred thousand small files, and training reads pictures in random order. A plain
tar serves both: `tar xf` opens it anywhere, and one `pread` at a known offset returns one picture.
"""

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

MAX_FRAMES = 2000
MAX_BYTES = 256 * 1024 * 1024


class ShardRef(NamedTuple):
    """Where the bytes of one image are: file name of the shard, offset and length in bytes."""

    shard: str
    offset: int
    nbytes: int

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> Self:
        """Where an entry of a prepared set's COCO document says that its bytes are."""
        return cls(image["shard"], image["offset"], image["nbytes"])


def shard_name(number: int) -> str:
    """File name of a shard, from 0."""
    return f"images-{number:05d}.tar"


class ShardWriter:
    """Appends pictures to `images-00000.tar`, `images-00001.tar`, ... in one folder, after the first `finished` ones.

    The same pictures in the same order give the same bytes: owner, mode and time of all members are fixed.
    """

    def __init__(self, folder: Path, finished: int = 0) -> None:
        self._folder = folder
        self._shards = finished
        self._frames = 0
        self._file: BinaryIO | None = None
        self._tar: tarfile.TarFile | None = None

    def add(self, name: str, data: bytes) -> ShardRef:
        """Append one image under `name`; returns where it is."""
        file, tar = self._file, self._tar
        if file is None or tar is None or self._frames >= MAX_FRAMES or file.tell() >= MAX_BYTES:
            self.close()
            file = self._file = (self._folder / shard_name(self._shards)).open("wb")
            tar = self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 see close
            self._shards += 1
            self._frames = 0
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(data), 0o644, 0
        tar.addfile(member, io.BytesIO(data))
        self._frames += 1
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return ShardRef(Path(file.name).name, file.tell() - padded, len(data))

    def close(self) -> None:
        """End the current shard and put it safely on disk."""
        if self._tar is None or self._file is None:
            return
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._tar = self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ShardReader:
    """Reads pictures by place. Files open at the first read, so it may be pickled at any time.

    `pread` moves no file position, so threads and forked processes may share the open files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, int] = {}

    def read(self, place: ShardRef) -> bytes:
        """The bytes of one picture; fewer than `place.nbytes` where the shard is cut off."""
        if place.shard not in self._files:
            self._files[place.shard] = os.open(self._folder / place.shard, os.O_RDONLY)
        return os.pread(self._files[place.shard], place.nbytes, place.offset)

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Path]]:
        return ShardReader, (self._folder,)

    def __del__(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
