"""What the readers of raw data share: the walk over a folder, which kind a file is, and findings."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobile_centernet.data.annotations import Action, Finding
from mobile_centernet.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What every command reads as an image, in lower case."""
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".mkv", ".webm", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".mod",
    ".ts", ".mts", ".m2t", ".m2ts", ".tod", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv",
    ".mjpg", ".mjpeg", ".h264", ".264", ".h265", ".265", ".hevc", ".av1", ".ivf", ".y4m", ".rm", ".rmvb", ".dav",
    ".insv", ".mk3d", ".mp4v", ".m1v", ".mpv", ".m2p", ".tp", ".trp", ".vro", ".wtv", ".3gpp", ".ogm", ".nut",
)  # fmt: skip
"""What every command reads as a video (OpenCV opens all of them), in lower case."""
LABEL_SUFFIXES = (".json", ".xml", ".txt", ".yaml", ".yml", ".names", ".labels", ".csv")
"""What may say something about images, in lower case."""
LITTER = frozenset({
    "__macosx", ".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".spotlight-v100", ".trashes", ".fseventsd",
    ".ipynb_checkpoints", "@eadir", "$recycle.bin", "lost+found", "system volume information", ".directory",
})  # fmt: skip
"""Files and folders that desktops leave, in lower case."""
LEFT_BY_DESKTOPS = "left by desktops"
FOLDERS_OF_SETS = frozenset({"images", "labels", "annotations", "jpegimages", "imagesets"})
"""What data sets call their folders, in lower case."""

