"""What `mobile-centernet predict` writes beside the drawn pictures: one list of detections, for three kinds of readers.

detections.json   everything: model, thresholds, pictures, detections, and what could not be read
results.json      the detections alone, as pycocotools' `loadRes` takes them
detections.csv    the detections alone, as the embedded detection competition wants them
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from mobile_centernet.boxes import xyxy_to_xywh
from mobile_centernet.detections import Detections
from mobile_centernet.errors import UserError
from mobile_centernet.files import write_atomically, write_json

DOCUMENT, RESULTS, CSV = "detections.json", "results.json", "detections.csv"
CSV_COLUMNS = ("image_filename", "label_id", "x", "y", "w", "h", "confidence")


class Image(TypedDict):
    """A picture or frame that was read, also where nothing was found in it."""

    id: int
    file_name: str
    width: int
    height: int


class Detection(TypedDict):
    """A COCO result with names besides; bbox is x, y, width, height in pixels of the original picture.

    `category_id` is the class's place in the model's list, from 1.
    """

    image_id: int
    file_name: str
    category_id: int
    category: str
    bbox: list[float]
    score: float


class Failure(TypedDict):
    file_name: str
    error: str


class Document(TypedDict):
    """`detections.json`; `threshold` is that of the classes that have none of their own."""

    model: str
    classes: list[str]
    threshold: float
    thresholds: dict[str, float]
    images: list[Image]
    detections: list[Detection]
    errors: list[Failure]


def new_document(model: str, classes: Sequence[str], thresholds: tuple[float, Mapping[str, float]]) -> Document:
    """An empty one. `thresholds`: that of all classes, and those of some."""
    default, own = thresholds
    return Document(
        model=model,
        classes=list(classes),
        threshold=default,
        thresholds={name: own.get(name, default) for name in classes},
        images=[],
        detections=[],
        errors=[],
    )


def add_image(document: Document, name: str, size: tuple[int, int], detections: Detections) -> None:
    """Append a picture of `size` (height, width) and what was found on it."""
    image_id = len(document["images"]) + 1
    document["images"].append({"id": image_id, "file_name": name, "width": size[1], "height": size[0]})
    bboxes = xyxy_to_xywh(detections.boxes).tolist()
    document["detections"] += [
        {
            "image_id": image_id,
            "file_name": name,
            "category_id": label + 1,
            "category": document["classes"][label],
            "bbox": bbox,
            "score": score,
        }
        for bbox, score, label in zip(bboxes, detections.scores.tolist(), detections.labels.tolist(), strict=True)
    ]


def save_document(document: Document, out: Path) -> None:
    """Write the three files into the folder `out`. Raises UserError where that fails."""
    keys = ("image_id", "category_id", "bbox", "score")
    try:
        write_atomically(out / CSV, _csv(document["detections"]).encode(errors="surrogateescape"))
        write_json(out / RESULTS, [{key: dict(row)[key] for key in keys} for row in document["detections"]])
        write_json(out / DOCUMENT, document)
    except OSError as error:
        raise UserError(f"{out}: expected a folder to write to ({error.strerror})") from error


def _csv(detections: Sequence[Detection]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in detections:
        writer.writerow([row["file_name"], row["category_id"], *row["bbox"], row["score"]])
    return text.getvalue()
