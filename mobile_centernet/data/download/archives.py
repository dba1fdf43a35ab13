"""Unpacks zip and tar (plain, gz, bz2, xz) from strangers: all stays inside the folder, and all of it comes or nothing.

Nothing in the new folder is ever a symbolic link, so a member's name alone decides where it is written: links become
hard links to the file they name, once all files are there.
"""

import bz2
import gzip
import io
import lzma
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
from typing import IO, cast

from tqdm import tqdm

from mobile_centernet.data.download.kinds import BEGIN, foreign_kind
from mobile_centernet.data.encodings import decode_text
from mobile_centernet.errors import DataError
from mobile_centernet.files import new_folder

CHUNK = 1 << 20
LONGEST_NAME = 4096
SURROGATE = re.compile("[\udc80-\udcff]")  # how Python keeps a byte that is not UTF-8
GLOBAL_HEADERS = 1000  # of a tar; some have one, or two
PACKED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open), (b"", open))
"""Magic numbers of what a tar may be packed with, and what reads it."""
KINDS = "zip, tar, tar.gz, tar.bz2 or tar.xz"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # with members, without
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError,
    RecursionError, ValueError,
)  # fmt: skip
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


class _Counted:
    """A tar's bytes: nobody takes more than `allowed` of them, nor more than `CHUNK` at once, whatever headers say.

    tarfile reads the headers of long names whole, and no limit of files' sizes counts them.
    """

    def __init__(self, stream: IO[bytes], allowed: int, name: str) -> None:
        self._stream, self._allowed, self._name = stream, allowed, name

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise DataError(f"{self._name}: expected headers of at most {CHUNK} bytes, found one of {size} (a bomb?)")
        self._check(self._stream.tell() + size)
        try:
            return self._stream.read(size)
        except OSError as error:
            if error.errno is None:  # bz2 and gzip, about their data
                raise tarfile.ReadError(str(error)) from error
            raise

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        self._check(position)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > self._allowed + 2 * CHUNK:
            raise DataError(f"{self._name}: expected at most {self._allowed} bytes in it, found more (a zip bomb?)")


def unpack(
    archives: Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] = (),
    limits: UnpackLimits = UNPACK_LIMITS,
    progress: bool = True,
) -> None:
    """Unpack all archives into one new folder, which appears only when everything is in it.

    Their kind is told by their content. Two archives may hold the same file if it is the same, byte for byte. Modes,
    owners and times are not kept. Names whose encoding an archive does not say are UTF-8, or what fits best of GBK,
    Big5 and Shift_JIS, otherwise code page 437 (zip) or Latin-1 (tar).

    Args:
        archives: zip, tar, tar.gz, tar.bz2 or tar.xz.
        out: the new folder.
        names: what errors call the archives, such as their addresses; their paths where empty.
        limits: what each archive may hold.
        progress: show a progress bar on a terminal.

    Raises:
        DataError: an archive is damaged or encrypted, a member is absolute, has `..`, is a device or a link that leads
            out or nowhere, an archive holds more than `limits`, or the disk is full. Nothing is left.
    """
    names = names or [str(archive) for archive in archives]
    packed = ", ".join(name.rpartition("/")[2] for name in names)
    with new_folder(out, f"{packed} cannot be unpacked there", DataError) as folder:
        for archive, name in zip(archives, names, strict=True):
            _unpack(archive, name, folder, limits, progress)


