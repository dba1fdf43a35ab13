"""`mobile-centernet predict`: pictures, a video or a camera in; the same with boxes, and lists of detections, out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mobile_centernet.cli.options import MODEL_HELP
from mobile_centernet.cli.outputs import (
    SOME_FAILED,
    Document,
    Failure,
    VideoWriter,
    add_image,
    new_document,
    save_document,
    save_image,
)
from mobile_centernet.data.readers.common import DECODED_IMAGE_SUFFIXES, DECODED_VIDEO_SUFFIXES
from mobile_centernet.detections import Detections
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.images import read_image
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.load import open_model
from mobile_centernet.inference.stream import detect_stream
from mobile_centernet.inference.video import video_frames
from mobile_centernet.reports.drawing import draw_boxes

# Smaller pictures are drawn enlarged: names would not fit into their boxes.
LEAST_WIDTH = 640

# A camera's frames come as fast as the model is; the drawn video shows them at this pace.
CAMERA_FPS = 10.0

Looked = tuple[str, NDArray[np.uint8], Detections]
"""Name, picture and everything that the model said about it."""


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--model", metavar="MODEL", required=True, help=MODEL_HELP)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--threshold", "thresholds", multiple=True, default=("0.3",), show_default=True, help="SCORE, or CLASS=SCORE."
)
@click.option("--no-drawing", is_flag=True, help="Write detections only, no drawings.")
@click.option("--frames", type=click.IntRange(min=1), help="Stop a video or camera after so many frames.")
@click.pass_context
def predict(
    ctx: click.Context,
    source: str,
    model: str,
    out: Path,
    thresholds: Sequence[str],
    no_drawing: bool,
    frames: int | None,
) -> None:
    """Draw detections on SOURCE: an image, all below a folder, a video file, or a camera's number (until Ctrl-C).

    OUT/detections.json lists all, results.json is for pycocotools, detections.csv is as the competition wants it.
    Exit code 3: some images or frames could not be read; they are listed under "errors".
    """
    # What OpenCV and FFmpeg print about broken files, our own error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    taken = _source(source, out, frames)
    with open_model(model) as opened:
        document = new_document(opened.name, opened.classes, _thresholds(thresholds, opened.classes))
        _make(out)
        drawing = None if no_drawing else _drawing(taken, out)
        _detect(opened, taken, document, drawing)
    if not document["images"]:
        raise UserError(_nothing(source, taken.unit, document["errors"]))
    save_document(document, out)
    ctx.exit(_summarise(document, taken.unit, out))


@dataclass(frozen=True)
class Pictures:
    """Picture files below a folder."""

    root: Path
    paths: Sequence[Path]
    unit = "picture"

    def __len__(self) -> int:
        return len(self.paths)

    def look(self, model: BaseDetector) -> Iterator[Looked | Failure]:
        for path in self.paths:
            name = path.relative_to(self.root).as_posix()
            try:
                image = read_image(path)
            except DataError as error:
                yield {"file_name": name, "error": str(error)}
                continue
            yield name, image, model.detect(image)


@dataclass(frozen=True)
class Video:
    """A video file, every frame of it, or a camera, whose late frames are dropped."""

    source: Path | int
    announced: int
    fps: float
    limit: int | None
    unit = "frame"

    def __len__(self) -> int:
        return min(self.announced, self.limit or self.announced)

    def look(self, model: BaseDetector) -> Iterator[Looked | Failure]:
        is_camera, index = isinstance(self.source, int), -1
        stream = detect_stream(model.detect, video_frames(self.source), drop_late=is_camera)
        try:
            for found in islice(stream, self.limit):
                index = found.index
                yield self.name(index), found.image, found.detections
        finally:
            stream.close()
        if index + 1 < len(self):
            yield {
                "file_name": self.name(index + 1),
                "error": f"{self.source}: expected {self.announced} frames, found {index + 1} that decode",
            }

    def name(self, index: int) -> str:
        """As ivslab names the frames of its videos."""
        video = f"camera{self.source}" if isinstance(self.source, int) else self.source.name
        return f"{video}_{index:05d}.jpg"


def _source(source: str, out: Path, limit: int | None) -> Pictures | Video:
    path = Path(source)
    if source.isdecimal() and not path.exists():
        return Video(int(source), 0, CAMERA_FPS, limit)
    if path.is_file() and path.suffix.lower() in DECODED_VIDEO_SUFFIXES:
        _refuse_overwriting(out, path.parent)
        return _video(path, limit)
    return _pictures(path, out)


def _video(path: Path, limit: int | None) -> Video:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError(f"{path}: expected a video, found {path.stat().st_size} bytes that do not open as one")
        announced, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    return Video(path, max(announced, 0), fps if fps > 0 else CAMERA_FPS, limit)


def _pictures(source: Path, out: Path) -> Pictures:
    """Names are relative to the folder; pictures that an earlier run left in `out` are not taken."""
    if source.is_file():
        root, pictures = source.parent, [source]
    elif source.is_dir():
        inside = (path for path in sorted(source.rglob("*")) if path.suffix.lower() in DECODED_IMAGE_SUFFIXES)
        root, pictures = source, [path for path in inside if out.resolve() not in path.resolve().parents]
    else:
        raise UserError(
            f"{source}: expected a picture or a folder of pictures, a video, or the number of a camera, found nothing"
        )
    _refuse_overwriting(out, root)
    if not pictures:
        raise UserError(f"{source}: expected pictures ({', '.join(sorted(DECODED_IMAGE_SUFFIXES))}), found none")
    return Pictures(root, pictures)


def _refuse_overwriting(out: Path, folder: Path) -> None:
    if out.resolve() == folder.resolve():
        raise UserError(f"{out}: expected another folder than that of the source, which would be overwritten")


def _thresholds(texts: Sequence[str], classes: Sequence[str]) -> tuple[float, Mapping[str, float]]:
    """That of all classes, and those of some."""
    default, own = 0.3, {}
    for text in texts:
        name, _, score = text.rpartition("=")
        try:
            value = float(score)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UserError(f"--threshold: expected a score in 0..1 or CLASS=SCORE, found {text!r}")
        if not name:
            default = value
        elif name in classes:
            own[name] = value
        else:
            raise UserError(f"--threshold: expected one of the model's classes ({', '.join(classes)}), found {name!r}")
    return default, own


Drawing = Path | VideoWriter
"""A folder for pictures, or one video."""


def _drawing(source: Pictures | Video, out: Path) -> Drawing:
    if isinstance(source, Pictures):
        return out
    name = f"camera{source.source}.mp4" if isinstance(source.source, int) else f"{source.source.stem}.mp4"
    return VideoWriter(out / name, source.fps)


def _detect(model: BaseDetector, source: Pictures | Video, document: Document, drawing: Drawing | None) -> None:
    total = len(source) or (source.limit if isinstance(source, Video) else None)
    # A camera has no end but the user's Ctrl-C: what was found until then is kept.
    is_camera = isinstance(source, Video) and isinstance(source.source, int)
    stoppable = (KeyboardInterrupt,) if is_camera else ()
    try:
        with suppress(*stoppable):
            for looked in tqdm(source.look(model), "detecting", total, unit=source.unit, disable=None):
                if isinstance(looked, dict):
                    document["errors"].append(looked)
                else:
                    _keep(looked, document, drawing)
        if isinstance(drawing, VideoWriter):
            drawing.finish()
    finally:
        if isinstance(drawing, VideoWriter):
            drawing.discard()


def _keep(looked: Looked, document: Document, drawing: Drawing | None) -> None:
    name, image, detections = looked
    kept = detections.above(document["thresholds"])
    add_image(document, name, (image.shape[0], image.shape[1]), kept)
    if drawing is None:
        return
    width = max(image.shape[1], LEAST_WIDTH)
    drawn = draw_boxes(image, kept.boxes, kept.labels, document["classes"], kept.scores, width=width)
    if isinstance(drawing, VideoWriter):
        drawing.add(drawn)
    else:
        save_image(drawing / name, drawn)


def _nothing(source: str, unit: str, errors: Sequence[Failure]) -> str:
    if not errors:
        return f"{source}: expected at least one {unit}, found none"
    return f"no {unit} could be read, of {len(errors)} tried; first {errors[0]['error']}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: expected a folder to write to ({error.strerror})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: expected a folder to write to (Permission denied)")


def _summarise(document: Document, unit: str, out: Path) -> int:
    errors = document["errors"]
    click.echo(f"{_count(document['detections'], 'detection')} in {_count(document['images'], unit)} → {out}")
    if not errors:
        return 0
    click.echo(f"{_count(errors, unit)} could not be read: {_names(errors)}", err=True)
    return SOME_FAILED


def _count(items: Sequence[object], name: str) -> str:
    return f"{len(items)} {name}{'' if len(items) == 1 else 's'}"


def _names(errors: Sequence[Failure], most: int = 3) -> str:
    names = ", ".join(failure["file_name"] for failure in errors[:most])
    return names if len(errors) <= most else f"{names}, … (all in detections.json)"
