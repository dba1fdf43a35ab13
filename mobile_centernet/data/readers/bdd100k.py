"""Reads BDD100K in any of its three label layouts (Yu et al., CVPR 2020; https://doc.bdd100k.com).

- 2020: `labels/det_20/det_train.json`, a list of `{name, attributes, labels: [...]}`; `labels` may be missing or null.
- 2018: `labels/bdd100k_labels_images_train.json`, the same shape; lanes and drivable areas stand among the labels.
- One file per picture: `labels/100k/train/<name>.json`, with `labels` as above or `frames: [{objects: [...]}]`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from mobile_centernet.data.annotations import Box, Boxes, Finding, Frame, FrameState, RawSet, normalise
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, find_files, number, quarantined, reason, require_folder
from mobile_centernet.errors import DataError

IGNORED_CATEGORIES = frozenset({"other person", "other vehicle", "trailer"})
"""Labelled in 2020, but neither object nor background: BDD100K's own evaluation ignores them."""
ATTRIBUTES = ("weather", "timeofday", "scene")
LAYOUTS = (r"det_\w+\.json", r"bdd100k_labels_images_\w+\.json", r".*\.json")
"""File names of the layouts 2020, 2018 and per picture. Where two claim one picture, the earlier in this order wins."""
OTHER_TASKS = frozenset({
    "bitmasks", "box_track_20", "color_labels", "drivable", "drivable_maps", "ins_seg", "lane", "pan_seg", "pose_21",
    "seg", "seg_track_20", "sem_seg", "track",
})  # fmt: skip
"""Folders of BDD100K's other tasks, whose pictures and labels are not detection frames."""
CONTAINERS = frozenset({"images", "labels", "100k", "10k"})
CHUNK, LONGEST_ENTRY = 1 << 20, 1 << 26  # characters: of a label file that are read at once; no frame's entry has more
CLIP_AND_FRAME = re.compile(r"([0-9a-f]{8})-[0-9a-f]{8}")

JsonObject = Mapping[str, Any]  # of a label file


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """What one label entry says about the picture called `name` (without suffix)."""

    name: str
    state: FrameState
    boxes: Boxes
    attributes: Mapping[str, str]


def read_bdd100k(root: Path) -> RawSet:
    """Read every picture below `root` with what the label files below `root` say about it.

    The split is the folder below `images`, `images/100k` or `images/10k` ("" where a picture lies in none), the video
    is the clip part of BDD100K's `<clip>-<frame>` names, otherwise the name itself. Pictures of `10k` are read only
    where there is no `100k`, because the two overlap. Frames without an entry, or with `labels` missing or null, are
    unlabelled; an entry without any box is verified empty. Crowds and `IGNORED_CATEGORIES` become ignore boxes.
    Raises DataError where there is no picture below `root`.
    """
    root = Path(root)
    require_folder(root, "BDD100K pictures (images/100k/train/*.jpg)")
    pictures, findings = _pictures(root)
    labels: dict[str, ImageLabels] = {}
    for path in _label_files(root):
        for item, entry in _entries(path, root, findings):
            label = _label(entry, path)
            if label is None:
                expected = "a list of labels, or of frames with objects"
                findings.append(quarantined("unreadable_label", item, expected, "neither"))
            elif label.name not in pictures:
                findings.append(quarantined("missing_image", item, f"{label.name}.jpg", "no such picture"))
            elif label.name in labels:
                findings.append(quarantined("duplicate_frame", item, "one entry per picture", label.name))
            else:
                labels[label.name] = label

    for name in pictures.keys() - labels.keys():
        labels[name] = ImageLabels(name, FrameState.UNLABELLED, Boxes(), {})
    frames = (_frame(root, image, labels[name]) for name, image in pictures.items())
    return RawSet(root, tuple(frames), tuple(findings))


def _frame(root: Path, image: Path, label: ImageLabels) -> Frame:
    clip = CLIP_AND_FRAME.fullmatch(label.name)
    return Frame(
        image=image,
        name=label.name,
        video=clip[1] if clip else label.name,
        split=_split(image.relative_to(root)),
        state=label.state,
        boxes=label.boxes,
        attributes=label.attributes,
    )


