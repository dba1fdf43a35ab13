"""Any labelled set as what mAP@0.5 needs: pictures, and a COCO document in the classes of one model."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Finding, FrameState, normalise
from mobile_centernet.data.convert import ClassMap, Converted, convert
from mobile_centernet.data.readers.common import quarantined
from mobile_centernet.data.readers.layouts import VOCABULARIES, LabelledSource, Layout, SourceFrame, read_source
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
    """One picture. `annotate` makes its image and annotations of the COCO document, once its size is known."""

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
    """The set in `root`: a COCO file or folder, a prepared set, raw BDD100K or raw ivslab.

    Raises DataError where there is none, or its categories are not `classes` and no mapping says what to do.
    """
    if strangers := sorted({name for name in mappings.values() if name} - set(classes)):
        raise DataError(f"--map: expected classes of the model ({', '.join(classes)}), found {', '.join(strangers)}")
    annotations = coco_file(root, split)
    if annotations is not None:
        return _coco_set(annotations, images, classes, mappings, unmapped)
    if any(root.glob(annotations_name("*"))):
        return _prepared_set(root, _prepared_split(root, split), classes)
    return _raw_set(read_source(root), split, classes, mappings, unmapped)


def coco_file(root: Path, split: str | None) -> Path | None:
    """The annotation file where `root` is one, or a folder in COCO's own layout; None for other layouts."""
    if root.is_file():
        return root
    found = sorted((root / "annotations").glob("instances_*.json"))
    if split:
        found = [path for path in found if path.stem.removeprefix("instances_") == split] if found else []
        if not found and any((root / "annotations").glob("instances_*.json")):
            raise DataError(f"{root}: expected annotations/instances_{split}.json, found none")
    if len(found) > 1:
        names = ", ".join(path.stem.removeprefix("instances_") for path in found)
        raise DataError(f"{root}: expected --split, because there are several: {names}")
    return found[0] if found else None


def _prepared_split(root: Path, split: str | None) -> str:
    if split:
        return split
    found = sorted(path.stem.removeprefix("annotations_") for path in root.glob(annotations_name("*")))
    chosen = next((name for name in ("test", "val") if name in found), found[0] if len(found) == 1 else None)
    if chosen is None:
        raise DataError(f"{root}: expected --split, because there are several: {', '.join(found)}")
    return chosen


def _prepared_set(root: Path, split: str, classes: Sequence[str]) -> EvaluationSet:
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
    no_class = _without_class(found, table)
    result = EvaluationSet(f"{source.root}, {source.layout}", [], list(source.findings), no_class)
    result.frames = [_raw_frame(entry, class_map, result.findings) for entry in entries]
    return result


def _raw_frame(entry: SourceFrame, class_map: ClassMap, findings: list[Finding]) -> EvaluationFrame:
    def read() -> NDArray[np.uint8]:
        try:
            return decode_image(entry.read(), str(entry.frame.image))
        except OSError as error:
            raise DataError(f"{entry.frame.image}: expected a picture ({error.strerror})") from error

    def annotate(size: tuple[int, int]) -> tuple[FrameState, list[Document]]:
        converted = convert(entry.frame, class_map, size)
        findings.extend(converted.findings)
        return converted.state, list(_annotations(converted, len(class_map.classes)))

    return EvaluationFrame(entry.frame.name, read, annotate)


def _annotations(converted: Converted, classes: int) -> Iterable[Document]:
    for xyxy, label in zip(converted.boxes.tolist(), converted.labels.tolist(), strict=True):
        yield {"category_id": label + 1, "bbox": _xywh(xyxy), "iscrowd": 0}
    for xyxy in converted.ignore_boxes.tolist():
        yield from ({"category_id": label + 1, "bbox": _xywh(xyxy), "iscrowd": 1} for label in range(classes))


def _xywh(xyxy: Sequence[float]) -> list[float]:
    return [xyxy[0], xyxy[1], xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]]


def _coco_set(
    path: Path, images: Path | None, classes: Sequence[str], mappings: Mappings, unmapped: Unmapped
) -> EvaluationSet:
    """Boxes stay as they are and crowds belong to their own category, so that pycocotools finds the same mAP."""
    document = _read_coco(path)
    names = {category["id"]: normalise(str(category["name"])) for category in document["categories"]}
    table = _class_table(path, names.values(), None, classes, mappings, unmapped)
    found = Counter(names[row["category_id"]] for row in document["annotations"] if row.get("category_id") in names)
    folder, findings = images or _picture_folder(path, document), list[Finding]()
    labels = {name: label for label, name in enumerate(classes)}
    by_image: dict[Any, list[Document]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        item, bbox = f"{path.name}#{annotation.get('id')}", annotation.get("bbox")
        if annotation.get("image_id") not in by_image or annotation.get("category_id") not in names:
            findings.append(quarantined("unreadable_label", item, "an image and a category of this file", "none"))
        elif not _is_box(bbox):
            findings.append(quarantined("nan_box", item, "x, y, width and height", str(bbox)))
        else:
            name = table.get(names[annotation["category_id"]])
            # A region of no class is an excuse for every class.
            wanted = [labels[name]] if name else range(len(classes)) if unmapped == "ignore" else ()
            crowd = int(bool(annotation.get("iscrowd")) or not name)
            rows = [{"category_id": label + 1, "bbox": bbox, "iscrowd": crowd} for label in wanted]
            by_image[annotation["image_id"]] += rows

    def frame(image: Document) -> EvaluationFrame:
        boxes = by_image[image["id"]]
        state = FrameState(image.get("state", FrameState.LABELLED))
        return EvaluationFrame(
            image["file_name"], lambda: read_image(folder / image["file_name"]), lambda _size: (state, boxes)
        )

    frames = [frame(image) for image in document["images"]]
    return EvaluationSet(str(path), frames, findings, _without_class(found, table))


def _without_class(found: Mapping[str, int], table: Mapping[str, str | None]) -> dict[str, int]:
    return {category: count for category, count in sorted(found.items()) if not table.get(category)}


def _read_coco(path: Path) -> Document:
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
    return dict(document)


def _picture_folder(path: Path, document: Document) -> Path:
    """Where the first picture lies: beside the file, or in `images/<split>` or `<split>` beside its folder."""
    split = path.stem.removeprefix("instances_")
    beside, above = path.parent, path.parent.parent
    places = (beside, beside / "images", above / "images" / split, above / split, above / "images", above)
    names = [image["file_name"] for image in document["images"][:20]]
    for folder in places:
        if any((folder / name).is_file() for name in names):
            return folder
    raise DataError(f"{path}: expected its pictures in one of the usual folders, found none; name theirs by --images")


def _is_box(bbox: object) -> bool:
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in bbox)
        and min(bbox[2:]) >= 0
    )


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
    strangers = sorted(categories - table.keys())
    if (strangers and unmapped == "refuse") or not any(table.get(category) for category in categories or table):
        raise _other_classes(root, sorted(categories), classes)
    return table | dict.fromkeys(strangers)


def _other_classes(root: Path, found: Iterable[str], classes: Sequence[str]) -> DataError:
    names = ", ".join(found) or "no box"
    return DataError(
        f"{root}: expected the classes of the model, {', '.join(classes)}, found {names}; "
        "say what is what by --map CATEGORY=CLASS, or --unmapped drop"
    )
