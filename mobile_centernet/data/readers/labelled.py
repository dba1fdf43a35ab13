"""Any labelled set as what mAP@0.5 needs: images, and a COCO document in the classes of one model."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product, repeat
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.annotations import Finding, Frame, FrameState, normalise
from mobile_centernet.data.convert import ClassMap, convert, scale_of
from mobile_centernet.data.readers.coco import coco_documents, read_coco_document
from mobile_centernet.data.readers.common import quarantined, walk
from mobile_centernet.data.readers.layouts import (
    IGNORE_REGION,
    VOCABULARIES,
    LabelledSource,
    Layout,
    SourceFrame,
    read_source,
)
from mobile_centernet.data.readers.places import PathIndex, place_images
from mobile_centernet.data.readers.raw import detect
from mobile_centernet.data.readers.records import Labels
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

    `no_class`: boxes by category of the data that the model has no class for, so that they have no say. `taken_as`:
    the class that each category counts as which is called otherwise.
    """

    name: str
    frames: Sequence[EvaluationFrame]
    findings: list[Finding]
    no_class: Mapping[str, int] = field(default_factory=dict)
    taken_as: Mapping[str, str] = field(default_factory=dict)


def read_set(
    root: Path, classes: Sequence[str], split: str | None, images: Path | None, mappings: Mappings, unmapped: Unmapped
) -> EvaluationSet:
    """The set in `root`: a COCO file or folder, a prepared set, or a raw one in any layout.

    Args:
        root: the folder or file.
        classes: of the model, in the order of its labels.
        split: which part; None: the test split of a prepared set, else the only one, and all of any other.
        images: the folder of a COCO file's images; None: one of the usual places.
        mappings: what a category of the data is, beyond those that have a class's name.
        unmapped: what becomes of categories of which nothing is known.

    Raises:
        DataError: there is no such set, or its categories are not `classes` and no mapping says what to do.
    """
    if unknown := sorted({name for name in mappings.values() if name} - set(classes)):
        raise DataError(f"--map: expected classes of the model ({', '.join(classes)}), found {', '.join(unknown)}")
    if root.is_file():
        return _coco_set(root, {root.name: root}, images, None, classes, mappings, unmapped)
    prepared_splits = sorted(path.stem.removeprefix("annotations_") for path in root.glob(annotations_name("*")))
    listing = walk(root)
    if not prepared_splits and detect(listing) is Layout.COCO:
        documents = {path: root / path for path in coco_documents(listing)}
        return _coco_set(root, documents, images, split, classes, mappings, unmapped)
    if not prepared_splits:
        return _raw_set(read_source(root), split, classes, mappings, unmapped)

    if not split:
        only = prepared_splits[0] if len(prepared_splits) == 1 else None
        split = next((name for name in ("test", "val") if name in prepared_splits), only)
        if split is None:
            raise DataError(f"{root}: expected --split, because there are several: {', '.join(prepared_splits)}")
    prepared = PreparedSet(root, split)
    if prepared.classes != tuple(classes):
        raise _other_classes(root, prepared.classes, classes, ", or prepare it again")
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
    findings = [*source.no_labels(), *source.findings]

    def frame(entry: SourceFrame) -> EvaluationFrame:
        def read() -> NDArray[np.uint8]:
            try:
                return decode_image(entry.read(), str(entry.frame.image))
            except OSError as error:
                raise DataError(f"{entry.frame.image}: expected an image ({error.strerror})") from error

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
    return EvaluationSet(f"{source.root}, {source.layout}", frames, findings, *_fates(found, table))


def _coco_images(
    root: Path, documents: Mapping[str, Path], images: Path | None, split: str | None, findings: list[Finding]
) -> tuple[list[tuple[Labels, Path, str]], set[str]]:
    """Each entry of the documents with its image's path and what is wrong with that; the names of all categories."""
    entries: list[Labels] = []
    names: set[str] = set()
    for item, path in documents.items():
        try:
            own, named = read_coco_document(path, item, findings)
        except ValueError as error:
            raise DataError("{}: expected {}, found {}".format(path, *error.args)) from error
        called = path.stem.removeprefix("instances_")  # val2017
        entries += [replace(entry, split=split) for entry in own] if split == called else own
        names |= named
    # Below the folder of a set; beside a file, or in `images/<split>` or `<split>` beside its folder.
    called, beside, above = root.stem.removeprefix("instances_"), root.parent, root.parent.parent
    usual = (beside, beside / "images", above / "images" / called, above / called, above / "images", above)
    for folder in (images,) if images else (root,) if root.is_dir() else usual:
        if not folder.is_dir():
            continue
        places = place_images(walk(folder).images, [])
        index = PathIndex(places)
        matches = [index.find(entry.path, near=entry.near, split=entry.split) for entry in entries]
        if images or root.is_dir() or any(match.position is not None for match in matches):
            break
    else:
        where = (
            f"in {images}, found no folder"
            if images
            else "in one of the usual folders, found none; name theirs by --images"
        )
        raise DataError(f"{root}: expected its images {where}")
    found: list[tuple[Labels, Path, str]] = []
    taken: dict[int, int] = {}  # where each image is in `found`
    for entry, match in zip(entries, matches, strict=True):
        if match.position is None:
            if split in (None, entry.split):
                several = f"several: {', '.join(match.candidates)}" if match.candidates else "none"
                if len(match.candidates) == 1:
                    several = f"only {match.candidates[0]}, elsewhere"
                found.append((entry, folder / entry.path, several))
        elif split in (None, entry.split, places[match.position].split):
            if match.position in taken:
                findings.append(quarantined("duplicate_frame", entry.item, "one entry per image", entry.path))
                if found[taken[match.position]][0].state is FrameState.UNLABELLED:  # the first that knows something
                    found[taken[match.position]] = (entry, folder / places[match.position].path, "")
                continue
            taken[match.position] = len(found)
            found.append((entry, folder / places[match.position].path, ""))
    if split and not found:
        others = ", ".join(sorted({entry.split for entry in entries} - {""})) or "no split"
        raise DataError(f"{root}: expected annotations/instances_{split}.json, found none, but {others}")
    return found, names


