"""What the path of an image says: its name, split and video; and which image the path in a label means."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile

from mobile_centernet.data.annotations import Action, Finding
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, VIDEO_SUFFIXES, path_parts

SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": ("train", "training", "trainset", "trainval"),
        "val": ("val", "valid", "validate", "validation", "valset", "dev", "eval"),
        "test": ("test", "testing", "testset", "tests"),
        "unlabelled": ("unlabelled", "unlabeled"),
    }.items()
    for word in words
}
"""What data sets call their splits, in lower case. Nothing is known about frames of the last one."""
LEFT_TO_TRAIN = frozenset({"", "train", "unlabelled"})
"""Splits whose videos are training footage; every other one is set aside by its source."""
CONTAINERS = frozenset({
    "100k", "10k", "all", "annotation", "annotations", "bdd100k", "data", "det_20", "det", "image", "images",
    "imagesets", "img", "imgs", "jpegimages", "label", "labels", "track", "box_track_20",
})  # fmt: skip
"""Folders that tell nothing about the images in them, in lower case."""
FRAMES_FOLDER = "jpegimages"
CLIP_AND_FRAME = re.compile(r"([0-9a-f]{8})-[0-9a-f]{8}(-\d+)?")
"""BDD100K's names, which no two frames share."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SUFFIXES = "|".join(re.escape(suffix) for suffix in VIDEO_SUFFIXES)
_VIDEO_IN_NAME = re.compile(rf"(.+(?:{_SUFFIXES}))(?![0-9a-z])", re.IGNORECASE)
_FLATTENED = re.compile(rf"(.+(?:{_SUFFIXES}))__(\1(?![0-9a-z]).*)", re.IGNORECASE)
"""What `export_set` makes of `1_40_00.mp4/1_40_00.mp4_00007`."""


@dataclass(frozen=True, slots=True)
class Place:
    """An image: its path below the root, and what that says. `folders` are those that tell something."""

    path: str
    folders: tuple[str, ...]
    name: str
    video: str
    split: str

    @property
    def folded(self) -> frozenset[str]:
        """The folders, whatever their case."""
        return frozenset(map(str.casefold, self.folders))


def split_of(name: str) -> str:
    """The split that a file or folder is named after: `bdd100k_labels_images_val` → val; "" where there is none."""
    found = (SPLIT_WORDS.get(word.lower()) for word in _WORDS.findall(name))
    return next(filter(None, found), "")


def split_of_labels(path: str) -> str:
    """The split that a label file, or a folder above it, is named after."""
    return next(filter(None, map(split_of, reversed(path.split("/")))), "")


