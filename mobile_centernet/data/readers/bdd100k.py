"""Reads BDD100K in any of its three label layouts (Yu et al., CVPR 2020; https://doc.bdd100k.com).

- 2020: `labels/det_20/det_train.json`, a list of `{name, attributes, labels: [...]}`; `labels` may be missing or null.
- 2018: `labels/bdd100k_labels_images_train.json`, the same shape; lanes and drivable areas stand among the labels.
- One file per image: `labels/100k/train/<name>.json`, with `labels` as above or `frames: [{objects: [...]}]`.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hotcoco import mask

from mobile_centernet.data.annotations import Action, Box, Boxes, Finding, FrameState, RawSet, Xyxy, normalise
from mobile_centernet.data.readers.common import Listing, is_set, number, quarantined, reason, walk
from mobile_centernet.data.readers.places import place_images, split_of_labels
from mobile_centernet.data.readers.records import Labels, assemble
from mobile_centernet.errors import DataError

IGNORED_CATEGORIES = frozenset({"other person", "other vehicle", "trailer"})
"""Labelled in 2020, but neither object nor background: BDD100K's own evaluation ignores them."""
ATTRIBUTES = ("weather", "timeofday", "scene")
LAYOUTS = (r"det_\w+\.json", r"bdd100k_labels_images_\w+\.json", r".*\.json")
"""File names of the layouts 2020, 2018 and per image. Where two claim one image, the earlier in this order wins."""
OTHER_TASKS = frozenset({
    "bitmasks", "box_track_20", "color_labels", "drivable", "drivable_maps", "ins_seg", "lane", "pan_seg", "pose_21",
    "seg", "seg_track_20", "sem_seg", "track",
})  # fmt: skip
"""Folders of BDD100K's other tasks, whose images and labels are not detection frames."""
AREAS = frozenset({
    "alternative", "background", "crosswalk", "direct", "double other", "double white", "double yellow", "drivable",
    "drivable area", "lane", "road curb", "single other", "single white", "single yellow",
})  # fmt: skip
"""Categories of lanes and areas, which have outlines but are no objects, as those that begin with lane/ or area/."""
CHUNK, LONGEST_ENTRY = 1 << 20, 1 << 26  # characters: of a label file that are read at once; no frame's entry has more

JsonObject = Mapping[str, Any]  # of a label file
_ATTRIBUTES: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}  # one object for all frames of the same


