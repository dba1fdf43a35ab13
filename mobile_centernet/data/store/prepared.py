"""The prepared set: what training, evaluation and calibration read.

A folder with tar shards of JPEG images, `annotations_<split>.json` in COCO format and `report.json`; written by
`mobile_centernet.data.prepare.prepare`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import xywh_to_xyxy
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.coco import Document, read_document
from mobile_centernet.data.store.shards import ShardReader, ShardRef
from mobile_centernet.errors import DataError
from mobile_centernet.images.opencv import decode_image

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One frame of a prepared set. Boxes are xyxy in pixels of the stored image."""

    id: int
    name: str
    video: str
    state: FrameState
    height: int
    width: int
    boxes: NDArray[np.float32]  # [N, 4]
    labels: NDArray[np.int64]  # [N], 0-based
    ignore_boxes: NDArray[np.float32]  # [M, 4]
    attributes: dict[str, str]


class PreparedSet:
    """One split of a prepared folder. May be pickled: a data loader's workers each open their own files.

    Raises DataError where the folder or the split is absent or is not such a set.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root, self.split = Path(root), split
        document = self.coco
        self.classes: tuple[str, ...] = tuple(category["name"] for category in document["categories"])
        self._images: list[Document] = document["images"]
        self._shards = ShardReader(self.root)

        rows = {image["id"]: row for row, image in enumerate(self._images)}
        annotations = document["annotations"]
        objects = [entry for entry in annotations if not entry["iscrowd"]]
        self._boxes, self._box_starts = _by_image(objects, rows)
        owners = np.array([rows[entry["image_id"]] for entry in objects], np.int64)
        labels = np.array([entry["category_id"] - 1 for entry in objects], np.int64)
        self._labels = labels[np.argsort(owners, kind="stable")]
        # An ignore region is written once per class (see `prepare`); here it counts once.
        regions = {entry["region"]: entry for entry in annotations if entry["iscrowd"]}
        self._ignore, self._ignore_starts = _by_image(regions.values(), rows)

    @property
    def coco(self) -> Document:
        """The COCO document of this split, read from disk at each access (it is large, and workers need none)."""
        return read_document(self.root, self.split)

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The stored image, RGB [H, W, 3]. Raises DataError where its shard is missing or damaged."""
        entry = self._images[index]
        place = ShardRef.of(entry)
        try:
            data = self._shards.read(place)
        except OSError as error:
            raise DataError(f"{self.root / place.shard}: expected a shard of images ({error})") from error
        return decode_image(data, f"{self.root / place.shard}: {entry['file_name']}")

    def frame(self, index: int) -> StoredFrame:
        """What is known about one frame."""
        entry = self._images[index]
        objects = slice(self._box_starts[index], self._box_starts[index + 1])
        regions = slice(self._ignore_starts[index], self._ignore_starts[index + 1])
        return StoredFrame(
            id=entry["id"],
            name=entry["file_name"].rpartition(".")[0],
            video=entry["video"],
            state=FrameState(entry["state"]),
            height=entry["height"],
            width=entry["width"],
            boxes=self._boxes[objects],
            labels=self._labels[objects],
            ignore_boxes=self._ignore[regions],
            attributes=dict(entry["attributes"]),
        )


def image_digests(root: Path, document: Document) -> dict[int, str]:
    """Of every image of one split of the prepared folder `root`, by image id: 16 hexadecimal digits."""
    shards = ShardReader(root)
    return {
        image["id"]: hashlib.sha256(shards.read(ShardRef.of(image))).hexdigest()[:16] for image in document["images"]
    }


def _by_image(entries: Iterable[Document], rows: dict[int, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes [T, 4] xyxy ordered by image, and where each image's boxes start [images + 1]."""
    entries = list(entries)
    owners = np.array([rows[entry["image_id"]] for entry in entries], np.int64)
    boxes = xywh_to_xyxy(np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4))
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(rows)))])
    return boxes[np.argsort(owners, kind="stable")].astype(np.float32), starts.astype(np.int64)
