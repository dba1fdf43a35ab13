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
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

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
    open: Callable[[], IO[bytes] | None]


def unpack(archives: Sequence[Path], out: Path, *, limits: UnpackLimits = UNPACK_LIMITS, progress: bool = True) -> None:
    """Unpack all archives into one new folder, which appears only when everything is in it.

    Their kind is told by their content. Two archives may hold the same file if it is the same, byte for byte. Modes,
    owners and times are not kept.

    Args:
        archives: zip, tar or tar.gz.
        out: the new folder.
        limits: what each archive may hold.
        progress: show a progress bar on a terminal.

    Raises:
        DataError: an archive is damaged or encrypted, a member is absolute, has `..`, is a device or a link that leads
            out or nowhere, an archive holds more than `limits`, or the disk is full. Nothing is left.
    """
    packed = ", ".join(archive.name for archive in archives)
    with new_folder(out, f"{packed} cannot be unpacked there", DataError) as folder:
        for archive in archives:
            _unpack(archive, folder, limits, progress)


def _unpack(archive: Path, root: Path, limits: UnpackLimits, progress: bool) -> None:
    links = []
    unpacked, allowed = 0, max(limits.floor, limits.ratio * archive.stat().st_size)
    members = tqdm(_members(archive), f"unpack {archive.name}", unit="file", disable=None if progress else True)
    try:
        for count, member in enumerate(members, 1):
            if count > limits.members:
                raise DataError(f"{archive}: expected at most {limits.members} files in it, found more")
            place = root / _inside(member.name, member.name, archive)
            if member.is_folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.link:
                links.append((place, _inside(member.link, member.name, archive)))
                continue
            source, is_new = member.open(), not place.exists()  # what is there already must have the same bytes
            if source is None:
                raise tarfile.ReadError(f"no content of {member.name}")
            with source, place.open("xb" if is_new else "rb") as file:
                while chunk := source.read(CHUNK):
                    unpacked += len(chunk)  # counted as it comes, whatever the archive claims about sizes
                    if unpacked > allowed:
                        raise DataError(f"{archive}: expected at most {allowed} bytes in it, found more (a zip bomb?)")
                    if is_new:
                        file.write(chunk)
                    elif file.read(len(chunk)) != chunk:
                        raise DataError(f"{archive}: expected one file {member.name}, found two that differ")
                if not is_new and file.read(1):
                    raise DataError(f"{archive}: expected one file {member.name}, found two that differ")
    except DAMAGED as error:
        raise DataError(f"{archive}: expected a whole zip, tar or tar.gz, found: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive}: expected one file or folder of a name, found two of {member.name}") from error

    while links:  # also to links: some wait for others
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


def _members(path: Path) -> Iterator[Member]:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic in ZIP:
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
        return
    with tarfile.open(path, "r:gz" if magic.startswith(GZIP) else "r:") as tar:
        for entry in tar:
            link = ""
            if entry.issym():
                link = posixpath.join(posixpath.dirname(entry.name), entry.linkname)
            elif entry.islnk():
                link = entry.linkname
            elif not (entry.isfile() or entry.isdir()):
                raise DataError(f"{path}: expected files, folders and links, found a device or pipe {entry.name}")
            yield Member(entry.name, entry.isdir(), link, partial(tar.extractfile, entry))


def _inside(path: str, member: str, archive: Path) -> PurePosixPath:
    """`path` without detours; DataError where it leads out of the archive's root."""
    plain = posixpath.normpath(path)
    is_link = path != member
    escapes = plain == ".." or plain.startswith("../") or (not is_link and ".." in path.split("/"))
    if path.startswith("/") or escapes or "\0" in path or re.match("[A-Za-z]:", path):
        what = f"the link {member} to {path}" if is_link else path
        raise DataError(f"{archive}: expected members inside its own folder, found {what}")
    return PurePosixPath(plain)
