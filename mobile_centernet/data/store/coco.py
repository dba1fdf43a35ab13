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
from typing import Any, Self

import numpy as np

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.data.annotations import Frame
from mobile_centernet.data.convert import CheckedBoxes
from mobile_centernet.data.store.shards import ShardRef
from mobile_centernet.errors import DataError

Document = dict[str, Any]
"""A JSON object."""
IMAGE_FIELDS = frozenset({
    "id", "file_name", "width", "height", "shard", "offset", "nbytes", "state", "video", "attributes"
})  # fmt: skip


def annotations_name(split: str) -> str:
    """File name of the COCO document of one split."""
    return f"annotations_{split}.json"


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

    def add(
        self, frame: Frame, file_name: str, size: tuple[int, int], place: ShardRef, converted: CheckedBoxes
    ) -> None:
        """Write one frame whose stored image is `size` (height, width) and whose boxes are in its pixels."""
        self._images += 1
        image = {
            "id": self._images,
            "file_name": file_name,
            "width": size[1],
            "height": size[0],
            **place._asdict(),
            "state": converted.state,
            "video": frame.video,
            "attributes": dict(frame.attributes),
        }
        self._images_file.write(("" if self._images == 1 else ",\n") + json.dumps(image))
        boxes, ignored_boxes = (
            xyxy_to_xywh(part.astype(np.float64)).tolist() for part in (converted.boxes, converted.ignore_boxes)
        )
        for xywh, label in zip(boxes, converted.labels.tolist(), strict=True):
            self._annotate(self._images, label + 1, xywh, {"iscrowd": 0})
        for xywh in ignored_boxes:
            self._regions += 1
            for label in range(len(self._classes)):
                ignored = {"iscrowd": 1, "ignore": 1, "region": self._regions}
                self._annotate(self._images, label + 1, xywh, ignored)

    def _annotate(self, image_id: int, category_id: int, xywh: Sequence[float], flags: dict[str, int]) -> None:
        self._annotations += 1
        annotation = {
            "id": self._annotations,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [round(value, 3) for value in xywh],
            "area": round(xywh[2] * xywh[3], 3),
            **flags,
        }
        self._file.write(("\n" if self._annotations == 1 else ",\n") + json.dumps(annotation))

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

    def __enter__(self) -> Self:
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
