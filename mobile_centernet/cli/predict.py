"""`mobile-centernet predict`: images, a video or a camera in; the same with boxes, and lists of detections, out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
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
    Failure,
    VideoWriter,
    counted,
    make_writable,
    save_detections,
    save_image,
)
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, VIDEO_SUFFIXES, walk
from mobile_centernet.data.readers.video import shown_frames
from mobile_centernet.detections import Detections
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.images import read_image
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.load import open_model
from mobile_centernet.inference.stream import detect_stream
from mobile_centernet.inference.video import video_frames
from mobile_centernet.reports.drawing import draw_boxes

# Smaller images are drawn enlarged: names would not fit into their boxes.
LEAST_WIDTH = 640

# A camera's frames come as fast as the model is; the drawn video shows them at this pace.
CAMERA_FPS = 10.0


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
    Images are turned upright as their EXIF orientation says.
    Exit code 3: some images or frames could not be read; they are listed under "errors".
    """
    # What OpenCV and FFmpeg print about broken files, our own error says in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    media = _open_source(source, out, frames)
    with open_model(model) as detector:
        least = _thresholds(thresholds, detector.classes)
        make_writable(out)

        drawing: VideoWriter | nullcontext[None] = nullcontext()
        if isinstance(media, Video) and not no_drawing:
            drawing = VideoWriter(out / f"{media.stem}.mp4", media.fps)
        with drawing as video:
            found: list[tuple[str, tuple[int, int], Detections]] = []
            errors: list[Failure] = []
            results = media.detect(detector, errors)
            try:
                for name, image, detections in tqdm(results, "detecting", media.total, unit=media.unit, disable=None):
                    kept = detections.above(least[1])
                    found.append((name, (image.shape[0], image.shape[1]), kept))
                    if no_drawing:
                        continue
                    width = max(image.shape[1], LEAST_WIDTH)
                    drawn = draw_boxes(image, kept.boxes, kept.labels, detector.classes, kept.scores, width=width)
                    if video:
                        video.add(drawn)
                    else:
                        save_image(out / name, drawn)
            except KeyboardInterrupt:
                if not media.is_camera:  # which has no end but this one: what was found until then is kept
                    raise

    if not found and errors:
        raise UserError(f"no {media.unit} could be read, of {len(errors)} tried; first {errors[0]['error']}")
    if not found:
        raise UserError(f"{source}: expected at least one {media.unit}, found none")
    save_detections(out, detector, least, found, errors)
    boxes = sum(len(detections.boxes) for _, _, detections in found)
    click.echo(f"{counted(boxes, 'detection')} in {counted(len(found), media.unit)} → {out}")
    if errors:
        names = ", ".join(failure["file_name"] for failure in errors[:3])
        more = ", … (all in detections.json)" if len(errors) > 3 else ""
        click.echo(f"{counted(len(errors), media.unit)} could not be read: {names}{more}", err=True)
        ctx.exit(SOME_FAILED)


Found = tuple[str, NDArray[np.uint8], Detections]
"""File name, image (RGB [H, W, 3]) and everything that the model found on it."""


@dataclass(frozen=True)
class Images:
    """Image files below a folder."""

    root: Path
    paths: Sequence[Path]
    unit = "picture"
    is_camera = False

    @property
    def total(self) -> int:
        return len(self.paths)

    def detect(self, detector: BaseDetector, errors: list[Failure]) -> Iterator[Found]:
        """Images that cannot be read are appended to `errors`; names are relative to the folder."""
        for path in self.paths:
            name = path.relative_to(self.root).as_posix()
            try:
                image = read_image(path, upright=True)
            except DataError as error:
                errors.append({"file_name": name, "error": str(error)})
                continue
            yield name, image, detector.detect(image)