_KINDS = {suffix: kind for kind, suffixes in enumerate((IMAGE_SUFFIXES, VIDEO_SUFFIXES, LABEL_SUFFIXES))
          for suffix in suffixes}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file below `root`: paths relative to it, with `/`, in the order of a sorted walk.

    `others` counts what is of no kind that is read, by suffix, and what desktops leave. `findings` are links that lead
    nowhere and folders that may not be read. `links` are the folders that are links, and where they lead.
    """

    root: Path
    images: tuple[str, ...]
    videos: tuple[str, ...]
    labels: tuple[str, ...]
    others: Mapping[str, int]
    findings: tuple[Finding, ...]
    links: Mapping[str, Path]


def walk(root: Path) -> Listing:
    """List all files below `root`, behind links too, and each folder once.

    A folder that is there twice, as itself and by a link, is read where a data set has it (`images/train`, not
    `disk2/train`), and otherwise as itself. Raises DataError where `root` is no folder.
    """
    require_folder(root, "files")
    files: dict[str, list[str]] = {}
    read_as: dict[tuple[int, int], str] = {}  # every folder by device and inode
    links: list[tuple[str, tuple[int, int]]] = []
    file_links: list[tuple[str, str]] = []  # each by its folder and its name
    findings: list[Finding] = []

    def read(top: str) -> None:
        todo = [top]
        while todo:
            folder = todo.pop()
            try:
                status = (root / folder).stat()
                if (inode := (status.st_dev, status.st_ino)) in read_as:
                    continue
                with os.scandir(root / folder) as found:
                    entries = list(found)
            except OSError as error:
                findings.append(quarantined("unreadable_folder", folder, "a folder", error.strerror or "none"))
                continue
            read_as[inode] = folder
            own, prefix = files.setdefault(folder, []), f"{folder}/" if folder else ""
            own += [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
            for entry in entries if len(own) < len(entries) else ():
                if entry.is_symlink():
                    try:
                        target = entry.stat()
                    except OSError as error:
                        what = "a link to a file or folder", error.strerror or "nothing"
                        findings.append(quarantined("broken_link", prefix + entry.name, *what))
                        continue
                    if stat.S_ISDIR(target.st_mode):
                        links.append((prefix + entry.name, (target.st_dev, target.st_ino)))
                        continue
                    if stat.S_ISREG(target.st_mode):
                        file_links.append((folder, entry.name))
                        own.append(entry.name)
                        continue
                elif entry.is_dir():
                    todo.append(prefix + entry.name)
                    continue
                elif entry.is_file():
                    continue
                what = "a file", "a pipe, a socket or a device"  # reading it might never end
                findings.append(quarantined("no_file", prefix + entry.name, *what))

    read("")
    followed, again = [], 0
    while links:
        links.sort(reverse=True)
        place, inode = links.pop()
        followed.append(place)
        first = read_as.get(inode)
        if first is None:
            read(place)
        elif not f"{place}/".startswith(f"{first}/" if first else "") and _is_of_set(place) > _is_of_set(first):
            renamed = {each: place + each[len(first) :] for each in files if f"{each}/".startswith(f"{first}/")}
            files.update({new: files.pop(old) for old, new in renamed.items()})
            read_as.update({each: renamed[folder] for each, folder in read_as.items() if folder in renamed})
            file_links = [(renamed.get(folder, folder), name) for folder, name in file_links]
        elif not f"{place}/".startswith(f"{first}/" if first else ""):  # no mere loop: `val` that is `train`
            again += 1
    others = _drop_doubles(root, files, read_as, file_links)
    others |= Counter({"links to folders that are read": again} if again else {})

    targets = {place: (root / place).resolve() for place in sorted(followed)}
    findings.sort(key=lambda finding: finding.item)
    images, videos, labels = _by_kind(files, others)
    return Listing(root, images, videos, labels, others, tuple(findings), targets)


def _by_kind(files: Mapping[str, list[str]], others: Counter[str]) -> tuple[tuple[str, ...], ...]:
    """Paths of images, videos and label files, sorted; `others` grows by the files of no kind."""
    kinds: tuple[list[str], ...] = ([], [], [])
    for folder in sorted(files, key=lambda each: each.split("/")):
        prefix = f"{folder}/" if folder else ""
        if any(part.startswith(".") or is_litter(part) for part in folder.split("/")):  # hidden ones, too
            others[LEFT_BY_DESKTOPS] += len(files[folder])
            continue
        names = sorted(files[folder])
        alike = [_KINDS.get(name[name.rfind(".") :]) for name in names if name[0] not in ".~"]
        if names and len(alike) == len(names) and alike[0] is not None and alike.count(alike[0]) == len(names):
            kinds[alike[0]].extend([prefix + name for name in names])  # as most folders are
            continue
        for name in names:
            dot = name.rfind(".")
            suffix = name[dot:] if dot > 0 else ""
            kind = _KINDS.get(suffix, _KINDS.get(suffix.lower()))
            if kind is None or (name[0] in ".~" and is_litter(name)):
                others[LEFT_BY_DESKTOPS if is_litter(name) else suffix.lower() or "without a suffix"] += 1
            else:
                kinds[kind].append(prefix + name)
    return tuple(map(tuple, kinds))


def _drop_doubles(
    root: Path,
    files: Mapping[str, list[str]],
    read_as: Mapping[tuple[int, int], str],
    file_links: Sequence[tuple[str, str]],
) -> Counter[str]:
    """Take files out that are there as themselves and by links to them; how many, by reason.

    Links stay where a data set has them (`images/train`) and the file itself does not lie in such a folder.
    """
    inodes: dict[str, tuple[int, int]] = {}
    doubles: dict[str, set[str]] = {}
    for folder, name in file_links:
        place = f"{folder}/{name}" if folder else name
        try:
            target = os.path.join(root, folder, os.readlink(root / place))  # noqa: PTH115, PTH118 fast
            head, tail = os.path.split(target)
            if head not in inodes:
                status = os.stat(head)  # noqa: PTH116
                inodes[head] = status.st_dev, status.st_ino
        except OSError:
            continue  # it has gone meanwhile
        own = read_as.get(inodes[head])
        if own is None or (own, tail) == (folder, name):
            continue
        is_better = _is_of_set(folder) and not _is_of_set(own)
        doubles.setdefault(own if is_better else folder, set()).add(tail if is_better else name)
    count = 0
    for folder, names in doubles.items():
        kept = [name for name in files[folder] if name not in names]
        count += len(files[folder]) - len(kept)
        files[folder][:] = kept
    return Counter({"by links to files that are read": count} if count else {})


def _is_of_set(path: str) -> bool:
    return not FOLDERS_OF_SETS.isdisjoint(path.lower().split("/"))


def is_litter(name: str) -> bool:
    """Whether a desktop leaves files or folders of this name, such as the `._x.jpg` that macOS puts beside x.jpg."""
    lower = name.lower()
    return lower.startswith(("._", ".~lock.", "~$", ".trash")) or lower in LITTER or lower.endswith(":zone.identifier")


def path_parts(path: str) -> list[str]:
    """The components of a path as any system writes it, in Unicode's form NFC."""
    if not path.isascii():
        path = unicodedata.normalize("NFC", path)
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def number(value: object) -> float:
    """A coordinate as its file has it. What is missing or no number becomes NaN, which conversion reports."""
    try:
        return float(value) if isinstance(value, (int, float, str)) else float("nan")
    except (ValueError, OverflowError):  # an integer of 400 digits is too large for a float
        return float("nan")


def is_set(flag: object) -> bool:
    """Whether a flag is on, however its file writes that."""
    return flag is True or str(flag).strip().lower() in ("1", "1.0", "true", "yes", "t", "y", "on")


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
