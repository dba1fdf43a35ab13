"""Reads COCO documents (`annotations/instances_*.json`, Roboflow's `<split>/_annotations.coco.json`) beside images."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from mobile_centernet.data.annotations import Action, Box, Boxes, Finding, FrameState, RawSet, normalise
from mobile_centernet.data.readers.bdd100k import mask_box
from mobile_centernet.data.readers.common import Listing, is_set, number, quarantined, reason, walk
from mobile_centernet.data.readers.places import place_images, split_of_labels
from mobile_centernet.data.readers.records import Labels, assemble
from mobile_centernet.errors import DataError

CROWD = "ignore region"
"""What crowds are called here: they are to be ignored whatever they are."""


def is_coco(path: Path) -> bool:
    """Whether a JSON file is a COCO document, by its first bytes or, where these do not tell, by all of it."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
            if not start.startswith(b"{"):
                return False
            if all(word in start for word in (b'"images"', b'"file_name"')):
                return True
            text = start + file.read()
            return all(word in text for word in (b'"images"', b'"annotations"', b'"categories"'))
    except OSError:
        return False


def read_coco(root: Path, listing: Listing | None = None) -> RawSet:
    """Read every COCO document below `root` with its images.

    The split is that of the image's folder, else the one that the file is called after. An image without an annotation
    is verified empty, unless the document says another `state`. Boxes are of the size that the document gives the
    image, and crowds are to be ignored. An outline or mask without a `bbox` gives its box.

    Raises:
        DataError: there is no image or no document, or a document has two images of one id.
    """
    root = Path(root)
    listing = listing or walk(root)
    if not listing.images:
        raise DataError(f"{root}: expected images and COCO documents, found no image")
    files = [path for path in listing.labels if path.lower().endswith(".json") and is_coco(root / path)]
    if not files:
        raise DataError(f"{root}: expected COCO documents (annotations/instances_*.json), found none")
    findings: list[Finding] = []
    places = place_images(listing.images, findings)
    labels: list[Labels] = []
    known_names: set[str] = set()
    for path in files:
        try:
            document = json.loads((root / path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            findings.append(quarantined("unreadable_label", path, "a COCO document", reason(root / path, error)))
            continue
        parts = [document.get(part) for part in ("images", "annotations", "categories")]
        if not all(isinstance(part, list) and all(isinstance(row, dict) for row in part) for part in parts):
            expected = "a COCO document with lists of images, annotations and categories"
            findings.append(quarantined("unreadable_label", path, expected, "none"))
            continue
        images, annotations, categories = parts
        twice = [each for each, count in Counter(repr(image.get("id")) for image in images).items() if count > 1]
        if twice:
            raise DataError(f"{root / path}: expected every image id once, found {len(twice)} twice ({twice[0]})")
        names = {repr(category.get("id")): str(category.get("name")) for category in categories}
        known_names |= set(map(normalise, names.values()))
        boxes: dict[str, dict[Box, None]] = {repr(image.get("id")): {} for image in images}  # a crowd is there by class
        strays = 0
        for row in annotations:
            item, owner = f"{path}#{row.get('id')}", boxes.get(repr(row.get("image_id")))
            if owner is None:
                found, strays = f"image_id {row.get('image_id')!r}", strays + 1
                if repr(str(row.get("image_id"))) in boxes:
                    found += ", which is text among the images"
                findings.append(quarantined("unreadable_label", item, "an image of this file", found))
                continue
            spelling = names.get(repr(row.get("category_id")), f"category_id {row.get('category_id')!r}")
            category, crowd = normalise(spelling), is_set(row.get("iscrowd"))
            box = Box(
                CROWD if crowd else category, _corners(row), crowd, "" if crowd or spelling == category else spelling
            )
            if all(0 <= value <= 1 for value in box.xyxy):
                found = "numbers of 0 to 1, as of normalised boxes"
                findings.append(quarantined("nan_box", item, "x, y, width and height in pixels", found))
                box = Box(box.category, (float("nan"),) * 4, box.ignore, box.spelling)
            owner[box] = None
        # Without any box nobody has looked for objects, and a box of an unknown image may be one of these.
        nothing = FrameState.EMPTY if annotations and not strays else FrameState.UNLABELLED
        if images and not annotations:
            found = f"{len(images)} images without an annotation"
            findings.append(Finding("no_objects", Action.IGNORED, path, "boxes of objects", found))
        for place, image in enumerate(images):
            own, size = tuple(boxes[repr(image.get("id"))]), (number(image.get("height")), number(image.get("width")))
            state = image.get("state", FrameState.LABELLED if own else nothing)
            known = all(1 <= side < 1e6 for side in size)
            entry = Labels(
                f"{path}#images[{place}]",
                str(image.get("file_name")),
                FrameState(state) if state in list(FrameState) else FrameState.UNLABELLED,
                Boxes(own),
                near=path.rpartition("/")[0],
                split=split_of_labels(path),
                declared_size=(int(size[0]), int(size[1])) if known else None,
            )
            labels.append(entry)
    raw = assemble(listing, places, labels, frozenset(files), findings)
    return replace(raw, categories=frozenset({*known_names, CROWD}))


def _corners(row: dict[str, Any]) -> tuple[float, float, float, float]:
    """Of an annotation's box, else of its outline or mask; NaN where it has none."""
    bbox, outline = row.get("bbox"), row.get("segmentation")
    if isinstance(bbox, list) and len(bbox) == 4:
        x, y, width, height = map(number, bbox)
        return x, y, x + width, y + height
    if bbox is None and isinstance(outline, dict):
        return mask_box(outline.get("counts"), outline.get("size"))
    if bbox is None and isinstance(outline, list) and outline and all(isinstance(each, list) for each in outline):
        values = [number(value) for part in outline for value in part]
        if len(values) >= 6:
            return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    return (float("nan"),) * 4
