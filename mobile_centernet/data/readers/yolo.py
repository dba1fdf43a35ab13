"""Reads YOLO folders: one text file per image, `class x y width height` per line in shares of its sides."""

import re
from dataclasses import replace
from pathlib import Path

import yaml

from mobile_centernet.data.annotations import Action, Box, Boxes, Finding, FrameState, RawSet, normalise
from mobile_centernet.data.encodings import decode_text
from mobile_centernet.data.readers.common import Listing, number, path_parts, quarantined, reason, walk
from mobile_centernet.data.readers.ivslab import splits_of_lists
from mobile_centernet.data.readers.places import SPLIT_WORDS, PathIndex, Place, place_images, split_of_labels
from mobile_centernet.data.readers.records import Labels, assemble
from mobile_centernet.errors import DataError
from mobile_centernet.images.headers import image_size

OF_YOLO = re.compile(r"(\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*\n?)*", re.IGNORECASE)
LISTS = frozenset(f"{word}.txt" for word in SPLIT_WORDS)
NO_LABELS = frozenset({"classes.txt", "readme.txt", "license.txt", "requirements.txt", "notes.txt"})


def read_yolo(root: Path, listing: Listing | None = None) -> RawSet:
    """Read every image below `root` with the text file of its name below `labels`, or beside it.

    Names of the classes: `names` in data.yaml, else the lines of classes.txt or of Darknet's `*.names`. An empty text
    file is a verified empty image; one without a file is unlabelled, because a folder with a lost file is more common
    than a set that leaves out empty ones. Outlines (more than four numbers) give their boxes. Where folders tell no
    split, data.yaml's `train`, `val` and `test` do, and lists of images (train.txt).

    Raises:
        DataError: there is no image, or no list of names.
    """
    root = Path(root)
    listing = listing or walk(root)
    if not listing.images:
        raise DataError(f"{root}: expected images and YOLO's labels, found no image")
    names, used, declared = _names(root, listing)
    findings: list[Finding] = []
    places = place_images(listing.images, findings)
    texts = [
        path
        for path in listing.labels
        if path.lower().endswith(".txt") and path.lower().rpartition("/")[2] not in NO_LABELS
    ]
    stems = {path.rpartition(".")[0].rpartition("/")[2] for path in listing.images}
    texts = [path for path in texts if "labels" in path.lower().split("/") or path[:-4].rpartition("/")[2] in stems]
    lists = [path for path in listing.labels if path.lower().rpartition("/")[2] in LISTS and path not in texts]
    if not all(place.split in SPLIT_WORDS.values() for place in places):
        places = _declared_splits(root, places, declared, lists, findings)
        used = [*used, *lists]
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
            category = names.get(row[0].partition(".")[0], f"class {row[0]}")
            corners = (float("nan"),) * 4
            if size is not None and len(values) >= 5:
                x, y, w, h = values[1:5]
                edges = x - w / 2, y - h / 2, x + w / 2, y + h / 2
                if len(values) >= 7:  # an outline's corners
                    xs, ys = values[1::2], values[2::2]
                    edges = min(xs), min(ys), max(xs), max(ys)
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
    raw = assemble(listing, places, labels, frozenset([*texts, *used]), findings)
    return replace(raw, categories=frozenset(map(normalise, names.values())))


def _declared_splits(
    root: Path, places: list[Place], declared: list[tuple[str, str]], lists: list[str], findings: list[Finding]
) -> list[Place]:
    """The images with the splits that data.yaml gives their folders, and lists to them."""
    parents = {f"/{'/'.join(path_parts(place.path)[:-1])}/".casefold() for place in places}
    folders: dict[str, str] = {}
    for each, split in declared:
        parts = [part for part in path_parts(each.casefold()) if part != ".." and "*" not in part]
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


def _names(root: Path, listing: Listing) -> tuple[dict[str, str], list[str], list[tuple[str, str]]]:
    """Class names by number as text, the files that were read for them, and which split which folder is said to be."""
    for path in listing.labels:
        file = path.lower().rpartition("/")[2]
        try:
            if file.endswith((".yaml", ".yml")):
                document = yaml.safe_load(decode_text((root / path).read_bytes()))
                document = document if isinstance(document, dict) else {}
                names = document.get("names")
                if isinstance(names, list):
                    names = dict(enumerate(names))
                if isinstance(names, dict):
                    said = [(SPLIT_WORDS.get(str(key).lower(), ""), value) for key, value in document.items()]
                    folders = [
                        (split, each)
                        for split, value in said
                        if split
                        for each in (value if isinstance(value, list) else [value])
                    ]
                    declared = [(str(each), split) for split, each in folders if not str(each).lower().endswith(".txt")]
                    return {str(number): str(name) for number, name in names.items()}, [path], declared
            elif file == "classes.txt" or file.endswith(".names"):
                lines = decode_text((root / path).read_bytes()).splitlines()
                return {str(number): line.strip() for number, line in enumerate(lines)}, [path], []
        except (OSError, yaml.YAMLError) as error:
            raise DataError(f"{root / path}: expected YAML, found {' '.join(str(error).split())}") from error
    raise DataError(f"{root}: expected the names of YOLO's classes (names in data.yaml, or classes.txt), found none")