@dataclass(frozen=True)
class Video:
    """A video file, every frame of it, or a camera, whose late frames are dropped.

    Attributes:
        source: the file, or the camera's number.
        announced: how many frames a player shows; 0 for a camera.
        fps: frames per second of the drawn video.
        limit: stop after so many frames.
        half: the number of the frame that is cut off, so that FFmpeg makes up the rest of it; None without one.
    """

    source: Path | int
    announced: int
    fps: float
    limit: int | None
    half: int | None = None
    unit = "frame"

    @property
    def is_camera(self) -> bool:
        return isinstance(self.source, int)

    @property
    def stem(self) -> str:
        return f"camera{self.source}" if isinstance(self.source, int) else self.source.stem

    @property
    def total(self) -> int | None:
        return min(self.announced, self.limit or self.announced) or self.limit

    def detect(self, detector: BaseDetector, errors: list[Failure]) -> Iterator[Found]:
        """Frames are named as ivslab does it. Where a file breaks off, half frames and its next are in `errors`."""
        video = self.stem if isinstance(self.source, int) else self.source.name
        stream = detect_stream(detector.detect, video_frames(self.source), drop_late=self.is_camera)
        count = 0
        try:
            for found in islice(stream, self.limit):
                count, name = found.index + 1, f"{video}_{found.index:05d}.jpg"
                if found.index == self.half:
                    problem = f"{self.source}: expected a whole frame {found.index}, found one that is cut off"
                    errors.append({"file_name": name, "error": problem})
                    continue
                yield name, found.image, found.detections
        except DataError as lost:  # a camera's; what it showed stays
            if not count:
                raise
            errors.append({"file_name": f"{video}_{count:05d}.jpg", "error": str(lost)})
        finally:
            stream.close()
        if count < min(self.announced, self.limit or self.announced):
            problem = f"{self.source}: expected {self.announced} frames, found {count} that decode"
            errors.append({"file_name": f"{video}_{count:05d}.jpg", "error": problem})


def _open_source(source: str, out: Path, limit: int | None) -> Images | Video:
    """Raises UserError where there is nothing to detect on, or where `out` would overwrite it."""
    path = Path(source)
    if source.isdecimal() and not path.exists():
        return Video(int(source), 0, CAMERA_FPS, limit)
    if not path.exists():
        raise UserError(
            f"{source}: expected a picture or a folder of pictures, a video, or the number of a camera, found nothing"
        )
    root = path if path.is_dir() else path.parent
    if out.resolve() == root.resolve():
        raise UserError(f"{out}: expected another folder than that of the source, which would be overwritten")

    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        capture = cv2.VideoCapture(str(path))
        try:
            if not capture.isOpened():
                raise DataError(f"{path}: expected a video, found {path.stat().st_size} bytes that do not open as one")
            fps = capture.get(cv2.CAP_PROP_FPS)
        finally:
            capture.release()
        shown = shown_frames(path)
        return Video(path, shown.expected, fps if fps > 0 else CAMERA_FPS, limit, shown.half)

    if path.is_file():
        return Images(root, [path])
    # What an earlier run left in `out` is not taken.
    listing, earlier = walk(path), out.resolve()
    images, videos = (
        [path / each for each in found if earlier not in (path / each).resolve().parents]
        for found in (listing.images, listing.videos)
    )
    unread = f"{counted(len(videos), 'video')}, each of which is a SOURCE of its own" if videos else ""
    if not images:
        raise UserError(f"{source}: expected pictures ({', '.join(IMAGE_SUFFIXES)}), found {unread or 'none'}")
    if unread:
        click.echo(f"not looked at: {unread}: {', '.join(each.name for each in videos[:3])}", err=True)
    for finding in listing.findings:
        click.echo(f"not looked at: {finding.item}: expected {finding.expected}, found {finding.found}", err=True)
    return Images(root, images)


def _thresholds(texts: Sequence[str], classes: Sequence[str]) -> tuple[float, Mapping[str, float]]:
    """That of the classes that have none of their own, and that of each class."""
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
    return default, {name: own.get(name, default) for name in classes}
