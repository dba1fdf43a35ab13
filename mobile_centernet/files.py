"""Files and folders: written whole or not at all, and their digests."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mobile_centernet.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, push it to the disk, then rename: a crash leaves the old file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # whoever may write there could have left a link of that name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: object) -> None:
    """Readable JSON, atomically. NaN and infinity are refused (ValueError): other readers reject them."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    # A file name of other bytes than UTF-8 has lone surrogates, which only JSON's own escapes can express.
    write_atomically(path, f"{text}\n".encode(errors="backslashreplace"))


@contextmanager
def new_folder(out: Path, failure: str, error: type[UserError], *, parents: bool = True) -> Iterator[Path]:
    """A folder to fill in the block, which appears as `out` whole, once the block has ended well, or not at all.

    It is filled beside its place under the name `.NAME.partial`. What a crash left there is removed first, so only one
    process may write to a place.

    Args:
        out: the new folder; an empty one may be there.
        failure: what the user reads where the disk refuses, between `out` and the reason.
        error: what is raised.
        parents: make the folders above, too.

    Raises:
        UserError: an `error`, where something is at `out`, or the disk refuses.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise error(f"{out}: expected a new or empty folder, found something in it")
    partial = out.with_name(f".{out.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=parents)
        yield partial
        sync_folder(partial)
        partial.rename(out)
        sync_folder(out.parent)
    except OSError as refused:
        raise error(f"{out}: {failure} ({refused.strerror})") from refused
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Push a folder's own entries to the disk, so that a rename in it survives a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """Hexadecimal SHA-256 of one file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def folder_above(name: str) -> Path | None:
    """The folder that holds a file of that name: the current one, or the nearest above it."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / name).is_file()), None)
