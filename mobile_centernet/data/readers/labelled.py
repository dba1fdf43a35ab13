"""Any labelled set as what mAP@0.5 needs: pictures, and a COCO document in the classes of one model."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.annotations import Action, Finding, FrameState, normalise
from mobile_centernet.data.convert import SAME_ASPECT, ClassMap, convert
from mobile_centernet.data.readers.coco import is_coco
from mobile_centernet.data.readers.common import number, quarantined, walk
from mobile_centernet.data.readers.layouts import VOCABULARIES, LabelledSource, Layout, SourceFrame, read_source
from mobile_centernet.data.readers.places import split_of_labels
from mobile_centernet.data.readers.raw import detect
from mobile_centernet.data.store.coco import Document, annotations_name
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError
from mobile_centernet.images import read_image
from mobile_centernet.images.opencv import decode_image

Unmapped = Literal["refuse", "drop", "ignore"]
Mappings = Mapping[str, str | None]
"""A category of the data to a class of the model, or None where it has none."""

# What BDD100K's categories may be called by a model: the first of them that it has.
SYNONYMS: Mapping[str, Sequence[str]] = {
    "bicycle": ("bike",),
    "bike": ("bicycle",),
    "bus": ("vehicle",),
    "car": ("vehicle",),
    "motor": ("motorcycle", "scooter"),
    "motorcycle": ("motor", "scooter"),
    "pedestrian": ("person",),
    "person": ("pedestrian",),
    "truck": ("vehicle",),
}


@dataclass(frozen=True)
class EvaluationFrame:
    """One image. `annotate` makes its image and annotations of the COCO document, once its size is known."""

    name: str
    read: Callable[[], NDArray[np.uint8]]
    annotate: Callable[[tuple[int, int]], tuple[FrameState, list[Document]]]


@dataclass
class EvaluationSet:
    """What is to be evaluated. `findings` grows while frames are annotated.

    `no_class`: boxes by category of the data that the model has no class for, so that they have no say.
    """

    name: str
    frames: Sequence[EvaluationFrame]
    findings: list[Finding]
    no_class: Mapping[str, int] = field(default_factory=dict)


def read_set(
    root: Path, classes: Sequence[str], split: str | None, images: Path | None, mappings: Mappings, unmapped: Unmapped
) -> EvaluationSet:
    """The set in `root`: a COCO file or folder, a prepared set, or a raw one in any layout.

    Args:
        root: the folder or file.
        classes: of the model, in the order of its labels.
        split: which part; None: all of a raw set, the test split of a prepared one, else the only one.
        images: the folder of a COCO file's images; None: one of the usual places.
        mappings: what a category of the data is, beyond those that have a class's name.
        unmapped: what becomes of categories of which nothing is known.

    Raises:
        DataError: there is no such set, or its categories are not `classes` and no mapping says what to do.
    """
    if unknown := sorted({name for name in mappings.values() if name} - set(classes)):
        raise DataError(f"--map: expected classes of the model ({', '.join(classes)}), found {', '.join(unknown)}")
    if root.is_file():
        return _coco_set(root, images, classes, mappings, unmapped)
    prepared_splits = sorted(path.stem.removeprefix("annotations_") for path in root.glob(annotations_name("*")))
    listing = walk(root)
    if not prepared_splits and detect(listing) is Layout.COCO:
        found = [root / path for path in listing.labels if path.lower().endswith(".json") and is_coco(root / path)]
        splits = {}
        for path in found:
            own = path.stem.removeprefix("instances_")
            splits[split_of_labels(path.relative_to(root).as_posix()) if own == path.stem else own] = path
        if split and split not in splits:
            raise DataError(f"{root}: expected annotations/instances_{split}.json, found none")
        if not split and len(splits) > 1:
            raise DataError(f"{root}: expected --split, because there are several: {', '.join(splits)}")
        return _coco_set(splits[split] if split else found[0], images, classes, mappings, unmapped)
    if not prepared_splits:
        return _raw_set(read_source(root), split, classes, mappings, unmapped)

    if not split:
        only = prepared_splits[0] if len(prepared_splits) == 1 else None
        split = next((name for name in ("test", "val") if name in prepared_splits), only)
        if split is None:
            raise DataError(f"{root}: expected --split, because there are several: {', '.join(prepared_splits)}")
    prepared = PreparedSet(root, split)
    if prepared.classes != tuple(classes):
        raise _other_classes(root, prepared.classes, classes)
    by_image: dict[int, list[Document]] = {}
    document = prepared.coco
    for annotation in document["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)

    def frame(index: int, image: Document) -> EvaluationFrame:
        found = (FrameState(image["state"]), by_image.get(image["id"], []))
        return EvaluationFrame(image["file_name"], lambda: prepared.image(index), lambda _size: found)

    frames = [frame(index, image) for index, image in enumerate(document["images"])]
    return EvaluationSet(f"{root}, split {split}", frames, [])


def _raw_set(
    source: LabelledSource, split: str | None, classes: Sequence[str], mappings: Mappings, unmapped: Unmapped
) -> EvaluationSet:
    splits = {entry.frame.split for entry in source.entries}
    entries = [entry for entry in source.entries if split is None or entry.frame.split == split]
    if not entries:
        raise DataError(f"{source.root}: expected split {split!r}, found {', '.join(sorted(filter(None, splits)))}")
    found = Counter(box.category for entry in entries for box in entry.frame.boxes if not box.ignore)
    table = _class_table(source.root, found, source.layout, classes, mappings, unmapped)
    class_map = ClassMap(tuple(classes), table, "ignore" if unmapped == "ignore" else "drop")
    findings = list(source.findings)

    def frame(entry: SourceFrame) -> EvaluationFrame:
        def read() -> NDArray[np.uint8]:
            try:
                return decode_image(entry.read(), str(entry.frame.image))
            except OSError as error:
                raise DataError(f"{entry.frame.image}: expected a picture ({error.strerror})") from error

        def annotate(size: tuple[int, int]) -> tuple[FrameState, list[Document]]:
            converted = convert(entry.frame, class_map, size)
            findings.extend(converted.findings)
            objects = zip(xyxy_to_xywh(converted.boxes).tolist(), converted.labels.tolist(), repeat(0))
            regions = product(xyxy_to_xywh(converted.ignore_boxes).tolist(), range(len(classes)), [1])  # of every class
            return converted.state, [
                {"category_id": label + 1, "bbox": bbox, "iscrowd": crowd}
                for bbox, label, crowd in chain(objects, regions)
            ]

        return EvaluationFrame(entry.frame.name, read, annotate)

    frames = [frame(entry) for entry in entries]
    return EvaluationSet(f"{source.root}, {source.layout}", frames, findings, _without_class(found, table))


def _coco_set(
    path: Path, images: Path | None, classes: Sequence[str], mappings: Mappings, unmapped: Unmapped
) -> EvaluationSet:
    """Boxes stay as they are and crowds belong to their own category, so that pycocotools finds the same mAP."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"broken JSON, {error}"
        raise DataError(f"{path}: expected a COCO document, but it cannot be read ({reason})") from error
    keys = {"images": ("id", "file_name"), "annotations": (), "categories": ("id", "name")}
    for part, needed in keys.items():
        rows = document.get(part) if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(needed) for row in rows):
            expected = f"a list of {part}" + (f" with {' and '.join(needed)}" if needed else "")
            raise DataError(f"{path}: expected a COCO document with {expected}, found none")

    ids = Counter(repr(image["id"]) for image in document["images"])
    if twice := [each for each, count in ids.items() if count > 1]:
        raise DataError(f"{path}: expected every image id once, found {len(twice)} twice ({twice[0]})")
    names = {category["id"]: normalise(str(category["name"])) for category in document["categories"]}
    found = Counter(names[row["category_id"]] for row in document["annotations"] if row.get("category_id") in names)
    table = _class_table(path, found or names.values(), None, classes, mappings, unmapped)
    if images is None:
        # Beside the file, or in `images/<split>` or `<split>` beside its folder.
        split, beside, above = path.stem.removeprefix("instances_"), path.parent, path.parent.parent
        usual = (beside, beside / "images", above / "images" / split, above / split, above / "images", above)
        some = [image["file_name"] for image in document["images"][:20]]
        images = next((folder for folder in usual if any((folder / name).is_file() for name in some)), None)
        if images is None:
            raise DataError(
                f"{path}: expected its pictures in one of the usual folders, found none; name theirs by --images"
            )
    folder, findings = images, list[Finding]()
    labels = {name: label for label, name in enumerate(classes)}
    by_image: dict[Any, list[Document]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        item, bbox = f"{path.name}#{annotation.get('id')}", annotation.get("bbox")
        is_box = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(value, int | float) for value in bbox)
        if annotation.get("image_id") not in by_image or annotation.get("category_id") not in names:
            hint = "none" if annotation.get("image_id") in by_image else f"image_id {annotation.get('image_id')!r}"
            if str(annotation.get("image_id")) in by_image:
                hint += ", which is text among the images"
            findings.append(quarantined("unreadable_label", item, "an image and a category of this file", hint))
        elif not is_box or not all(map(math.isfinite, bbox)) or min(bbox[2:]) < 0:
            findings.append(quarantined("nan_box", item, "x, y, width and height", str(bbox)))
        elif 0 < max(bbox) <= 1:
            findings.append(quarantined("nan_box", item, "pixels", f"{bbox}, as of boxes in shares of the sides"))
        else:
            name = table.get(names[annotation["category_id"]])
            # A region of no class is an excuse for every class.
            wanted = [labels[name]] if name else range(len(classes)) if unmapped == "ignore" else ()
            crowd = int(bool(annotation.get("iscrowd")) or not name)
            rows = [{"category_id": label + 1, "bbox": bbox, "iscrowd": crowd} for label in wanted]
            by_image[annotation["image_id"]] += rows

    def frame(image: Document) -> EvaluationFrame:
        boxes = by_image[image["id"]]
        name = image["file_name"]
        file = folder / (name if (folder / name).is_file() else name.replace("\\", "/"))
        state = FrameState(image.get("state", FrameState.LABELLED))

        def annotate(size: tuple[int, int]) -> tuple[FrameState, list[Document]]:
            declared = number(image.get("height")), number(image.get("width"))
            if declared == size or not all(side > 0 for side in declared):  # NaN is not
                return state, boxes
            scale = size[1] / declared[1], size[0] / declared[0]
            fits, found = abs(scale[0] / scale[1] - 1) <= SAME_ASPECT, f"{declared[1]:g}x{declared[0]:g}"
            action = Action.REPAIRED if fits else Action.QUARANTINED
            findings.append(Finding("size_mismatch", action, name, f"{size[1]}x{size[0]}", found))
            if not fits:
                return FrameState.UNLABELLED, []
            sides = [*scale, *scale]
            scaled = ([value * side for value, side in zip(box["bbox"], sides, strict=True)] for box in boxes)
            return state, [box | {"bbox": bbox} for box, bbox in zip(boxes, scaled, strict=True)]

        return EvaluationFrame(name, lambda: read_image(file), annotate)

    frames = [frame(image) for image in document["images"]]
    return EvaluationSet(str(path), frames, findings, _without_class(found, table))