def _pictures(root: Path) -> tuple[dict[str, Path], list[Finding]]:
    """The pictures by name; of several with one name, the first by path."""
    found = list(find_files(root, IMAGE_SUFFIXES, OTHER_TASKS | {"labels"}))
    if any("100k" in path.relative_to(root).parts for path in found):
        found = [path for path in found if "10k" not in path.relative_to(root).parts]
    if not found:
        raise DataError(f"{root}: expected BDD100K pictures (images/100k/train/*.jpg), found none below this folder")
    pictures: dict[str, Path] = {}
    findings = []
    for path in found:
        first = pictures.setdefault(path.stem, path)
        if first is not path:
            item, kept = (each.relative_to(root).as_posix() for each in (path, first))
            findings.append(quarantined("duplicate_frame", item, "one picture of that name", f"{kept} too"))
    return pictures, findings


def _split(image: Path) -> str:
    folders = image.parts[:-1]
    below = max((place + 1 for place, name in enumerate(folders) if name in CONTAINERS), default=0)
    return folders[below] if below < len(folders) else ""


def _label_files(root: Path) -> list[Path]:
    """All label files, by layout and then by path."""

    def layout(path: Path) -> int:
        return next(order for order, pattern in enumerate(LAYOUTS) if re.fullmatch(pattern, path.name))

    return sorted(find_files(root, (".json",), OTHER_TASKS), key=layout)


def _entries(path: Path, root: Path, findings: list[Finding]) -> Iterator[tuple[str, JsonObject]]:
    """The entries of one label file, each with its item for findings.

    Where the file is damaged, that is one finding, and the entries before the damage are still good.
    """
    item = path.relative_to(root).as_posix()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(CHUNK)
            if text.lstrip().startswith("["):
                for position, entry in enumerate(_parse_list(text, file)):
                    yield f"{item}#{position}", entry
            else:
                yield item, json.loads(text + file.read())
    except (OSError, ValueError, RecursionError) as error:  # thousands of brackets within each other
        findings.append(quarantined("unreadable_label", item, "BDD100K labels (JSON)", reason(path, error)))


def _parse_list(text: str, file: TextIO) -> Iterator[JsonObject]:
    """Parse a JSON list, of which `text` has been read, entry by entry: the 2018 file is over 1 GB."""
    decoder, separator = json.JSONDecoder(), re.compile(r"[\s,]*")
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
        except json.JSONDecodeError as error:  # damaged, or it goes on behind what has been read
            begun = len(text) - position
            more = file.read(max(CHUNK, begun)) if begun < LONGEST_ENTRY else ""
            if not more:
                raise ValueError(f"{error.msg}, in entry {entries} or behind it") from error
            text, position = text[position:] + more, 0
            continue
        entries += 1
        yield entry


def _objects(entry: JsonObject) -> object:
    """The list of objects of one entry, None where it says nothing about them."""
    frames = entry.get("frames")
    if isinstance(frames, list) and frames and isinstance(frames[0], dict):
        return frames[0].get("objects")
    return entry.get("labels")


def _stem(name: str) -> str:
    """The picture's name without folders and suffix; the oldest layout has no suffix."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _label(entry: JsonObject, path: Path) -> ImageLabels | None:
    """What one entry says, None where it is of no known layout. Files for one picture may leave its name to theirs."""
    if not isinstance(entry, dict) or not {"name", "labels", "frames"} & entry.keys():
        return None
    name = _stem(str(entry.get("name") or path.stem))
    objects = _objects(entry)
    given = entry.get("attributes")
    given = given if isinstance(given, dict) else {}
    attributes = _attributes(*((key, given[key]) for key in ATTRIBUTES if isinstance(given.get(key), str)))
    if objects is None:
        return ImageLabels(name, FrameState.UNLABELLED, Boxes(), attributes)
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        return None
    # Lanes and drivable areas are polygons; whatever else has no box is an object whose box is missing.
    boxes = Boxes(_box(each) for each in objects if each.get("box2d") is not None or not each.get("poly2d"))
    return ImageLabels(name, FrameState.LABELLED if boxes else FrameState.EMPTY, boxes, attributes)


@cache
def _attributes(*items: tuple[str, str]) -> Mapping[str, str]:
    """One object for all frames of the same attributes."""
    return dict(items)


def _box(entry: JsonObject) -> Box:
    spelling = str(entry.get("category"))
    category = normalise(spelling)
    attributes = entry.get("attributes")
    is_crowd = isinstance(attributes, dict) and attributes.get("crowd") is True
    corners = entry.get("box2d")
    x1, y1, x2, y2 = (corners.get(key) if isinstance(corners, dict) else None for key in ("x1", "y1", "x2", "y2"))
    xyxy = number(x1), number(y1), number(x2), number(y2)
    ignore = is_crowd or category in IGNORED_CATEGORIES
    return Box(category, xyxy, ignore, spelling if spelling != category else "")
