"""What the readers of raw data sets share."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from mobile_centernet.data.annotations import Action, Finding
from mobile_centernet.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4",)
"""What data sets hold, in lower case."""
DECODED_IMAGE_SUFFIXES = (*IMAGE_SUFFIXES, ".bmp", ".webp")
DECODED_VIDEO_SUFFIXES = (*VIDEO_SUFFIXES, ".avi", ".m4v", ".mkv", ".mov", ".mpeg", ".mpg", ".webm")
"""What OpenCV opens, in lower case."""


def number(value: object) -> float:
    """A coordinate as its file has it. What is missing or no number becomes NaN, which conversion reports."""
    try:
        return float(value) if isinstance(value, (int, float, str)) else float("nan")
    except (ValueError, OverflowError):  # an integer of 400 digits is too large for a float
        return float("nan")


def quarantined(kind: str, item: str, expected: str, found: str) -> Finding:
    """A finding about something that is left out."""
    return Finding(kind, Action.QUARANTINED, item, expected, found)


def reason(path: Path, error: Exception) -> str:
    """Why a label file cannot be read, without the absolute path that an OSError carries in its text."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if path.stat().st_size else "an empty file"


def require_folder(root: Path, expected: str) -> None:
    """Raise DataError where `root` is not a folder."""
    if not root.is_dir():
        found = "a file" if root.is_file() else "nothing there"
        raise DataError(f"{root}: expected a folder with {expected}, found {found}")


def find_files(root: Path, suffixes: Collection[str], skipped: Collection[str] = ()) -> Iterator[Path]:
    """All files below `root` with one of the suffixes (lower case), sorted; folders named in `skipped` are left out."""
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if name not in skipped)
        for name in sorted(files):
            if name.lower().endswith(tuple(suffixes)):
                yield Path(folder, name)
