"""Any set as one list of frames: raw in any layout, or prepared."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mobile_centernet.data.annotations import Action, Box, Finding, Frame, FrameState, normalise
from mobile_centernet.data.readers.coco import CROWD as IGNORE_REGION
from mobile_centernet.data.readers.common import is_litter, number, quarantined, require_folder, walk
from mobile_centernet.data.readers.raw import Layout, looks_like_yolo, read_raw
from mobile_centernet.data.store.coco import Document, annotations_name, read_document
from mobile_centernet.data.store.prepared import REPORT
from mobile_centernet.data.store.shards import ShardRef
from mobile_centernet.errors import DataError

__all__ = ["IGNORE_REGION", "VOCABULARIES", "LabelledSource", "Layout", "SourceFrame", "read_source"]

VOCABULARIES = {
    Layout.BDD100K: frozenset({
        "bicycle", "bike", "bus", "car", "motor", "motorcycle", "other person", "other vehicle", "pedestrian",
        "person", "rider", "traffic light", "traffic sign", "trailer", "train", "truck",
    }),
    Layout.IVSLAB: frozenset({"vehicle", "pedestrian", "scooter", "bicycle"}),
}  # fmt: skip
"""The categories that the published sets use; BDD100K's of 2018 and of 2020."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame and where the bytes of its image lie: in a file of its own, or at a place in a shard."""

    frame: Frame
    place: ShardRef | None = None

    def read(self) -> bytes:
        """The image's bytes. Raises OSError where they cannot be read."""
        with self.frame.image.open("rb") as file:
            if self.place is None:
                return file.read()
            return os.pread(file.fileno(), self.place.nbytes, self.place.offset)


@dataclass(frozen=True, slots=True)
class LabelledSource:
    """A set as its reader understood it: its frames, what it could not place, the categories it should have."""

    root: Path
    layout: Layout
    entries: tuple[SourceFrame, ...]
    findings: tuple[Finding, ...]
    categories: frozenset[str]
    unread: Mapping[str, int] = field(default_factory=dict)
    label_files: int = 0

    def no_labels(self) -> list[Finding]:
        """Where none of the frames has labels: a finding with what is there instead."""
        if any(entry.frame.state is not FrameState.UNLABELLED for entry in self.entries):
            return []
        unread = [f"{count:,} {kind} files" for kind, count in self.unread.items() if kind.startswith(".")]
        seen = "none, and no label file"
        if unread:
            seen = " and ".join(unread) + " that are not read"
            if self.unread.get(".txt") and looks_like_yolo(walk(self.root)):
                seen += ", which look like YOLO's"
        elif self.label_files:
            seen = f"none that is of use in {self.label_files:,} label files"
        expected = f"labels of {len(self.entries):,} images"
        return [Finding("no_labels", Action.IGNORED, str(self.layout), expected, seen)]


