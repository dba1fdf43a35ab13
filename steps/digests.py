"""sha256 of files and folders, and of everything that a training's result depends on."""

import hashlib
import json
from pathlib import Path


def file_digest(path: Path) -> str:
    """Hexadecimal sha256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 of a folder: of every file's relative path and digest, in order of their paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint({path.relative_to(folder).as_posix(): file_digest(path) for path in files})


def fingerprint(facts: object) -> str:
    """sha256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
