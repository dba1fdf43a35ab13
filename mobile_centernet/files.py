"""Files: written whole or not at all, and their digests."""

import hashlib
import json
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, push it to the disk, then rename: a crash leaves the old file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
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