def read_source(root: Path, layout: Layout | None = None) -> LabelledSource:
    """Read the set in `root`, or the only one up to two folders down.

    Args:
        root: the folder of the set, or one above it.
        layout: how the set lies on disk; None: its files tell (what shows none of the others: BDD100K).

    Raises:
        DataError: there is no set, or more than one.
    """
    root = Path(root)
    require_folder(root, f"images and labels in one of the layouts {', '.join(Layout)}")
    seen = _layout(root)
    below = [(root, seen)] if seen else list(_sets_below(root))
    if (layout is None and len({kind for _, kind in below}) > 1) or sum(
        kind is Layout.PREPARED for _, kind in below
    ) > 1:
        several = ", ".join(folder.relative_to(root).as_posix() for folder, _ in below)
        raise DataError(f"{root}: expected one data set, found {len(below)} ({several}): name one of them")
    if layout in (None, Layout.PREPARED) and below and below[0][1] is Layout.PREPARED:
        root, layout = below[0]
    if layout is not Layout.PREPARED:
        if layout is None and len(below) == 1:
            # Narrowed only where nothing that may belong to the set lies elsewhere.
            listing, inside = walk(root), f"{below[0][0].relative_to(root).as_posix()}/"
            if all(path.startswith(inside) for path in (*listing.images, *listing.labels)):
                root = below[0][0]
        layout, raw = read_raw(root, layout)
        entries = tuple(map(SourceFrame, raw.frames))
        used = frozenset(box.category for frame in raw.frames for box in frame.boxes)
        known = raw.categories or VOCABULARIES.get(layout) or used or frozenset({IGNORE_REGION})
        return LabelledSource(root, layout, entries, raw.findings, known, raw.unread, raw.label_files)

    # All splits of a prepared set; one whose annotations cannot be read is a finding.
    prepared: list[SourceFrame] = []
    findings: list[Finding] = []
    categories = {IGNORE_REGION}
    for split in sorted(path.stem.removeprefix("annotations_") for path in root.glob("annotations_*.json")):
        file = annotations_name(split)
        try:
            document = read_document(root, split)
            names = {category.get("id"): normalise(str(category.get("name"))) for category in document["categories"]}
            boxes: dict[int, list[Box]] = {image["id"]: [] for image in document["images"]}
            regions = set()
            for annotation in document["annotations"]:
                owner, region = boxes.get(annotation.get("image_id")), annotation.get("region")
                if owner is None:
                    item, found = f"{file}#{annotation.get('id')}", f"image_id {annotation.get('image_id')}"
                    findings.append(quarantined("missing_image", item, "an annotation of one of the images", found))
                elif not annotation.get("iscrowd"):
                    category = annotation.get("category_id")
                    owner.append(Box(names.get(category, f"category_id {category}"), _xyxy(annotation)))
                elif region not in regions:  # written once per class
                    regions.add(region)
                    owner.append(Box(IGNORE_REGION, _xyxy(annotation), ignore=True))
            of_split = []
            for image in document["images"]:
                place = ShardRef.of(image)
                name, size = image["file_name"].rpartition(".")[0], (image["height"], image["width"])
                own, state = tuple(boxes[image["id"]]), FrameState(image["state"])
                frame = Frame(root / place.shard, name, image["video"], split, state, own, size, image["attributes"])
                of_split.append(SourceFrame(frame, place))
            prepared += of_split
            categories |= set(names.values())
        except (DataError, AttributeError, KeyError, TypeError, ValueError) as error:
            found = str(error).removeprefix(f"{root / file}: ")
            findings.append(quarantined("unreadable_label", file, "a COCO document", found))
    if not prepared:
        raise DataError(f"{root}: expected a prepared set (annotations_<split>.json and shards), found no frame")
    return LabelledSource(root, Layout.PREPARED, tuple(prepared), tuple(findings), frozenset(categories))


def _sets_below(root: Path, levels: int = 2) -> Iterator[tuple[Path, Layout]]:
    """The folders so many levels down that show a layout at first sight, and none inside of those."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not is_litter(path.name)):
        if layout := _layout(folder):
            yield folder, layout
        elif levels > 1:
            yield from _sets_below(folder, levels - 1)


def _layout(folder: Path) -> Layout | None:
    """The layout of a folder that shows one at first sight."""
    if (folder / REPORT).is_file() and any(folder.glob("annotations_*.json")):
        return Layout.PREPARED
    if (folder / "JPEGImages").is_dir() or any(folder.glob("*/JPEGImages")):
        return Layout.IVSLAB
    return Layout.BDD100K if (folder / "images").is_dir() else None


def _xyxy(annotation: Document) -> tuple[float, float, float, float]:
    """The corners of a COCO box; NaN where it has none."""
    bbox = annotation.get("bbox")
    x, y, width, height = map(number, bbox if isinstance(bbox, list) and len(bbox) == 4 else [None] * 4)
    return x, y, x + width, y + height
