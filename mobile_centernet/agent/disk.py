"""Changes to the disk. The agent pushes each to the disk before the next begins, so that it survives a loss of power.

Every one of them passes through here, so that tests can interrupt, refuse or replay each.
"""

import os
import shutil
from pathlib import Path

from mobile_centernet.files import sync_folder as sync_folder


def remove_durably(path: Path) -> None:
    """Remove a file or link that need not be there."""
    unlink(path)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it; half of it may be left after a loss of power."""
    if path.is_symlink() or not path.is_dir():
        unlink(path)
    else:
        shutil.rmtree(path)


def write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Push to the disk what another process has written."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def rename(source: Path, target: Path) -> None:
    source.replace(target)


def symlink(path: Path, target: str) -> None:
    path.symlink_to(target)


def unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