def _without_class(found: Mapping[str, int], table: Mapping[str, str | None]) -> dict[str, int]:
    return {category: count for category, count in sorted(found.items()) if not table.get(category)}


def _class_table(
    root: Path,
    found: Iterable[str],
    layout: Layout | None,
    classes: Sequence[str],
    mappings: Mappings,
    unmapped: Unmapped,
) -> dict[str, str | None]:
    """What each category is. Raises DataError where there are some of which nobody has said it."""
    known = {normalise(name): name for name in classes}
    table: dict[str, str | None] = dict(known)
    if layout is Layout.BDD100K:
        for category in VOCABULARIES[layout] - known.keys():
            table[category] = next((known[name] for name in SYNONYMS.get(category, ()) if name in known), None)
    table |= {normalise(category): name for category, name in mappings.items()}
    categories = set(found)
    unknown = sorted(categories - table.keys())
    if (unknown and unmapped == "refuse") or not any(table.get(category) for category in categories or table):
        raise _other_classes(root, sorted(categories), classes)
    return table | dict.fromkeys(unknown)


def _other_classes(root: Path, found: Iterable[str], classes: Sequence[str]) -> DataError:
    names = ", ".join(found) or "no box"
    return DataError(
        f"{root}: expected the classes of the model, {', '.join(classes)}, found {names}; "
        "say what is what by --map CATEGORY=CLASS, or --unmapped drop"
    )
