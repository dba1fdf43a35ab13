"""Reads COCO documents (`annotations/instances_*.json`, Roboflow's `<split>/_annotations.coco.json`) beside images."""

import json
import re
from collections import Counter
from dataclasses import replace
from math import isnan, nan
from pathlib import Path
from typing import Any

from mobile_centernet.data.annotations import Action, Box, Boxes, Finding, FrameState, RawSet, Xyxy, normalise
from mobile_centernet.data.readers.bdd100k import mask_box
from mobile_centernet.data.readers.common import Listing, is_set, number, quarantined, reason, walk
from mobile_centernet.data.readers.places import place_images, split_of_labels
from mobile_centernet.data.readers.records import Labels, assemble
from mobile_centernet.errors import DataError

OF_BDD100K = re.compile(rb'"(?:labels|frames|objects)"\s*:\s*(?:\[\s*[{\]]|null)|"box2d"')
CROWD = "ignore region"
"""What crowds are called here: they are to be ignored whatever they are."""


def json_kind(path: Path) -> str:
    """What a JSON file is: "coco", "bdd100k" or "", by its first bytes or, where these do not tell, by all of it."""
    try:
        with path.open("rb") as file:
            text = file.read(1 << 16).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")  # or UTF-16
            if text.startswith(b"{"):
                if all(word in text for word in (b'"images"', b'"file_name"')):
                    return "coco"
                text += file.read().replace(b"\0", b"")
                if all(word in text for word in (b'"images"', b'"annotations"', b'"categories"')):
                    return "coco"
    except OSError:
        return ""
    return "bdd100k" if OF_BDD100K.search(text) else ""


def coco_documents(listing: Listing) -> list[str]:
    """The COCO documents that are read: not captions and keypoints, which are of the same images as the instances."""
    files = [path for path in listing.labels if path.lower().endswith(".json")]
    files = [path for path in files if json_kind(listing.root / path) == "coco"]
    instances = {path for path in files if path.lower().rpartition("/")[2].startswith("instances")}
    beside = {path.rpartition("/")[0] for path in instances}
    return [path for path in files if path in instances or path.rpartition("/")[0] not in beside]


def read_coco(root: Path, listing: Listing | None = None) -> RawSet:
    """Read every COCO document below `root` with its images.

    The split is that of the image's folder, else the one that the file is called after. What a document says about
    each image: `read_coco_document`.

    Raises:
        DataError: there is no image or no document, or a document has two images or categories of one id.
    """
    root = Path(root)
    listing = listing or walk(root)
    if not listing.images:
        raise DataError(f"{root}: expected images and COCO documents, found no image")
    files = coco_documents(listing)
    if not files:
        raise DataError(f"{root}: expected COCO documents (annotations/instances_*.json), found none")
    findings: list[Finding] = []
    places = place_images(listing.images, findings)
    labels: list[Labels] = []
    known_names: set[str] = set()
    for path in files:
        try:
            own, names = read_coco_document(root / path, path, findings)
        except ValueError as error:
            findings.append(quarantined("unreadable_label", path, *error.args))
            continue
        known_names |= names
        labels += own
    raw = assemble(listing, places, labels, frozenset(files), findings)
    return replace(raw, categories=frozenset({*known_names, CROWD}))