def _coco_set(
    root: Path,
    documents: Mapping[str, Path],
    images: Path | None,
    split: str | None,
    classes: Sequence[str],
    mappings: Mappings,
    unmapped: Unmapped,
) -> EvaluationSet:
    """Boxes stay as they are and crowds belong to their own category, so that pycocotools finds the same mAP."""
    findings: list[Finding] = []
    entries, names = _coco_images(root, documents, images, split, findings)
    found = Counter(box.category for entry, _, _ in entries for box in entry.boxes if box.category != IGNORE_REGION)
    table = _class_table(root, found or names, None, classes, mappings, unmapped)

    labels = {name: label for label, name in enumerate(classes)}

    def frame(entry: Labels, image: Path, problem: str) -> EvaluationFrame:
        def read() -> NDArray[np.uint8]:
            if problem:
                raise DataError(f"{image}: expected an image, found {problem}")
            return read_image(image)

        def annotate(size: tuple[int, int]) -> tuple[FrameState, list[Document]]:
            own = Frame(image, entry.path, "", "", entry.state, entry.boxes, entry.declared_size)
            scale, mismatches = scale_of(own, size)
            findings.extend(mismatches)
            if scale is None:
                return FrameState.UNLABELLED, []
            rows, lost = list[Document](), 0
            for number_of_box, box in enumerate(entry.boxes):
                x1, y1, x2, y2 = (value * side for value, side in zip(box.xyxy, scale * 2, strict=True))
                if not (math.isfinite(x1 + y1 + x2 + y2) and x1 <= x2 and y1 <= y2):
                    item = f"{entry.item}: {entry.path}#{number_of_box}"
                    findings.append(quarantined("nan_box", item, "x, y, width and height", str(box.xyxy)))
                    lost += 1
                    continue
                name = table.get(box.category)
                # A region of no class is an excuse for every class.
                every = box.category == IGNORE_REGION or (name is None and unmapped == "ignore")
                bbox, crowd = [x1, y1, x2 - x1, y2 - y1], int(box.ignore or name is None)
                wanted = range(len(classes)) if every else [labels[name]] if name else ()
                rows += [{"category_id": label + 1, "bbox": bbox, "iscrowd": crowd} for label in wanted]
            return FrameState.UNLABELLED if lost and not rows else entry.state, rows

        return EvaluationFrame(entry.path, read, annotate)

    frames = [frame(*each) for each in entries]
    name = str(root) if len(documents) > 1 else str(next(iter(documents.values())))
    return EvaluationSet(name, frames, findings, *_fates(found, table))


def _fates(found: Mapping[str, int], table: Mapping[str, str | None]) -> tuple[dict[str, int], dict[str, str]]:
    """`no_class` and `taken_as` of an `EvaluationSet`."""
    fates = [(category, count, table.get(category)) for category, count in sorted(found.items())]
    no_class = {category: count for category, count, name in fates if name is None}
    return no_class, {category: name for category, _, name in fates if name and normalise(name) != category}


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
    if layout is Layout.BDD100K or unmapped != "refuse":
        for category in VOCABULARIES[Layout.BDD100K] - known.keys():
            table[category] = next((known[name] for name in SYNONYMS.get(category, ()) if name in known), None)
    table |= {normalise(category): name for category, name in mappings.items()}
    categories = set(found)
    unknown = sorted(categories - table.keys())
    if (unknown and unmapped == "refuse") or not any(table.get(category) for category in categories or table):
        raise _other_classes(root, sorted(categories), classes, "" if unmapped == "drop" else ", or --unmapped drop")
    return table | dict.fromkeys(unknown)


def _other_classes(root: Path, found: Iterable[str], classes: Sequence[str], drop: str = "") -> DataError:
    names = ", ".join(each or "boxes without a category" for each in found) or "no box"
    return DataError(
        f"{root}: expected the classes of the model, {', '.join(classes)}, found {names}; "
        f"say what is what by --map CATEGORY=CLASS{drop}"
    )