def _unpack(path: Path, archive: str, root: Path, limits: UnpackLimits, progress: bool) -> None:
    """Unpack the archive at `path`, which errors call `archive`."""
    links: dict[Path, Path] = {}
    odd: list[str] = []  # names that are not UTF-8
    unpacked, allowed = 0, max(limits.floor, limits.ratio * path.stat().st_size)
    entries = _members(path, archive, allowed + 2048 * limits.members)  # with a header each, often two
    shown = f"unpack {archive.rpartition('/')[2]}"
    members = tqdm(entries, shown, unit="file", disable=None if progress else True)
    try:
        for count, member in enumerate(members, 1):
            if count > limits.members:
                raise DataError(f"{archive}: expected at most {limits.members} files in it, found more")
            inside = _inside(member.name, member.name, archive)
            place = root / inside
            if not member.is_folder and SURROGATE.search(str(inside)):
                odd.append(str(inside))
            if member.is_folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.link:
                if place in links:
                    raise FileExistsError
                links[place] = root / _inside(member.link, member.name, archive)
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
        with path.open("rb") as file:
            found = foreign_kind(file.read(BEGIN)) or f"one that is cut off or damaged ({error})"
        raise DataError(f"{archive}: expected a whole {KINDS}, found {found}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive}: expected one file or folder of a name, found two of {member.name}") from error

    while links:  # also to links, each of which is followed once
        place, target = next(iter(links.items()))
        chain, at = [], place
        while at in links:
            if at.exists():
                what = f"expected one file or folder of a name, found two of {at.relative_to(root)}"
                raise DataError(f"{archive}: {what}")
            chain.append(at)
            at = links.pop(at)
        if not at.is_file():
            what = f"expected the link {place.relative_to(root)} to lead to a file in it"
            raise DataError(f"{archive}: {what}, found {target.relative_to(root)}")
        for link in chain:
            os.link(at, link)
    if odd:  # all together, because a single name tells little
        names = decode_text("\n".join(odd).encode(errors="surrogateescape")).split("\n")
        for old, new in zip(odd, names if len(names) == len(odd) else odd, strict=True):
            if (place := root / new).exists() and new != old:
                raise DataError(f"{archive}: expected one file or folder of a name, found two of {new}")
            place.parent.mkdir(parents=True, exist_ok=True)
            (root / old).rename(place)
        for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
            if SURROGATE.search(str(folder.relative_to(root))) and not any(folder.iterdir()):
                folder.rmdir()


def _members(path: Path, archive: str, allowed: int) -> Iterator[Member]:
    with path.open("rb") as begin:
        magic = begin.read(6)
    if magic.startswith(ZIP):
        with zipfile.ZipFile(path) as packed:
            infos = packed.infolist()
            names = {info.orig_filename: info.orig_filename for info in infos}
            unmarked = [info.orig_filename for info in infos if not info.flag_bits & 0x800]
            try:
                text = decode_text("\n".join(unmarked).encode("cp437"), fallback="cp437").split("\n")
            except UnicodeEncodeError:  # zipfile knew better, by an extra field
                text = []
            if len(text) == len(unmarked):
                names |= zip(unmarked, text, strict=True)
            for info in infos:
                name = names[info.orig_filename].partition("\0")[0].replace("\\", "/")  # some tools of Windows
                if info.flag_bits & 1:
                    raise DataError(f"{archive}: expected an archive without password, found {name} encrypted")
                link = ""
                if stat.S_ISLNK(info.external_attr >> 16):
                    with packed.open(info) as file:
                        target = file.read(LONGEST_NAME)  # the file's content
                    link = posixpath.join(posixpath.dirname(name), os.fsdecode(target))
                yield Member(name, name.endswith("/"), link, partial(packed.open, info))
        return
    opened = next(opened for number, opened in PACKED if magic.startswith(number))
    with cast("IO[bytes]", opened(path, "rb")) as stream:
        counted = cast("IO[bytes]", _Counted(stream, allowed, archive))
        tar = tarfile.open(fileobj=counted, mode="r:")  # noqa: SIM115 reads no more than `stream`, which is closed
        while (entry := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # where tarfile keeps all of them
            if len(tar.pax_headers) > GLOBAL_HEADERS:
                raise DataError(f"{archive}: expected at most {GLOBAL_HEADERS} global headers, found more")
            link = ""
            if entry.issym():
                link = posixpath.join(posixpath.dirname(entry.name), entry.linkname)
            elif entry.islnk():
                link = entry.linkname
            elif not (entry.isfile() or entry.isdir()):
                raise DataError(f"{archive}: expected files, folders and links, found a device or pipe {entry.name}")
            yield Member(entry.name, entry.isdir(), link, partial(tar.extractfile, entry))


def _inside(path: str, member: str, archive: str) -> PurePosixPath:
    """`path` without detours; DataError where it leads out of the archive's root."""
    if len(path) > LONGEST_NAME:
        raise DataError(f"{archive}: expected names of at most {LONGEST_NAME} characters, found {len(path)}")
    plain = posixpath.normpath(path)
    is_link = path != member
    escapes = plain == ".." or plain.startswith("../") or (not is_link and ".." in path.split("/"))
    if path.startswith("/") or escapes or "\0" in path or re.match("[A-Za-z]:", path):
        what = f"the link {member} to {path}" if is_link else path
        raise DataError(f"{archive}: expected members inside its own folder, found {what}")
    return PurePosixPath(plain)