def read_coco_document(path: Path, item: str, findings: list[Finding]) -> tuple[list[Labels], set[str]]:
    """What one COCO document says about each of its images, and the names of its categories.

    An image without an annotation is verified empty, unless the document says another `state`. Boxes are of the size
    that the document gives the image. Crowds are to be ignored; a region that is one for several categories is one of
    `CROWD`. An outline or mask without a `bbox` gives its box.

    Args:
        path: the file.
        item: what findings call it: its path below the root of the set.
        findings: grows by the annotations that are of no image.

    Raises:
        ValueError: it cannot be read, or is no such document; with what was expected, and what was found.
        DataError: two images or two categories have one id.
    """
    try:
        document = json.loads(path.read_bytes())  # UTF-8 or -16, as its first bytes say
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError("a COCO document", reason(path, error)) from error
    needed: dict[str, set[str]] = {"images": {"id", "file_name"}, "annotations": set(), "categories": {"id", "name"}}
    for part, keys in needed.items():
        rows = document.get(part) if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= keys for row in rows):
            wanted = f" with {' and '.join(sorted(keys, reverse=True))}" if keys else ""
            raise ValueError(f"a COCO document with a list of {part}{wanted}", "none")
    images, annotations = document["images"], document["annotations"]
    for kind, rows in (("image", images), ("category", document["categories"])):
        twice = [each for each, count in Counter(_key(row["id"]) for row in rows).items() if count > 1]
        if twice:
            raise DataError(f"{path}: expected every {kind} id once, found {len(twice)} twice ({twice[0]})")
    names = {_key(category["id"]): str(category["name"]) for category in document["categories"]}
    boxes: dict[str, dict[Xyxy | int, Box]] = {_key(image["id"]): {} for image in images}
    strays, normalised = 0, 0
    for number_of_box, row in enumerate(annotations):
        owner = boxes.get(_key(row.get("image_id")))
        if owner is None:
            found, strays = f"image_id {row.get('image_id')!r}", strays + 1
            if repr(str(row.get("image_id"))) in boxes:
                found += ", which is text among the images"
            one = f"{item}#{row.get('id', number_of_box)}"
            findings.append(quarantined("unreadable_label", one, "an image of this file", found))
            continue
        spelling = names.get(_key(row.get("category_id")), f"category_id {row.get('category_id')!r}")
        category, crowd, xyxy = normalise(spelling), is_set(row.get("iscrowd")), _corners(row)
        if all(0 <= value <= 1 for value in xyxy) and any(xyxy):
            normalised, xyxy = normalised + 1, (nan,) * 4
        box = Box(category, xyxy, crowd, spelling if spelling != category else "")
        if not crowd:
            owner[number_of_box] = box
        elif owner.setdefault(xyxy, box).category != category:  # exports write a region once per class
            owner[xyxy] = Box(CROWD, xyxy, ignore=True)
    if normalised:
        found = f"{normalised} boxes of numbers from 0 to 1, as of normalised ones"
        findings.append(quarantined("nan_box", item, "x, y, width and height in pixels", found))
    # Without any box nobody has looked for objects, and a box of an unknown image may be one of these.
    nothing = FrameState.EMPTY if annotations and not strays else FrameState.UNLABELLED
    if images and not annotations:
        found = f"{len(images)} images without an annotation"
        findings.append(Finding("no_objects", Action.IGNORED, item, "boxes of objects", found))
    labels = []
    for place, image in enumerate(images):
        found_here = tuple(boxes[_key(image["id"])].values())
        size = number(image.get("height")), number(image.get("width"))
        state = image.get("state", FrameState.LABELLED if found_here else nothing)
        known = all(1 <= side < 1e6 for side in size)
        entry = Labels(
            f"{item}#images[{place}]",
            str(image["file_name"]),
            FrameState(state) if state in list(FrameState) else FrameState.UNLABELLED,
            Boxes(found_here),
            near=item.rpartition("/")[0],
            split=split_of_labels(item),
            declared_size=(int(size[0]), int(size[1])) if known else None,
        )
        labels.append(entry)
    return labels, set(map(normalise, names.values()))


def _key(value: object) -> str:
    """Of an id: 7 and 7.0 are the same number, "7" is another id."""
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def _corners(row: dict[str, Any]) -> Xyxy:
    """Of an annotation's box, else of its outline or mask; NaN where it has none."""
    bbox, outline = row.get("bbox"), row.get("segmentation")
    if isinstance(bbox, list) and len(bbox) == 4:
        x, y, width, height = map(number, bbox)
        return x, y, x + width, y + height
    if bbox in (None, []) and isinstance(outline, dict):
        return mask_box(outline.get("counts"), outline.get("size"))
    if bbox in (None, []) and isinstance(outline, list):
        parts = [part if isinstance(part, list) else [part] for part in outline]  # one outline may stand alone
        values = [number(value) for part in parts for value in part]
        if len(values) >= 6 and len(values) % 2 == 0 and not any(map(isnan, values)):
            return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    return (nan,) * 4