@cache
def _folder(folder: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Of a folder: those above it that tell something, those that belong to a frame's name, and the split."""
    parts = path_parts(folder)
    lower = [part.lower() for part in parts]
    telling = tuple(part for part in parts if part.lower() not in CONTAINERS)
    below = max((place + 1 for place, part in enumerate(lower) if part in CONTAINERS), default=0)
    inner: list[str] = []
    if FRAMES_FOLDER in lower:
        start = lower.index(FRAMES_FOLDER) + 1
        inner = parts[start + (lower[start : start + 1] == ["all"]) :]
        parts, below = parts[:start], start
    exact = [SPLIT_WORDS[part.lower()] for part in parts if part.lower() in SPLIT_WORDS]
    candidate = parts[below] if below < len(parts) and not _is_video(parts[below]) else ""
    if exact:
        split = exact[0]
    elif candidate:
        split = split_of(candidate) or re.sub(r"[^\w-]+", "_", candidate)
    else:
        split = next(filter(None, map(split_of, reversed(parts))), "")
    return telling, tuple(inner), split


def _is_video(folder: str) -> bool:
    return folder.lower().endswith(VIDEO_SUFFIXES)


def place_images(paths: Sequence[str], findings: list[Finding]) -> list[Place]:
    """What the paths of a set's images say.

    The split is the folder that is called as one (`SPLIT_WORDS`). Another folder below `images` beside such is a split
    of its own, which does not train, and a finding. Where none is called as a split, folders have nothing to do with
    splits: that is a note. The video is the folder or part of the name that ends like a video file, ivslab's folder,
    or the clip in BDD100K's names; otherwise the image is alone. Names are as short as they can be and different.
    """
    rows = []
    for path in paths:
        folder, _, file = path.rpartition("/")
        telling, inner, split = _folder(folder)
        stem = file.rpartition(".")[0]
        if flat := _FLATTENED.fullmatch(stem):
            inner, stem = (flat[1],), flat[2]
        rows.append((path, telling, inner, stem, split))
    names = _different_names(rows)

    found = {row[4] for row in rows}
    unknown = found - set(SPLIT_WORDS.values()) - {""}
    of_sets = {row[0].rpartition("/")[0] for row in rows if row[4] == "" and FRAMES_FOLDER in row[0].lower().split("/")}
    has_splits = bool(found - unknown - {"", "unlabelled"})
    expected = "a folder that is called after a split: train, val or test"
    for word in sorted(unknown):
        if has_splits:
            findings.append(Finding("unknown_split", Action.IGNORED, word, expected, "another word: it does not train"))
        else:
            findings.append(Finding("no_split", Action.IGNORED, word, expected, "a folder of no split: it trains"))
    strangers: dict[str, str] = {}
    for folder in sorted(of_sets if has_splits else ()):
        above = path_parts(folder)
        above = above[: [part.lower() for part in above].index(FRAMES_FOLDER)]
        strangers[folder] = re.sub(r"[^\w-]+", "_", above[-1]) if above else "root"
    for word in sorted(set(strangers.values())):
        findings.append(Finding("unknown_split", Action.IGNORED, word, expected, "another word: it does not train"))

    places = []
    for (path, telling, inner, stem, split), name in zip(rows, names, strict=True):
        split = "" if split in unknown and not has_splits else strangers.get(path.rpartition("/")[0], split)
        places.append(Place(path, telling, name, _video(telling, inner, stem, name), split))
    return places


def _video(telling: Sequence[str], inner: Sequence[str], stem: str, name: str) -> str:
    """Which video a frame is of, by its folders and name."""
    own = list(inner) or [part for part in telling if part.lower() not in SPLIT_WORDS]
    if own and _is_video(own[-1]):
        return "/".join(own)
    if found := _VIDEO_IN_NAME.match(stem):
        return "/".join([*inner, path_parts(found[1])[0]])
    if inner:
        return "/".join(inner)
    clip = CLIP_AND_FRAME.fullmatch(stem)
    return clip[1] if clip else name


def _different_names(rows: Sequence[tuple[str, tuple[str, ...], tuple[str, ...], str, str]]) -> list[str]:
    """Frames' names: without folders that tell nothing; with all, and with the suffix, where two would be the same."""
    names = ["/".join((*inner, stem)) for _, _, inner, stem, _ in rows]
    longer = (
        lambda row: "/".join((*row[1], row[3])),
        lambda row: row[0].rpartition(".")[0],
        lambda row: row[0],
    )
    for more in longer:
        counts = Counter(names)
        if len(counts) == len(names):
            break
        names = [more(row) if counts[name] > 1 else name for row, name in zip(rows, names, strict=True)]
    return names


@dataclass(frozen=True, slots=True)
class Match:
    """Which image a label means: its position, or None and the paths of those it may be."""

    position: int | None
    candidates: tuple[str, ...] = ()


class PathIndex:
    """Finds images by a path that ends as theirs does: never by the name alone where two share it."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._stems: dict[str, list[int]] = {}
        for position, place in enumerate(places):
            self._stems.setdefault(image_stem(path_parts(place.path)[-1]), []).append(position)
        self._folded: dict[str, list[int]] = {}
        for stem, positions in self._stems.items():
            self._folded.setdefault(stem.casefold(), []).extend(positions)

    def find(self, path: str, *, near: str = "", split: str = "", alone: bool = False) -> Match:
        """The image that `path` means.

        Args:
            path: as the label has it: any of the three systems' separators, with or without suffix and folders.
            near: the folder of the label file, which decides between images of one name.
            split: what the label file is called after, likewise.
            alone: the label file is about this image alone, so that it lies where images like this do.
        """
        *folders, file = path_parts(path) or [""]
        own, stem, hint = _telling(folders), image_stem(file), set(map(str.casefold, _telling(path_parts(near))))
        found = self._stems.get(stem) or self._folded.get(stem.casefold(), [])
        places = self._places
        fits: list[int] = []
        for fold in (str, str.casefold):
            shorter = [min(len(own), len(places[each].folders)) for each in found]
            tails = [common_tail(own, places[each].folders, fold) for each in found]
            fits = fits or [each for each, tail, most in zip(found, tails, shorter, strict=True) if tail == most]
        if not CLIP_AND_FRAME.fullmatch(stem):  # a name that others may have: where the label lies may contradict it
            fits = [each for each in fits if not split or places[each].split in ("", "unlabelled", split)]
            if alone and hint and not own:
                fits = [each for each in fits if not places[each].folders or hint & places[each].folded]
        ranks: tuple[Callable[[Place], int], ...] = (
            lambda place: common_tail(own, place.folders, str.casefold),
            lambda place: len(hint & place.folded),
            lambda place: bool(split) and place.split == split,
            lambda place: path_parts(place.path)[-1] == file,
            lambda place: alone and own == place.folders,
        )
        for rank in ranks:
            if len(fits) < 2:
                break
            best = max(rank(places[each]) for each in fits)
            fits = [each for each in fits if rank(places[each]) == best]
        return Match(fits[0] if len(fits) == 1 else None, tuple(places[each].path for each in fits or found))


def image_stem(file: str) -> str:
    """A file name without the suffix of an image."""
    stem, dot, suffix = file.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else file


def _telling(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts if part.lower() not in CONTAINERS)


def common_tail(one: Sequence[str], other: Sequence[str], fold: Callable[[str], str]) -> int:
    """How many of the last components of two paths are the same, compared as `fold` makes them."""
    same = (fold(a) == fold(b) for a, b in zip(reversed(one), reversed(other), strict=False))
    return sum(1 for _ in takewhile(bool, same))