def read_bdd100k(root: Path, listing: Listing | None = None) -> RawSet:
    """Read every image below `root` with what the label files below `root` say about it.

    Split, video and the image of each label: `mobile_centernet.data.readers.places`. Images of `10k` are read only
    where there is no `100k`, because the two overlap; those of other tasks only where there are no others. Frames
    without an entry, or with `labels` missing or null, are unlabelled; an entry without any box is verified empty. But
    where no entry of a list has a box, or none of the files in a folder and some have lanes or areas, nobody looked for
    objects: all are unlabelled, with one finding. An object's outline or mask gives its box. Crowds and
    `IGNORED_CATEGORIES` become ignore boxes.

    Args:
        root: the folder of the data set.
        listing: its files, where the caller has walked it.

    Returns:
        The frames, and a finding for each label entry that is left out.

    Raises:
        DataError: there is no image below `root`.
    """
    root = Path(root)
    listing = listing or walk(root)
    left_out: dict[str, int] = {}
    images = _without(listing.images, frozenset({"labels"}), "images among the labels", left_out, always=True)
    images = _without(images, OTHER_TASKS, "images of other tasks", left_out)
    if any("100k" in path.split("/") for path in images):
        images = _without(images, frozenset({"10k"}), "images of 10k beside 100k, which overlap", left_out)
    if not images:
        others = "".join(f", {count} {kind}" for kind, count in listing.others.items())
        raise DataError(
            f"{root}: expected BDD100K images (images/100k/train/*.jpg), found none below this folder{others}"
        )
    findings: list[Finding] = []
    places = place_images(images, findings)

    def layout(path: str) -> int:
        name = path.rpartition("/")[2]
        return next(order for order, pattern in enumerate(LAYOUTS) if re.fullmatch(pattern, name, re.IGNORECASE))

    files = [path for path in listing.labels if path.lower().endswith(".json")]
    files = sorted(_without(files, OTHER_TASKS, "", {}), key=layout)
    labels: list[Labels] = []
    groups = defaultdict(list)  # entries that stand or fall together: of a list, or of a folder of single files
    areas: set[str] = set()  # groups with lanes or areas
    for path in files:
        near = path.rpartition("/")[0]
        split, of_one = split_of_labels(path), split_of_labels(path, alone=True)
        for item, entry in _entries(root / path, path, findings):
            own, has_areas = _parse_entry(entry, item, findings)
            if own is None:
                expected, found = "a list of labels, or of frames with objects", "neither"
                if isinstance(entry, dict) and {"images", "annotations"} <= entry.keys():
                    found = "a COCO document (format: coco)"
                elif isinstance(entry, dict):
                    found += f", but {', '.join(map(str, list(entry)[:5]))}"
                findings.append(quarantined("unreadable_label", item, expected, found))
                continue
            group = path if item != path else near
            groups[group].append(len(labels))
            alone = item == path
            labels.append(replace(own, near=near, split=of_one if alone else split, alone=alone))
            areas |= {group} if has_areas else set()
    for group, members in groups.items():
        empty = [each for each in members if labels[each].state is FrameState.EMPTY]
        of_list = empty and not labels[empty[0]].alone
        if (group in areas or of_list) and not any(labels[each].boxes for each in members):
            what = "lanes or areas alone" if group in areas else "no object"
            found = f"{len(members)} entries with {what}: nobody has looked for objects"
            findings.append(Finding("no_objects", Action.IGNORED, group, "boxes of objects", found))
            for each in members:
                labels[each] = replace(labels[each], state=FrameState.UNLABELLED)
    return assemble(listing, places, labels, frozenset(files), findings, left_out)


def _without(
    paths: Sequence[str], folders: frozenset[str], reason: str, left_out: dict[str, int], *, always: bool = False
) -> Sequence[str]:
    """The paths below none of the folders, unless that leaves none; how many others there are goes to `left_out`."""
    kept = [path for path in paths if folders.isdisjoint(path.lower().split("/")[:-1])]
    if not kept and not always:
        return paths
    if len(kept) < len(paths):
        left_out[reason] = len(paths) - len(kept)
    return kept


def _entries(path: Path, item: str, findings: list[Finding]) -> Iterator[tuple[str, JsonObject]]:
    """The entries of one label file, each with its item for findings.

    A list is parsed entry by entry: the file of 2018 is over 1 GB. Where the file is damaged, that is one finding, and
    the entries before the damage are still good.
    """
    decoder, separator = json.JSONDecoder(), re.compile(r"[\s,]*")
    try:
        with path.open("rb") as start:
            encoding = json.detect_encoding(start.read(4))  # some shells write UTF-16
        with path.open(encoding=encoding) as file:
            text = file.read(CHUNK)
            if not text.lstrip().startswith("["):
                document = json.loads(text + file.read())
                frames = document.get("frames") if isinstance(document, dict) else None
                if isinstance(frames, list) and any(
                    isinstance(each, dict) and {"name", "labels"} & each.keys() for each in frames
                ):  # Scalabel's {config, frames}
                    yield from ((f"{item}#{place}", each) for place, each in enumerate(frames))
                else:
                    yield item, document
                return
            text, position, entries = text.lstrip(), 1, 0
            while True:
                separated = separator.match(text, position)
                position = separated.end() if separated else position
                if text.startswith("]", position):
                    if (text[position + 1 :] + file.read()).strip():
                        raise ValueError("more text behind the list")
                    return
                try:
                    entry, position = decoder.raw_decode(text, position)
                except json.JSONDecodeError as error:  # damaged, or more follows after what has been read
                    begun = len(text) - position
                    more = file.read(max(CHUNK, begun)) if begun < LONGEST_ENTRY else ""
                    if not more:
                        raise ValueError(f"{error.msg}, in entry {entries} or behind it") from error
                    text, position = text[position:] + more, 0
                    continue
                yield f"{item}#{entries}", entry
                entries += 1
    except (OSError, ValueError, RecursionError) as error:  # thousands of brackets within each other
        findings.append(quarantined("unreadable_label", item, "BDD100K labels (JSON)", reason(path, error)))


