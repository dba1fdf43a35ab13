"""A prepared set as plain files for other tools (FiftyOne, CVAT, Ultralytics, pycocotools).

- coco: `images/<split>/*.jpg`, `annotations/instances_<split>.json`.
- yolo: `images/<split>/*.jpg`, `labels/<split>/*.txt` with `class x y width height` per line (0-based class, centre and
  size as shares of the image's sides), `data.yaml` with the names.

Images keep their bytes. Unlabelled frames are left out, because both formats would call them background. Folders in
a frame's name become `__`. Ignore regions stay in COCO as `iscrowd`, once per class; YOLO has no word for them.
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import yaml

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.coco import Document, annotations_name, read_document
from mobile_centernet.data.store.shards import ShardReader, ShardRef
from mobile_centernet.errors import DataError
from mobile_centernet.files import new_folder, write_atomically
from mobile_centernet.images.opencv import decode_image


class ExportFormat(StrEnum):
    """What other tools call their files."""

    COCO = "coco"
    YOLO = "yolo"


@dataclass
class ExportedSplit:
    """What was written of one split, and what was left out."""

    frames: int = 0
    boxes: int = 0
    unlabelled: int = 0
    ignore_regions: int = 0


@dataclass
class Exported:
    """What an export did. `damaged` names frames whose images cannot be read."""

    format: ExportFormat
    splits: dict[str, ExportedSplit] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def export_set(root: Path, format: ExportFormat, out: Path) -> Exported:
    """Write all splits of the prepared set `root` to the new or empty folder `out`; it appears only when complete.

    Damaged images are left out and named. Raises DataError where `root` is no prepared set, two frames end up
    under one name, or `out` is not empty or cannot be written.
    """
    root, result = Path(root), Exported(format)
    splits = sorted(path.stem.removeprefix("annotations_") for path in root.glob(annotations_name("*")))
    if not splits:
        raise DataError(f"{root}: expected a prepared set ({annotations_name('<split>')}), found none")
    names: tuple[str, ...] = ()
    with new_folder(Path(out), "cannot be written", DataError) as folder:
        for split in splits:
            document = read_document(root, split)
            names = tuple(category["name"] for category in document["categories"])
            counts = result.splits[split] = ExportedSplit()
            pictures, shards = folder / "images" / split, ShardReader(root)
            pictures.mkdir(parents=True)
            kept: dict[str, Document] = {}  # by file name, in COCO's words
            for image in document["images"]:
                if image["state"] == FrameState.UNLABELLED:
                    counts.unlabelled += 1
                    continue
                try:
                    data = shards.read(ShardRef.of(image))
                    decode_image(data, image["file_name"], 4)
                except (OSError, DataError):
                    result.damaged.append(f"{split}: {image['file_name']}")
                    continue
                name = image["file_name"].replace("/", "__")
                if name in kept:
                    raise DataError(f"{root}: expected frames of different names, found two that become {name}")
                (pictures / name).write_bytes(data)
                kept[name] = {"id": image["id"], "file_name": name, "width": image["width"], "height": image["height"]}
            counts.frames = len(kept)

            annotations: dict[int, list[Document]] = {image["id"]: [] for image in kept.values()}
            for annotation in document["annotations"]:
                if annotation["image_id"] in annotations:
                    annotations[annotation["image_id"]].append(annotation)
            for each in annotations.values():
                crowds = [annotation for annotation in each if annotation["iscrowd"]]
                counts.boxes += len(each) - len(crowds)
                counts.ignore_regions += len({annotation["region"] for annotation in crowds})
            _write_labels(format, folder, split, document, list(kept.values()), annotations)
        if format is ExportFormat.YOLO:
            filled = {split: f"images/{split}" for split in splits if result.splits[split].frames}
            content = filled | {"names": dict(enumerate(names))}
            (folder / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "utf-8")
    return result


def _write_labels(
    format: ExportFormat,
    folder: Path,
    split: str,
    document: Document,
    images: list[Document],
    annotations: dict[int, list[Document]],
) -> None:
    """One document of a split for COCO; one text file per image for YOLO, an empty one where it is background."""
    if format is ExportFormat.COCO:
        fields = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        rows = [
            {name: annotation[name] for name in fields} | {"segmentation": []}
            for each in annotations.values()
            for annotation in each
        ]
        categories = [{**category, "supercategory": ""} for category in document["categories"]]
        content = {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": rows}
        (folder / "annotations").mkdir(exist_ok=True)
        write_atomically(folder / "annotations" / f"instances_{split}.json", json.dumps(content).encode())
        return
    labels = folder / "labels" / split
    labels.mkdir(parents=True)
    for image in images:
        sides = np.array([image["width"], image["height"]] * 2, np.float64)
        lines = []
        for annotation in annotations[image["id"]]:
            if annotation["iscrowd"]:
                continue
            x, y, width, height = annotation["bbox"]
            shares = np.array([x + width / 2, y + height / 2, width, height]) / sides
            lines.append(f"{annotation['category_id'] - 1} " + " ".join(f"{share:.8f}" for share in shares))
        (labels / image["file_name"]).with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines))
