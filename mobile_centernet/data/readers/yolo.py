"""Reads YOLO folders: one text file per image, `class x y width height` per line in shares of its sides."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml

from mobile_centernet.data.annotations import Action, Box, Boxes, Finding, FrameState, RawSet, normalise
from mobile_centernet.data.encodings import decode_text
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, Listing, number, path_parts, quarantined, reason, walk
from mobile_centernet.data.readers.ivslab import lists_by_name, splits_of_lists
from mobile_centernet.data.readers.places import (
    SPLIT_WORDS,
    PathIndex,
    Place,
    image_stem,
    place_images,
    split_of_labels,
)  # fmt: skip
from mobile_centernet.data.readers.records import Labels, assemble
from mobile_centernet.errors import DataError
from mobile_centernet.images.headers import image_size

OF_YOLO = re.compile(r"(\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*\n?)*", re.IGNORECASE)
OF_NAMES = re.compile(r"(?:^|/)(?:[^/]*\.(?:ya?ml|names|labels)|(?:[^/]*_)?classes\.txt)$", re.IGNORECASE)
NO_LABELS = frozenset({"readme", "license", "requirements", "notes"})


class Classes(NamedTuple):
    """What a file says about a YOLO set.

    Attributes:
        path: the file, below the root.
        names: of the classes, by number as text; empty where it has none.
        declared: which folder or list of images has which split.
        pose: how many numbers there are in a line with a pose's points behind its box; 0 without poses.
    """

    path: str
    names: Mapping[str, str]
    declared: Sequence[tuple[str, str]]
    pose: int


def read_yolo(root: Path, listing: Listing | None = None) -> RawSet:
    """Read every image below `root` with the text file of its name below `labels`, or beside it.

    Names of the classes: `names` in data.yaml, the lines of classes.txt or of Darknet's `*.names`; of the folders above
    the label file, where several have some. An empty text file is a verified empty image; one without a file is
    unlabelled, because a folder with a lost file is more common than a set that leaves out empty ones. Outlines (six
    numbers or more) give their boxes. Where folders tell no split, data.yaml's `train`, `val` and `test` do, and lists
    of images (train.txt).

    Raises:
        DataError: there is no image, no list of names, or there are two that contradict each other.
    """
    root = Path(root)
    listing = listing or walk(root)
    if not listing.images:
        raise DataError(f"{root}: expected images and YOLO's labels, found no image")
    said = _said(root, listing)
    findings: list[Finding] = []
    places = place_images(listing.images, findings)
    # Names in one form of Unicode and case: other systems change both.
    stems = {unicodedata.normalize("NFC", place.stem).casefold() for place in places}
    texts, others = list[str](), list[str]()
    for path in listing.labels:
        if not path.lower().endswith(".txt") or OF_NAMES.search(path):
            continue
        *folders, file = path.lower().split("/")
        is_of_image = unicodedata.normalize("NFC", image_stem(file[:-4])).casefold() in stems
        is_label = is_of_image or ("labels" in folders and file[:-4] not in NO_LABELS)
        (texts if is_label else others).append(path)
    lists: Mapping[str, str] = {}
    if not all(place.split in SPLIT_WORDS.values() for place in places):
        lists = _lists(root, others, said)
        places = _declared_splits(root, places, said, lists, findings)
    used = [*texts, *lists, *(each.path for each in said)]
    names_of = {folder: _names_for(root, folder, said) for folder in {path.rpartition("/")[0] for path in texts}}
    poses = {each.pose for each in said}
    index, labels = PathIndex(places), list[Labels]()
    for path in texts:
        size, near, split = None, path.rpartition("/")[0], split_of_labels(path, alone=True)
        match = index.find(path[:-4], near=near, split=split, alone=True)
        try:
            if match.position is not None:
                with (root / places[match.position].path).open("rb") as image:
                    start = image.read(1 << 18)
                    size = image_size(start) or image_size(start + image.read())
            lines = decode_text((root / path).read_bytes()).splitlines()
        except (OSError, ValueError) as error:
            findings.append(quarantined("unreadable_label", path, "YOLO's lines", reason(root / path, error)))
            continue
        boxes = []
        rows = [re.split(r"[\s,;]+", line.strip()) for line in lines if line.strip()]
        if odd := [row for row in rows if len(row) < 5 or not row[0].partition(".")[0].isdecimal()]:
            found = f"{len(odd)} others, first {' '.join(odd[0])[:60]!r}"
            expected = "lines of a class and four or more numbers"
            findings.append(quarantined("unreadable_label", path, expected, found))
            continue
        for row in rows:
            values = [number(value) for value in row]
            category = names_of[near].get(row[0].partition(".")[0], f"class {row[0]}")
            corners = (float("nan"),) * 4
            if size is not None and len(values) >= 5:
                x, y, w, h = values[1:5]
                edges = x - w / 2, y - h / 2, x + w / 2, y + h / 2
                if len(values) >= 7 and len(values) not in poses:  # an outline's corners
                    xs, ys = values[1::2], values[2::2]
                    edges = min(xs), min(ys), max(xs), max(ys) if len(xs) == len(ys) else float("nan")
                if all(-0.5 <= value <= 1.5 for value in edges):  # else pixels, or nothing that is known
                    corners = edges[0] * size[1], edges[1] * size[0], edges[2] * size[1], edges[3] * size[0]
            spelling = normalise(category)
            boxes.append(Box(spelling, corners, spelling=category if category != spelling else ""))
        state = FrameState.LABELLED if boxes else FrameState.EMPTY
        labels.append(Labels(path, path[:-4], state, Boxes(boxes), near, split, alone=True, declared_size=size))
    if labels and not any(each.boxes for each in labels):
        found = f"{len(labels)} empty label files: nobody has looked for objects"
        findings.append(Finding("no_objects", Action.IGNORED, "labels", "boxes of objects", found))
        labels = [replace(each, state=FrameState.UNLABELLED) for each in labels]
    raw = assemble(listing, places, labels, frozenset(used), findings)
    return replace(raw, categories=frozenset(normalise(name) for each in said for name in each.names.values()))


def _lists(root: Path, texts: Sequence[str], said: Sequence[Classes]) -> dict[str, str]:
    """Which of the text files list images of which split: as data.yaml says, or by their names."""
    words, called = {}, dict[str, str]()
    for path in texts:
        word = path.rpartition("/")[2][:-4]
        first = decode_text((root / path).read_bytes()).strip().partition("\n")[0].strip()
        if word.lower() in SPLIT_WORDS:
            called[path] = SPLIT_WORDS[word.lower()]
        elif first.lower().endswith(IMAGE_SUFFIXES):  # 2007_val.txt
            words[path] = word
    for each in said:
        for listed, split in each.declared:
            name = "/".join(path_parts(listed)[-1:])
            called |= {path: split for path in texts if path.rpartition("/")[2] == name}
    return called or lists_by_name(words)


def _declared_splits(
    root: Path, places: list[Place], said: Sequence[Classes], lists: Mapping[str, str], findings: list[Finding]
) -> list[Place]:
    """The images with the splits that data.yaml gives their folders, and lists to them."""
    parents = {f"/{'/'.join(path_parts(place.path)[:-1])}/".casefold() for place in places}
    folders: dict[str, str] = {}
    for own, split in ((f"{each.path}/../{value}", split) for each in said for value, split in each.declared):
        parts = [part for part in path_parts(own.casefold()) if part != ".." and "*" not in part]
        # The machine that wrote it may have had the set elsewhere: /data/set/images/a is images/a.
        tails = (f"/{'/'.join(parts[cut:])}/" for cut in range(len(parts)))
        folders.setdefault(next((tail for tail in tails if any(tail in parent for parent in parents)), ""), split)
    placed = []
    for place in places:
        parent = f"/{'/'.join(path_parts(place.path)[:-1])}/".casefold()
        longest = max((folder for folder in folders if folder and folder in parent), key=len, default="")
        is_open = longest and place.split not in SPLIT_WORDS.values()
        placed.append(place._replace(split=folders[longest]) if is_open else place)
    if lists:
        placed = splits_of_lists(root, lists, placed, PathIndex(placed), findings, ())
    if all(place.split for place in placed):  # whatever the folders are called
        findings[:] = [each for each in findings if each.item == "lists" or not each.kind.endswith("_split")]
    return placed


def _said(root: Path, listing: Listing) -> list[Classes]:
    """What says how classes are called and which split is where. Raises DataError where nothing names the classes."""
    said = []
    for path in filter(OF_NAMES.search, listing.labels):
        text = "names"
        try:
            text = decode_text((root / path).read_bytes())
            if not path.lower().endswith((".yaml", ".yml")):
                lines = [line.strip() for line in text.splitlines()]
                said.append(Classes(path, {str(number): line for number, line in enumerate(lines) if line}, (), 0))
                continue
            document = yaml.safe_load(text)
        except (OSError, yaml.YAMLError) as error:
            if "names" not in text:
                continue  # it is about something else
            raise DataError(f"{root / path}: expected YAML, found {' '.join(str(error).split())}") from error
        document = document if isinstance(document, dict) else {}
        names = document.get("names", {})
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict):
            raise DataError(f"{root / path}: expected names as a list, or by number, found {str(names)[:60]!r}")
        if (
            names
            and all(isinstance(each, int) for each in names.values())
            and not any(map(str.isdecimal, map(str, names)))
        ):
            names = {each: name for name, each in names.items()}
        declared = [
            (str(each), SPLIT_WORDS[str(key).lower()])
            for key, value in document.items()
            if str(key).lower() in SPLIT_WORDS and value
            for each in (value if isinstance(value, list) else [value])
        ]
        points = document.get("kpt_shape")
        pose = 0
        if isinstance(points, list) and len(points) == 2 and all(isinstance(each, int) for each in points):
            pose = 5 + points[0] * points[1]
        if names or declared:
            of_classes = {str(number): str(name) for number, name in names.items()}
            said.append(Classes(path, of_classes, declared, pose))
    if not any(each.names for each in said):
        raise DataError(
            f"{root}: expected the names of YOLO's classes (names in data.yaml, or classes.txt), found none"
        )
    return said


def _names_for(root: Path, folder: str, said: Sequence[Classes]) -> Mapping[str, str]:
    """The names of the classes in the label files of a folder: those said in it or above, else everywhere."""
    named = [each for each in said if each.names]
    above = [each for each in named if f"{folder}/".startswith(each.path[: each.path.rfind("/") + 1])]
    names: dict[str, str] = {}
    for each in (above := above or named):
        for index, name in each.names.items():
            if normalise(names.setdefault(index, name)) != normalise(name):
                files = " and ".join(f"{one.path} ({', '.join(list(one.names.values())[:5])})" for one in above)
                where = f"the labels in {folder or 'it'}"
                raise DataError(
                    f"{root}: expected one list of YOLO's classes for {where}, found {files}: remove others"
                )
    return names
