"""What the readers of raw data sets share."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from mobile_centernet.data.annotations import Action, Finding
from mobile_centernet.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What every command reads as an image, in lower case."""
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".mod",
    ".ts", ".mts", ".m2t", ".m2ts", ".tod", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv",
    ".mjpg", ".mjpeg", ".h264", ".264", ".h265", ".265", ".hevc", ".av1", ".ivf", ".y4m", ".rm", ".rmvb", ".dav",
)  # fmt: skip
"""What every command reads as a video (OpenCV opens all of them), in lower case."""
LITTER = frozenset({"__macosx", ".ds_store", "thumbs.db", "desktop.ini", ".spotlight-v100", ".trashes", ".fseventsd"})
"""Files and folders that desktops leave, in lower case."""


def is_litter(name: str) -> bool:
    """Whether a desktop leaves files or folders of this name, such as the `._x.jpg` that macOS puts beside x.jpg."""
    return name.startswith("._") or name.lower() in LITTER


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
    """All files below `root` with one of the suffixes (lower case), sorted; no litter, no folder named in `skipped`."""
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if name not in skipped and not is_litter(name))
        for name in sorted(files):
            if name.lower().endswith(tuple(suffixes)) and not is_litter(name):
                yield Path(folder, name)
