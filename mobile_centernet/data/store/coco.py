"""The COCO document of one split of a prepared set: how it is written and read.

Beyond COCO, each image has its place in the shards (`shard`, `offset`, `nbytes`), `state`, `video` and `attributes`.
`category_id` is the label + 1. An ignore region must excuse detections of any class, and COCO matches within one
category; so it is written once per class with `iscrowd` and `ignore` 1, all copies with the same `region`.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.annotations import Frame, FrameState
from mobile_centernet.data.convert import CheckedBoxes
from mobile_centernet.data.store.shards import ShardRef
from mobile_centernet.errors import DataError

Document = dict[str, Any]
"""A JSON object."""
SEPARATOR = ",\n"
IMAGE_FIELDS = frozenset({
    "id", "file_name", "width", "height", "shard", "offset", "nbytes", "state", "video", "attributes"
})  # fmt: skip


def annotations_name(split: str) -> str:
    """File name of the COCO document of one split."""
    return f"annotations_{split}.json"


class ImageEntry(NamedTuple):
    """One frame as its document has it, but for its place and all numbers: once written, it is taken as text.

    before:  the image's fields before its place; behind: those behind it
    state:   what is known about the frame
    labels:  by box, 0-based
    boxes:   the fields `bbox` and `area` of each box, in pixels of the stored image
    regions: the same of each ignore region
    """

    before: str
    behind: str
    state: FrameState
    labels: Sequence[int]
    boxes: Sequence[str]
    regions: Sequence[str]

    @classmethod
    def of(cls, frame: Frame, file_name: str, size: tuple[int, int], checked: CheckedBoxes) -> "ImageEntry":
        """`size`: (height, width) of the stored image, in whose pixels the checked boxes are."""
        about = {"state": checked.state, "video": frame.video, "attributes": dict(frame.attributes)}
        boxes, regions = (
            [
                _fields({"bbox": [round(value, 3) for value in xywh], "area": round(xywh[2] * xywh[3], 3)})
                for xywh in xyxy_to_xywh(part.astype(np.float64)).tolist()
            ]
            for part in (checked.boxes, checked.ignore_boxes)
        )
        before = _fields({"file_name": file_name, "width": size[1], "height": size[0]})
        return cls(before, _fields(about), checked.state, checked.labels.tolist(), boxes, regions)


def _fields(document: Document) -> str:
    return json.dumps(document)[1:-1]


class CocoWriter:
    """Writes one COCO document as its frames come, so that a large set needs no more memory than a small one."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._classes = classes
        self._images = 0
        # Images stand behind the annotations; until then they wait on the same disk.
        self._images_file = TemporaryFile("w+", encoding="utf-8", dir=path.parent)  # noqa: SIM115 closed in close()
        self._annotations = 0
        self._regions = 0
        self._file = path.open("w", encoding="utf-8")
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes)]
        self._file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": [')

    def add(self, place: ShardRef, entry: ImageEntry) -> None:
        """Write one frame, whose image is at `place`."""
        self._images += 1
        where = f'"shard": "{place.shard}", "offset": {place.offset}, "nbytes": {place.nbytes}'
        image = f'{{"id": {self._images}, {entry.before}, {where}, {entry.behind}}}'
        self._images_file.write(image if self._images == 1 else f"{SEPARATOR}{image}")
        found = [(label, f'{box}, "iscrowd": 0') for label, box in zip(entry.labels, entry.boxes, strict=True)]
        for region in entry.regions:
            self._regions += 1
            ignored = f'{region}, "iscrowd": 1, "ignore": 1, "region": {self._regions}'
            found += [(label, ignored) for label in range(len(self._classes))]
        lines = [
            f'{{"id": {number}, "image_id": {self._images}, "category_id": {label + 1}, {fields}}}'
            for number, (label, fields) in enumerate(found, self._annotations + 1)
        ]
        if lines:
            self._file.write((SEPARATOR if self._annotations else "\n") + SEPARATOR.join(lines))
        self._annotations += len(lines)

    def close(self) -> None:
        """Complete the document and put it safely on disk."""
        self._file.write('],\n"images": [\n')
        self._images_file.seek(0)
        shutil.copyfileobj(self._images_file, self._file)
        self._images_file.close()
        self._file.write("]}\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> "CocoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_document(root: Path, split: str) -> Document:
    """Read the COCO document of one split of a prepared folder. Raises DataError where there is no such thing."""
    path = root / annotations_name(split)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        present = sorted(found.name for found in root.glob(annotations_name("*")))
        raise DataError(
            f"{path}: expected the annotations of split {split!r}; found {', '.join(present) or 'none'} in {root}"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: expected a COCO document, found broken JSON ({error})") from error
    if not isinstance(document, dict) or not {"images", "annotations", "categories"} <= document.keys():
        raise DataError(f"{path}: expected a COCO document with images, annotations and categories")
    if strangers := [image for image in document["images"] if not image.keys() >= IMAGE_FIELDS]:
        missing = ", ".join(sorted(IMAGE_FIELDS - strangers[0].keys()))
        raise DataError(f"{path}: expected images of a prepared set, found one without {missing}")
    return document
