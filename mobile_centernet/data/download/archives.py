"""Unpacks zip, tar and tar.gz from strangers: everything stays inside the folder, and all of it comes or nothing.

Nothing in the new folder is ever a symbolic link, so a member's name alone decides where it is written: links become
hard links to the file they name, once all files are there.
"""

import gzip
import os
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from tqdm import tqdm

from mobile_centernet.errors import DataError
from mobile_centernet.files import new_folder

CHUNK = 1 << 20
LONGEST_LINK = 4096
GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with members, without
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)
"""What the libraries raise for archives that are cut off, damaged, or packed by a method they lack."""


@dataclass(frozen=True)
class UnpackLimits:
    """How much an archive may unpack to: `ratio` times its own size, but `floor` bytes in any case."""

    ratio: int = 100
    floor: int = 256 << 20
    members: int = 2_000_000


UNPACK_LIMITS = UnpackLimits()


@dataclass(frozen=True)
class Member:
    """One entry. `link` is where a link leads, relative to the archive's root, otherwise empty; `open` reads a file."""

    name: str
    is_folder: bool
    link: str
    open: Callable[[], IO[bytes]]


@dataclass
class Budget:
    """Counts what comes out, whatever the archive claims about its sizes."""

    archive: Path
    limits: UnpackLimits
    unpacked: int = 0
    members: int = 0
    allowed: int = field(init=False)

    def __post_init__(self) -> None:
        self.allowed = max(self.limits.floor, self.limits.ratio * self.archive.stat().st_size)

    def spend(self, size: int) -> None:
        """Raise DataError once more bytes have come out than the archive's own size lets expect."""
        self.unpacked += size
        if self.unpacked > self.allowed:
            raise DataError(f"{self.archive}: expected at most {self.allowed} bytes in it, found more (a zip bomb?)")

    def count(self) -> None:
        """Raise DataError at one member too many."""
        self.members += 1
        if self.members > self.limits.members:
            raise DataError(f"{self.archive}: expected at most {self.limits.members} files in it, found more")


def unpack(archives: Sequence[Path], out: Path, *, limits: UnpackLimits = UNPACK_LIMITS, progress: bool = True) -> None:
    """Unpack all archives into the new folder `out`, which appears only when everything is in it.

    Their kind is told by their content. Two archives may hold the same file if it is the same, byte for byte. Modes,
    owners and times are not kept.
    Raises DataError, and leaves nothing, where an archive is damaged or encrypted, where a member is absolute, has
    `..`, is a device or a link that leads out or nowhere, where it holds more than `limits`, or the disk is full.
    """
    packed = ", ".join(archive.name for archive in archives)
    with new_folder(out, f"{packed} cannot be unpacked there", DataError) as folder:
        for archive in archives:
            _unpack(archive, folder, Budget(archive, limits), progress)


def _unpack(archive: Path, root: Path, budget: Budget, progress: bool) -> None:
    links = []
    try:
        for member in tqdm(_members(archive), f"unpack {archive.name}", unit="file", disable=not progress):
            budget.count()
            place = root / _inside(member.name, member.name, archive)
            if member.is_folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.link:
                links.append((place, _inside(member.link, member.name, archive)))
                continue
            with member.open() as source:
                _write(source, place, member.name, budget)
    except DAMAGED as error:
        raise DataError(f"{archive}: expected a whole zip, tar or tar.gz, found: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive}: expected one file or folder of a name, found two of {member.name}") from error
    _link(links, root, archive)


def _members(archive: Path) -> Iterator[Member]:
    with archive.open("rb") as file:
        magic = file.read(4)
    if magic in ZIP:
        return _zip_members(archive)
    return _tar_members(archive, "r:gz" if magic.startswith(GZIP) else "r:")


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.replace("\\", "/")  # some Windows tools
            if info.flag_bits & 1:
                raise DataError(f"{path}: expected an archive without password, found {name} encrypted")
            link = ""
            if stat.S_ISLNK(info.external_attr >> 16):
                with archive.open(info) as file:
                    target = file.read(LONGEST_LINK)  # the file's content
                link = posixpath.join(posixpath.dirname(name), os.fsdecode(target))
            yield Member(name, info.is_dir(), link, partial(archive.open, info))


def _tar_members(path: Path, mode: Literal["r:", "r:gz"]) -> Iterator[Member]:
    with tarfile.open(path, mode) as archive:
        for info in archive:
            link = ""
            if info.issym():
                link = posixpath.join(posixpath.dirname(info.name), info.linkname)
            elif info.islnk():
                link = info.linkname
            elif not (info.isfile() or info.isdir()):
                raise DataError(f"{path}: expected files, folders and links, found a device or pipe {info.name}")
            yield Member(info.name, info.isdir(), link, partial(_tar_file, archive, info))


def _tar_file(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"no content of {info.name}")
    return file


def _inside(path: str, member: str, archive: Path) -> PurePosixPath:
    """`path` without detours; DataError where it leads out of the archive's root."""
    plain = posixpath.normpath(path)
    is_link = path != member
    escapes = plain == ".." or plain.startswith("../") or (not is_link and ".." in path.split("/"))
    if path.startswith("/") or escapes or "\0" in path or re.match("[A-Za-z]:", path):
        what = f"the link {member} to {path}" if is_link else path
        raise DataError(f"{archive}: expected members inside its own folder, found {what}")
    return PurePosixPath(plain)


def _write(source: IO[bytes], place: Path, name: str, budget: Budget) -> None:
    """Write a new file, or see that the one that is there already has the same bytes."""
    is_new = not place.exists()
    with place.open("xb" if is_new else "rb") as file:
        while chunk := source.read(CHUNK):
            budget.spend(len(chunk))
            if is_new:
                file.write(chunk)
            elif file.read(len(chunk)) != chunk:
                raise DataError(f"{budget.archive}: expected one file {name}, found two that differ")
        if not is_new and file.read(1):
            raise DataError(f"{budget.archive}: expected one file {name}, found two that differ")


def _link(links: list[tuple[Path, PurePosixPath]], root: Path, archive: Path) -> None:
    """Make links, also to links, as hard links; what leads to no file of this archive is an error."""
    while links:
        waiting = []
        for place, target in links:
            if place.exists():
                name = place.relative_to(root)
                raise DataError(f"{archive}: expected one file or folder of a name, found two of {name}")
            if (root / target).is_file():
                os.link(root / target, place)
            else:
                waiting.append((place, target))
        if len(waiting) == len(links):
            place, target = links[0]
            name = place.relative_to(root)
            raise DataError(f"{archive}: expected the link {name} to lead to a file in it, found {target}")
        links = waiting
