"""`mobile-centernet predict`: pictures in, pictures with boxes and one JSON file of detections out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.edge.runtime import Detector
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.evaluation.drawing import draw_boxes
from mobile_centernet.files import write_atomically, write_json
from mobile_centernet.preprocessing import read_image

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
SOME_FAILED = 3

# Smaller pictures are drawn enlarged: names would not fit into their boxes.
LEAST_WIDTH = 640


class Image(TypedDict):
    """A picture that was read, also where nothing was found in it."""

    file_name: str
    width: int
    height: int


class Detection(TypedDict):
    """A COCO result with names for ids; bbox is x, y, width, height in pixels of the original picture."""

    file_name: str
    category: str
    bbox: list[float]
    score: float


class Failure(TypedDict):
    file_name: str
    error: str


class Document(TypedDict):
    """`detections.json`."""

    model: str
    classes: list[str]
    threshold: float
    images: list[Image]
    detections: list[Detection]
    errors: list[Failure]


def predict(source: Path, model: Path, out: Path, threshold: float) -> int:
    """Detect on one picture or on all below a folder, and write `out`. Returns 3 when some could not be read, else 0.

    Raises UserError when nothing can be read or written, or the model is not ours.
    """
    # What OpenCV prints about a broken picture, our own error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    root, pictures = _pictures(source, out)
    detector = Detector(model)
    _make(out)
    document = Document(
        model=model.name,
        classes=list(detector.classes),
        threshold=threshold,
        images=[],
        detections=[],
        errors=[],
    )
    for picture in tqdm(pictures, desc="detecting", unit="picture", disable=None):
        name = picture.relative_to(root)
        try:
            image = read_image(picture)
        except DataError as error:
            document["errors"].append({"file_name": name.as_posix(), "error": str(error)})
            continue
        _detect(detector, image, name, out, document)
    if not document["images"]:
        raise UserError(f"no picture could be read, of {len(pictures)} tried; first {document['errors'][0]['error']}")
    _save_document(out / "detections.json", document)
    return _summarise(document, out)


def _pictures(source: Path, out: Path) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the pictures; not those an earlier run left in `out`."""
    if source.is_file():
        root, pictures = source.parent, [source]
    elif source.is_dir():
        inside = (path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES)
        root, pictures = source, [path for path in inside if out.resolve() not in path.resolve().parents]
    else:
        raise UserError(f"{source}: expected a picture or a folder of pictures, found nothing")
    if out.resolve() == root.resolve():
        raise UserError(f"{out}: expected another folder than that of the pictures, which would be overwritten")
    if not pictures:
        raise UserError(f"{source}: expected pictures ({', '.join(sorted(SUFFIXES))}), found none")
    return root, pictures


def _detect(detector: Detector, image: NDArray[np.uint8], name: Path, out: Path, document: Document) -> None:
    boxes, scores, labels = detector.detect(image)
    kept = scores >= document["threshold"]
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    height, width = image.shape[:2]
    document["images"].append({"file_name": name.as_posix(), "width": width, "height": height})
    sizes = boxes[:, 2:] - boxes[:, :2]
    document["detections"] += [
        {
            "file_name": name.as_posix(),
            "category": detector.classes[label],
            "bbox": bbox.tolist(),
            "score": float(score),
        }
        for bbox, score, label in zip(np.hstack((boxes[:, :2], sizes)), scores, labels, strict=True)
    ]
    drawn = draw_boxes(image, boxes, labels, detector.classes, scores, width=max(width, LEAST_WIDTH))
    _save_picture(out / name, drawn)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: expected a folder to write to ({error.strerror})") from error


def _save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    _make(path.parent)
    encoded, content = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise UserError(f"{path}: OpenCV cannot write a picture of this kind")
    try:
        write_atomically(path, content.tobytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _save_document(path: Path, document: Document) -> None:
    try:
        write_json(path, document)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _summarise(document: Document, out: Path) -> int:
    errors = document["errors"]
    click.echo(f"{_count(document['detections'], 'detection')} in {_count(document['images'], 'picture')} → {out}")
    if not errors:
        return 0
    click.echo(f"{_count(errors, 'picture')} could not be read: {_names(errors)}", err=True)
    return SOME_FAILED


def _count(items: Sequence[object], name: str) -> str:
    return f"{len(items)} {name}{'' if len(items) == 1 else 's'}"


def _names(errors: Sequence[Failure], most: int = 3) -> str:
    names = ", ".join(failure["file_name"] for failure in errors[:most])
    return names if len(errors) <= most else f"{names}, … (all in detections.json)"
