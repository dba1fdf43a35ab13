"""Reads the ivslab data of the embedded detection competition (Pascal VOC XML beside folders of video frames)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path
from xml.etree.ElementTree import ParseError

from defusedxml import ElementTree

from mobile_centernet.data.annotations import Action, Box, Boxes, Finding, FrameState, RawSet, normalise
from mobile_centernet.data.encodings import decode_text, decode_xml
from mobile_centernet.data.readers.common import Listing, number, quarantined, reason, walk
from mobile_centernet.data.readers.places import (
    FRAMES_FOLDER,
    PathIndex,
    Place,
    image_stem,
    place_images,
    split_of,
    split_of_labels,
)  # fmt: skip
from mobile_centernet.data.readers.records import Labels, assemble
from mobile_centernet.data.similarity.duplicates import SPLIT_ORDER
from mobile_centernet.errors import DataError

EXPECTED = "ivslab frames (ivslab_train/JPEGImages/All/<video>.mp4/*.jpg)"
LIST = re.compile(r"(?:^|/)imagesets/(?:main/)?([^/]+)\.txt$", re.IGNORECASE)
UNLISTED = "unlisted"
"""Split of images that none of the lists in `ImageSets/Main` names."""


def read_ivslab(root: Path, listing: Listing | None = None, *, labels: bool = True) -> RawSet:
    """Read all sets of this layout below `root`: `<set>/{JPEGImages,Annotations,ImageSets}`, or images beside XML.

    Every image below a `JPEGImages` (without any: below `root`) is a frame; what only `ImageSets/All.txt` names is a
    finding. Splits, names and videos: `mobile_centernet.data.readers.places`; `ImageSets/Main/{train,val,test}.txt`
    overrule the folders; a set without a split of its own is training footage. An image without XML is unlabelled (and
    a finding, where a list names it); an XML without objects is verified empty; an XML that does not parse is a
    finding, and its frame is unlabelled. `difficult`, `truncated` and `pose` are not read.

    Args:
        root: the folder of the data set, or of one of its splits.
        listing: its files, where the caller has walked it.
        labels: False: no XML is read, and all frames are unlabelled.

    Returns:
        The frames, and a finding for each label that is left out.

    Raises:
        DataError: there is no image.
    """
    root = Path(root)
    listing = listing or walk(root)
    xml = [path for path in listing.labels if path.lower().endswith(".xml")]
    images = [path for path in listing.images if FRAMES_FOLDER in path.lower().split("/")[:-1]]
    if not images and xml:
        images = list(listing.images)
    if not images:
        raise DataError(f"{root}: expected {EXPECTED}, found no image")
    findings: list[Finding] = []
    places = place_images(images, findings)
    # A set's own name may be that of the root.
    above = root.resolve().name
    whole = split_of(above) if above.lower().startswith("ivslab") else split_of(above) * above.lower().isalpha()
    if whole and not any(place.split for place in places):
        places = [place._replace(split=whole) for place in places]
    named_by = {path: found[1].lower() for path in listing.labels if (found := LIST.search(path))}
    lists = dict.fromkeys((path for path, word in named_by.items() if word == "all"), "") | lists_by_name(named_by)
    index = PathIndex(places)
    keys = {_key(path).removeprefix(f"{_set_of(path)}/") for path in images}
    places = splits_of_lists(root, lists, places, index, findings, keys)
    # Where neither folders nor lists tell the split of any image, its label's folder may.
    of_labels = (
        {} if any(place.split for place in places) else {path: split_of_labels(path, alone=True) for path in xml}
    )
    if not any(of_labels.values()):
        places = [place._replace(split=place.split or "train") for place in places]
    order = {split: number for number, split in enumerate(SPLIT_ORDER)}
    places.sort(key=lambda place: order.get(place.split, len(order)))

    index, named = PathIndex(places), set[str]()
    for path in lists:
        if not path.lower().endswith("/all.txt"):
            continue
        has_labels = any(_set_of(each) == _set_of(path) for each in xml)
        known = {_key(each, loose=True) for each in xml if _set_of(each) == _set_of(path)}
        for line in _lines(root / path, keys):
            match = index.find(line, near=_set_of(path))
            prefix = f"{_set_of(path)}/" if _set_of(path) else ""
            if match.position is None:
                has_label = _key(f"{prefix}{line}.jpg", loose=True) in known
                expected = f"an image, named by {'its label' if has_label else 'ImageSets/All.txt'}"
                named.add(f"{prefix}{line}")
                item = f"{prefix}JPEGImages/{line}.jpg"
                findings.append(quarantined("missing_image", item, expected, "no such file"))
            elif has_labels and _key(places[match.position].path, loose=True) not in known:
                expected = "a label file, because ImageSets/All.txt names its frame"
                item = f"{prefix}Annotations/{line}.xml"
                findings.append(quarantined("missing_label", item, expected, "no such file"))
    entries = []
    for path in xml if labels or any(of_labels.values()) else ():
        bare = Labels(path, path[:-4], FrameState.UNLABELLED, Boxes(), near=_set_of(path), alone=True)
        own = _read_xml(root / path, path, findings) if labels else bare
        if own is not None and _key(path) not in named:
            if split := of_labels.get(path, ""):
                folders, _, stem = own.path.rpartition("/")
                kept = [folder for folder in folders.split("/") if not split_of(folder, alone=True)]  # the images' own
                own = replace(own, split=split, path="/".join([*kept, stem]))
            entries.append(own)
    left_out = {"images outside JPEGImages": len(listing.images) - len(images)}
    return assemble(listing, places, entries, frozenset([*xml, *lists]), findings, left_out)


def _set_of(path: str) -> str:
    """The folder of the set that an image, a label or a list belongs to."""
    parts = path.split("/")
    ends = [place for place, part in enumerate(parts) if part.lower() in (FRAMES_FOLDER, "annotations", "imagesets")]
    return "/".join(parts[: ends[0] if ends else -1])


def _key(path: str, *, loose: bool = False) -> str:
    """What an image and its label share: the set and the path below JPEGImages or Annotations, without suffix.

    `loose`: in lower case and without the folder All, which some leave out.
    """
    parts = path.rpartition(".")[0].split("/")
    lower = [part.lower() for part in parts]
    cut = next((lower.index(each) for each in (FRAMES_FOLDER, "annotations") if each in lower), None)
    kept = [part for place, part in enumerate(lower if loose else parts) if place != cut]
    return "/".join(part for part in kept if part != "all" or not loose)


def _lines(path: Path, known: Collection[str]) -> list[str]:
    """The images that a list names, without suffix; a second column (a class's flag) is left out."""
    text = decode_text(path.read_bytes(), known)
    lines = (re.sub(r"\s+-?[01]$", "", line.strip()).replace("\\", "/") for line in text.splitlines())
    return list(dict.fromkeys(image_stem(line) for line in lines if line))


def lists_by_name(words: Mapping[str, str]) -> dict[str, str]:
    """The splits of lists by their path: those called after one, else those that mention one (`car_train`)."""
    named = {path: split_of(word, alone=True) for path, word in words.items()}
    if not any(named.values()):
        named = {path: split_of(word) for path, word in words.items()}
    return {path: split for path, split in named.items() if split}


def splits_of_lists(
    root: Path,
    lists: Mapping[str, str],
    places: list[Place],
    index: PathIndex,
    findings: list[Finding],
    keys: Collection[str],
) -> list[Place]:
    """The images with the splits of the lists that name them; "" is no split.

    Where one is in several, `trainval` says the least.
    """
    own: dict[int, str] = {}
    sets: set[str] = set()
    for path, split in sorted(lists.items(), key=lambda each: "trainval" not in each[0].lower()):
        if not split:
            continue
        sets.add(_set_of(path))
        for line in _lines(root / path, keys):
            match = index.find(line, near=_set_of(path))
            if match.position is None:
                found = ", ".join(match.candidates[:3]) or "no such file"
                findings.append(quarantined("missing_image", f"{path}: {line}", "an image", found))
            else:
                own[match.position] = split
    prefixes = tuple(f"{each}/" if each else "" for each in sets)
    placed, left = [], 0
    for position, place in enumerate(places):
        unlisted = bool(prefixes) and place.path.startswith(prefixes) and position not in own
        left += unlisted
        placed.append(place._replace(split=UNLISTED if unlisted else own.get(position, place.split)))
    if left:
        found = f"{left} images in none of them: they do not train"
        item = sorted(lists)[0].rpartition("/")[0] or "lists"
        findings.append(Finding("unknown_split", Action.IGNORED, item, "all images in its lists", found))
    return placed


def _read_xml(path: Path, item: str, findings: list[Finding]) -> Labels | None:
    """What one XML file says; None where it cannot be read, which is a finding."""
    try:
        annotation = ElementTree.fromstring(decode_xml(path.read_bytes()))
        if annotation is None or annotation.tag != "annotation":
            raise ValueError(f"<{annotation.tag if annotation is not None else ''}>")
    except (OSError, ParseError, ValueError) as error:  # defusedxml's refusals are ValueErrors
        findings.append(quarantined("unreadable_label", item, "a Pascal VOC <annotation>", reason(path, error)))
        return None
    boxes = []
    for element in annotation.iter("object"):
        x1, y1, x2, y2 = (number(element.findtext(f"bndbox/{tag}")) for tag in ("xmin", "ymin", "xmax", "ymax"))
        if len(element.findall("bndbox")) > 1:  # nobody knows which is meant
            x1 = y1 = x2 = y2 = nan
        spelling = element.findtext("name", "")
        category = normalise(spelling)
        boxes.append(Box(category, (x1, y1, x2, y2), spelling=spelling if spelling != category else ""))
    declared_size = None
    if (size := annotation.find("size")) is not None:
        height, width = (number(size.findtext(tag)) for tag in ("height", "width"))
        # 0 stands for a side that is missing or no number.
        declared_size = int(height) if isfinite(height) else 0, int(width) if isfinite(width) else 0
    state = FrameState.LABELLED if boxes else FrameState.EMPTY
    stem = re.sub(r"\.xml$", "", item, flags=re.IGNORECASE)
    return Labels(item, stem, state, Boxes(boxes), near=_set_of(item), alone=True, declared_size=declared_size)
