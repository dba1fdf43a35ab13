"""Reads BDD100K in any of its three label layouts (Yu et al., CVPR 2020; https://doc.bdd100k.com).

- 2020: `labels/det_20/det_train.json`, a list of `{name, attributes, labels: [...]}`; `labels` may be missing or null.
- 2018: `labels/bdd100k_labels_images_train.json`, the same shape; lanes and drivable areas stand among the labels.
- One file per picture: `labels/100k/train/<name>.json`, with `labels` as above or `frames: [{objects: [...]}]`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

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
_ATTRIBUTES: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}  # one object for all frames of the same


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """What one label entry says about the image called `name` (without suffix)."""

    name: str
    state: FrameState
    boxes: Boxes
    attributes: Mapping[str, str]


def read_bdd100k(root: Path) -> RawSet:
    """Read every image below `root` with what the label files below `root` say about it.

    The split is the folder below `images`, `images/100k` or `images/10k` ("" where an image lies in none), the video
    is the clip part of BDD100K's `<clip>-<frame>` names, otherwise the name itself. Images of `10k` are read only
    where there is no `100k`, because the two overlap. Frames without an entry, or with `labels` missing or null, are
    unlabelled; an entry without any box is verified empty. Crowds and `IGNORED_CATEGORIES` become ignore boxes.

    Args:
        root: the folder of the data set.

    Returns:
        The frames, and a finding for each image or label entry that is left out.

    Raises:
        DataError: there is no image below `root`.
    """
    root = Path(root)
    require_folder(root, "BDD100K pictures (images/100k/train/*.jpg)")
    found = list(find_files(root, IMAGE_SUFFIXES, OTHER_TASKS | {"labels"}))
    if any("100k" in path.relative_to(root).parts for path in found):
        found = [path for path in found if "10k" not in path.relative_to(root).parts]
    if not found:
        raise DataError(f"{root}: expected BDD100K pictures (images/100k/train/*.jpg), found none below this folder")
    images: dict[str, Path] = {}
    findings: list[Finding] = []
    for path in found:
        first = images.setdefault(path.stem, path)
        if first is not path:
            item, kept = (each.relative_to(root).as_posix() for each in (path, first))
            findings.append(quarantined("duplicate_frame", item, "one picture of that name", f"{kept} too"))

    def layout(path: Path) -> int:
        return next(order for order, pattern in enumerate(LAYOUTS) if re.fullmatch(pattern, path.name))

    labels: dict[str, ImageLabels] = {}
    for path in sorted(find_files(root, (".json",), OTHER_TASKS), key=layout):
        for item, entry in _entries(path, path.relative_to(root).as_posix(), findings):
            own = _parse_entry(entry, path)
            if own is None:
                expected = "a list of labels, or of frames with objects"
                findings.append(quarantined("unreadable_label", item, expected, "neither"))
            elif own.name not in images:
                findings.append(quarantined("missing_image", item, f"{own.name}.jpg", "no such picture"))
            elif own.name in labels:
                findings.append(quarantined("duplicate_frame", item, "one entry per picture", own.name))
            else:
                labels[own.name] = own

    unlabelled = ImageLabels("", FrameState.UNLABELLED, Boxes(), {})
    frames = []
    for name, image in images.items():
        own = labels.get(name, unlabelled)
        folders = image.relative_to(root).parts[:-1]
        below = max((place + 1 for place, folder in enumerate(folders) if folder in CONTAINERS), default=0)
        split = folders[below] if below < len(folders) else ""
        clip = CLIP_AND_FRAME.fullmatch(name)
        video = clip[1] if clip else name
        frames.append(Frame(image, name, video, split, own.state, own.boxes, attributes=own.attributes))
    return RawSet(root, tuple(frames), tuple(findings))


def _entries(path: Path, item: str, findings: list[Finding]) -> Iterator[tuple[str, JsonObject]]:
    """The entries of one label file, each with its item for findings.

    A list is parsed entry by entry: the file of 2018 is over 1 GB. Where the file is damaged, that is one finding, and
    the entries before the damage are still good.
    """
    decoder, separator = json.JSONDecoder(), re.compile(r"[\s,]*")
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(CHUNK)
            if not text.lstrip().startswith("["):
                yield item, json.loads(text + file.read())
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
                except json.JSONDecodeError as error:  # damaged, or it goes on after what has been read
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


def _parse_entry(entry: JsonObject, path: Path) -> ImageLabels | None:
    """What one entry says, None where it is of no known layout. Files for one image may leave its name to theirs."""
    if not isinstance(entry, dict) or not {"name", "labels", "frames"} & entry.keys():
        return None
    name = PurePath(str(entry.get("name") or path.stem))
    stem = name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name  # the oldest layout has no suffix
    given = entry.get("attributes")
    given = given if isinstance(given, dict) else {}
    kept = tuple((key, given[key]) for key in ATTRIBUTES if isinstance(given.get(key), str))
    attributes = _ATTRIBUTES.setdefault(kept, dict(kept))

    frames = entry.get("frames")
    objects = entry.get("labels")
    if isinstance(frames, list) and frames and isinstance(frames[0], dict):
        objects = frames[0].get("objects")
    if objects is None:
        return ImageLabels(stem, FrameState.UNLABELLED, Boxes(), attributes)
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        return None

    boxes = []
    for each in objects:
        corners = each.get("box2d")
        if corners is None and each.get("poly2d"):
            continue  # a lane or drivable area; whatever else has no box is an object whose box is missing
        corners = corners if isinstance(corners, dict) else {}
        x1, y1, x2, y2 = (number(corners.get(key)) for key in ("x1", "y1", "x2", "y2"))
        spelling = str(each.get("category"))
        category = normalise(spelling)
        facts = each.get("attributes")
        ignore = category in IGNORED_CATEGORIES or (isinstance(facts, dict) and facts.get("crowd") is True)
        boxes.append(Box(category, (x1, y1, x2, y2), ignore, spelling if spelling != category else ""))
    state = FrameState.LABELLED if boxes else FrameState.EMPTY
    return ImageLabels(stem, state, Boxes(boxes), attributes)