def _parse_entry(entry: JsonObject, item: str, findings: list[Finding]) -> tuple[Labels | None, bool]:
    """What one entry says, None where it is of no known layout; and whether there are lanes or areas in it."""
    if not isinstance(entry, dict) or not {"name", "labels", "frames"} & entry.keys():
        return None, False
    stem = item.rpartition("/")[2].removesuffix(".json")  # files for one image may leave its name to theirs
    name = stem if entry.get("name") in (None, "") else str(entry["name"])
    given = entry.get("attributes")
    given = given if isinstance(given, dict) else {}
    kept = tuple((key, given[key]) for key in ATTRIBUTES if isinstance(given.get(key), str))
    attributes = _ATTRIBUTES.setdefault(kept, dict(kept))
    video = entry.get("videoName") or entry.get("video_name") or ""
    unlabelled = Labels(item, name, FrameState.UNLABELLED, Boxes(), attributes=attributes, video=str(video))

    frames = entry.get("frames")
    objects = entry.get("labels")
    if isinstance(frames, list) and frames and isinstance(frames[0], dict):
        if len(frames) > 1:
            findings.append(quarantined("unreadable_label", item, "one frame", f"{len(frames)} frames of one name"))
            return unlabelled, False
        objects = frames[0].get("objects")
    if objects is None:
        return unlabelled, False
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        return None, False

    boxes, has_areas = [], False
    for each in objects:
        spelling = str(each.get("category", "") if each.get("category") is not None else "")
        category = normalise(spelling)
        corners, outline = each.get("box2d"), each.get("poly2d") or each.get("rle") or each.get("segmentation")
        if corners is None and outline and (category in AREAS or category.startswith(("lane/", "area/"))):
            has_areas = True
            continue
        if isinstance(corners, dict):
            x1, y1, x2, y2 = (number(corners.get(key)) for key in ("x1", "y1", "x2", "y2"))
        else:  # whatever else has no box is an object whose box is missing
            x1, y1, x2, y2 = _around(outline if corners is None else None)
        facts = each.get("attributes")
        is_crowd = isinstance(facts, dict) and any(is_set(facts.get(flag)) for flag in ("crowd", "ignored"))
        ignore = category in IGNORED_CATEGORIES or is_crowd
        boxes.append(Box(category, (x1, y1, x2, y2), ignore, spelling if spelling != category else ""))
    state = FrameState.LABELLED if boxes else FrameState.EMPTY
    return replace(unlabelled, state=state, boxes=Boxes(boxes)), has_areas


def _around(outline: object) -> Xyxy:
    """The box of an outline (`vertices`, or lists of corners) or of a mask (COCO's run lengths); NaN of others."""
    if isinstance(outline, dict):  # a mask: column by column, so many pixels outside, inside, outside, ...
        return mask_box(outline.get("counts"), outline.get("size"))
    corners: list[tuple[float, float]] = []
    todo = [outline]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            todo.append(part.get("vertices"))
        elif isinstance(part, list) and len(part) >= 2 and not isinstance(part[0], (list, dict)):
            corners.append((number(part[0]), number(part[1])))
        elif isinstance(part, list):
            todo += part
    if not corners:
        return (math.nan,) * 4
    xs, ys = zip(*corners, strict=True)
    return (math.nan,) * 4 if any(map(math.isnan, (*xs, *ys))) else (min(xs), min(ys), max(xs), max(ys))


def mask_box(counts: object, size: object) -> Xyxy:
    """The box of a mask in COCO's run lengths, plain or compressed, of (height, width) `size`; NaN where it is none."""
    try:
        sides: list[Any] = size if isinstance(size, list) else []
        height, width = sides
        (encoded,) = mask.frPyObjects([{"counts": counts, "size": [height, width]}], height, width)
        x, y, w, h = map(float, mask.toBbox(encoded))
    except (TypeError, ValueError, OverflowError):  # of no known kind, or more runs than the mask has pixels
        return (math.nan,) * 4
    return (x, y, x + w, y + h) if w > 0 and h > 0 else (math.nan,) * 4
