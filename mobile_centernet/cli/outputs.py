"""What commands write: drawn images and videos, complete or absent, and the detections of `predict` in three files.

detections.json   everything: model, thresholds, images, detections, and what could not be read
results.json      the detections alone, as pycocotools' `loadRes` takes them; `evaluate --out` writes it, too
detections.csv    the detections alone, as the embedded detection competition wants them
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.detections import Detections
from mobile_centernet.errors import UserError
from mobile_centernet.evaluation.detect import coco_results
from mobile_centernet.files import write_atomically, write_json
from mobile_centernet.inference.detector import BaseDetector

SOME_FAILED = 3  # exit code: done, except for some bad items
DOCUMENT, RESULTS, CSV, TRUTH = "detections.json", "results.json", "detections.csv", "ground_truth.json"
CSV_COLUMNS = ("image_filename", "label_id", "x", "y", "w", "h", "confidence")


class Image(TypedDict):
    """An image or frame that was read, also where nothing was found in it."""

    id: int
    file_name: str
    width: int
    height: int


class Detection(TypedDict):
    """A COCO result with names besides; bbox is x, y, width, height in pixels of the original image.

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


def make_writable(out: Path) -> None:
    """Make the folder `out` where there is none. Raises UserError where nothing can be written to it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: expected a folder to write to ({error.strerror})") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise UserError(f"{out}: expected a folder to write to (Permission denied)")


def write_files(out: Path, contents: Mapping[str, object]) -> None:
    """Write bytes, and anything else as JSON, by file name into the folder `out`. Raises UserError where it cannot."""
    try:
        for name, content in contents.items():
            if isinstance(content, bytes):
                write_atomically(out / name, content)
            else:
                write_json(out / name, content)
    except OSError as error:
        raise UserError(f"{out}: expected a folder to write to ({error.strerror})") from error


def save_detections(
    out: Path,
    model: BaseDetector,
    thresholds: tuple[float, Mapping[str, float]],
    found: Sequence[tuple[str, tuple[int, int], Detections]],
    errors: list[Failure],
) -> None:
    """Write the three files into the folder `out`.

    Args:
        out: an existing folder.
        model: what made the detections.
        thresholds: the score of the classes that have none of their own, and that of each class.
        found: of each image its name, its size (height, width) and what was found on it.
        errors: the images that could not be read.

    Raises:
        UserError: the folder cannot be written to.
    """
    images: list[Image] = []
    rows: list[Detection] = []
    for image_id, (name, (height, width), detections) in enumerate(found, start=1):
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        rows += [
            {**row, "file_name": name, "category": model.classes[row["category_id"] - 1]}
            for row in coco_results(image_id, detections)
        ]
    document = Document(
        model=model.name,
        classes=list(model.classes),
        threshold=thresholds[0],
        thresholds=dict(thresholds[1]),
        images=images,
        detections=rows,
        errors=errors,
    )
    keys = ("image_id", "category_id", "bbox", "score")
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        name = row["file_name"]
        # A spreadsheet takes such a text for a formula, which may start programs.
        name = f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
        writer.writerow([name, row["category_id"], *row["bbox"], row["score"]])
    results = [{key: dict(row)[key] for key in keys} for row in rows]
    csv_text = table.getvalue().encode(errors="surrogateescape")
    write_files(out, {CSV: csv_text, RESULTS: results, DOCUMENT: document})


def counted(number: int, name: str, plural: str = "") -> str:
    """`1 box`, `1,234 boxes`; `plural` where it is not `name` with an s."""
    return f"{number:,} {name if number == 1 else plural or name + 's'}"


def save_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image, and its folder where that does not exist yet.

    Args:
        path: its suffix names the format.
        image: RGB [H, W, 3].

    Raises:
        UserError: it cannot be written.
    """
    encoded, content = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise UserError(f"{path}: OpenCV cannot write {image.shape[1]}x{image.shape[0]} pixels in this format")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.tobytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


class VideoWriter:
    """An MP4 (MPEG-4) of RGB frames of one size, which appears at `path` when the `with` block ends."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append a frame; an odd last row or column is cut off. Raises UserError where it cannot be written."""
        even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        if self._writer is None:
            self._size = (even.shape[1], even.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._partial), cv2.CAP_FFMPEG, codec, self._fps, self._size)
            if not self._writer.isOpened():
                raise UserError(f"{self._path}: cannot be written (OpenCV opens no MP4 there)")
        if (even.shape[1], even.shape[0]) != self._size:  # a stream may change it on its way
            even = np.asarray(cv2.resize(even, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self._count += 1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Give the file its name, unless there was no frame, or remove it after a failure.

        Raises:
            UserError: not all frames reached the disk.
        """
        try:
            if self._writer is not None:
                self._writer.release()
            if self._writer is not None and failure is None:
                # A full disk makes OpenCV's writer fail in silence.
                capture = cv2.VideoCapture(str(self._partial), cv2.CAP_FFMPEG)
                written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
                capture.release()
                if written != self._count:
                    raise UserError(
                        f"{self._path}: expected {self._count} frames, found {written} written; is the disk full?"
                    )
                self._partial.replace(self._path)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror})") from error
        finally:
            self._partial.unlink(missing_ok=True)
