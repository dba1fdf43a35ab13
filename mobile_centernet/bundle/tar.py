"""The one tar that a list of members can become, and a reader that takes no other.

Plain ustar without owners, times or padding of choice: the same members give the same bytes, and every byte of a
file follows from its members. So nothing can hide in a header, and `tar xf` still unpacks it.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from mobile_centernet.bundle.errors import BundleError, StorageError

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_MEMBER = 1 << 30
_CHUNK = 1 << 20

# At most one folder deep; every part starts with a letter or a digit, so `..`, `/x` and hidden files do not fit.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_MAX_NAME = 100  # of a ustar header

_KINDS = dict(
    zip(b"123456", ("a hard link", "a symbolic link", "a device", "a device", "a folder", "a pipe"), strict=True)
)


def is_safe_name(name: str) -> bool:
    """Whether `name` is a plain relative path such as `golden/000.png`."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Members one after the other, without the end of the archive."""
    return b"".join(_header(name, len(content)) + content + bytes(-len(content) % BLOCK) for name, content in members)


class Reader:
    """Reads members in order. Every method raises BundleError, naming `path`, for bytes that `pack` never writes."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._header: tuple[str, int] | None = None

    def peek(self) -> tuple[str, int]:
        """The name and size of the next member, which stays the next one."""
        if self._header is None:
            self._header = self._parsed(self._exactly(BLOCK))
        return self._header

    def read(self, name: str, limit: int) -> bytes:
        """The whole next member, which must be called `name` and have at most `limit` bytes."""
        found, size = self.peek()
        if found != name:
            raise BundleError(f"{self._path}: expected {name} as its next member, found {found}")
        if size > limit:
            raise BundleError(f"{self._path}: {name}: expected at most {limit} bytes, found {size}")
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The next member, piece by piece; must be read to its end."""
        name, size = self.peek()
        for start in range(0, size, _CHUNK):
            yield self._exactly(min(_CHUNK, size - start))
        if any(self._exactly(-size % BLOCK)):
            raise BundleError(f"{self._path}: {name}: expected zeros behind it, found other bytes")
        self._header = None

    def at_end(self) -> bool:
        """Whether the archive's end comes next; reads it, and there must be nothing behind it."""
        if self._header is not None:
            return False
        block = self._exactly(BLOCK)
        if any(block):
            self._header = self._parsed(block)
            return False
        if any(self._exactly(BLOCK)) or self._file.read(1):
            raise BundleError(f"{self._path}: expected nothing behind its end, found more bytes")
        return True

    def _parsed(self, block: bytes) -> tuple[str, int]:
        if not any(block):
            raise BundleError(f"{self._path}: expected another member, found its end")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise BundleError(f"{self._path}: expected a bundle, found bytes that are no tar header") from error
        where = f"{self._path}: member {info.name!r}"
        if kind := _KINDS.get(info.type[0]):
            target = f" to {info.linkname!r}" if info.linkname else ""
            raise BundleError(f"{where}: expected a plain file, found {kind}{target}")
        if not is_safe_name(info.name):
            raise BundleError(f"{where}: expected a plain relative name such as golden/000.png")
        if not 0 <= info.size <= MAX_MEMBER:
            raise BundleError(f"{where}: expected at most {MAX_MEMBER} bytes, found {info.size}")
        if _header(info.name, info.size) != block:
            raise BundleError(f"{where}: expected a plain header, found one with an owner, a time or other extras")
        return info.name, info.size

    def _exactly(self, count: int) -> bytes:
        try:
            content = self._file.read(count)
        except OSError as error:
            raise StorageError(f"{self._path}: expected a bundle, but it cannot be read ({error.strerror})") from error
        if len(content) != count:
            raise BundleError(f"{self._path}: expected a whole bundle, found one that was cut off")
        return content


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
