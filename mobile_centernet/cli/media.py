"""What `predict` looks at: images from files, folders, patterns and lists, or a video, a camera, a stream."""

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.cli.outputs import Failure, counted
from mobile_centernet.data.annotations import Finding
from mobile_centernet.data.readers.common import IMAGE_SUFFIXES, VIDEO_SUFFIXES, walk
from mobile_centernet.data.readers.video import shown_frames
from mobile_centernet.detections import Detections
from mobile_centernet.errors import DataError, UserError, printable, without_password
from mobile_centernet.images import read_image
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.stream import detect_stream
from mobile_centernet.inference.video import is_live, video_frames

# A live source's frames come as fast as the model is; the drawn video shows them at this pace.
CAMERA_FPS = 10.0

Found = tuple[str, NDArray[np.uint8], Detections]
"""File name, image (RGB [H, W, 3]) and everything that the model found on it."""


@dataclass(frozen=True)
class Images:
    """Image files by their names: their paths below the folder that they share."""

    named: Mapping[str, Path]
    unit = "image"
    is_camera = False

    @property
    def total(self) -> int:
        return len(self.named)

    def detect(self, detector: BaseDetector, errors: list[Failure]) -> Iterator[Found]:
        """Images that cannot be read are appended to `errors`."""
        for name, path in self.named.items():
            try:
                image = read_image(path, upright=True)
            except DataError as error:
                errors.append({"file_name": name, "error": str(error)})
                continue
            yield name, image, detector.detect(image)


@dataclass(frozen=True)
class Video:
    """A video file, every frame of it, or a camera or stream, whose late frames are dropped.

    Attributes:
        source: the file, the camera's number or file, an address or a GStreamer pipeline.
        announced: how many frames a player shows; 0 for a live source.
        fps: frames per second of the drawn video.
        limit: stop after so many frames.
        half: the number of the frame that is cut off, so that FFmpeg makes up the rest of it; None without one.
    """

    source: Path | str | int
    announced: int
    fps: float
    limit: int | None
    half: int | None = None
    unit = "frame"

    @property
    def is_camera(self) -> bool:
        return is_live(self.source)

    @property
    def stem(self) -> str:
        """What it is called in files' names; an address's password and query are in none of them."""
        if isinstance(self.source, int):
            return f"camera{self.source}"
        if isinstance(self.source, Path):
            return self.source.stem
        if " ! " in self.source:
            return "pipeline"
        place = re.split(r"[?#]", without_password(self.source).rpartition("://")[2])[0]
        return re.sub(r"[^A-Za-z0-9.-]+", "_", place).strip("._")[:100] or "stream"

    @property
    def total(self) -> int | None:
        return min(self.announced, self.limit or self.announced) or self.limit

    def detect(self, detector: BaseDetector, errors: list[Failure]) -> Iterator[Found]:
        """Frames are named as ivslab does it. Where a file breaks off, half frames and its next are in `errors`."""
        video = self.source.name if isinstance(self.source, Path) else self.stem
        shown = without_password(str(self.source))
        stream = detect_stream(detector.detect, video_frames(self.source), drop_late=self.is_camera)
        count = 0
        try:
            for found in islice(stream, self.limit):
                count, name = found.index + 1, f"{video}_{found.index:05d}.jpg"
                if found.index == self.half:
                    problem = f"{shown}: expected a whole frame {found.index}, found one that is cut off"
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
            problem = f"{shown}: expected {self.announced} frames, found {count} that decode"
            errors.append({"file_name": f"{video}_{count:05d}.jpg", "error": problem})


def open_media(sources: Sequence[str], out: Path, limit: int | None) -> Images | Video:
    """What to detect on.

    Args:
        sources: one of what the command names, or several of images.
        out: the folder that will be written.
        limit: stop a video or a live source after so many frames.

    Raises:
        UserError: there is nothing to detect on, or `out` would overwrite it.
    """
    source, path = sources[0], Path(sources[0])
    if len(sources) == 1:
        if source.isdecimal() and not path.exists():
            return Video(int(source), 0, CAMERA_FPS, limit)
        if is_live(source):
            return Video(source, 0, CAMERA_FPS, limit)
        if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
            _refuse_overwriting(path.parent, out)
            capture = cv2.VideoCapture(str(path))
            try:
                if not capture.isOpened():
                    found = f"{path.stat().st_size} bytes that do not open as one"
                    raise DataError(f"{path}: expected a video, found {found}")
                fps = capture.get(cv2.CAP_PROP_FPS)
            finally:
                capture.release()
            shown = shown_frames(path)
            return Video(path, shown.expected, fps if fps > 0 else CAMERA_FPS, limit, shown.half)

    images: list[Path] = []
    videos: list[Path] = []
    findings: list[Finding] = []
    earlier = out.resolve()  # what an earlier run left there is not taken
    for source in sources:
        is_there = os.path.exists(source)  # noqa: PTH110  # Path.exists raises for a text that is too long for a name
        patterned = [] if is_there else sorted(glob.glob(source, recursive=True))  # noqa: PTH207  # no pattern of ours
        for path in map(Path, patterned or [source]):
            if path.is_dir():
                _refuse_overwriting(path, out)
                listing = walk(path)
                images += [path / each for each in listing.images if earlier not in (path / each).resolve().parents]
                videos += [path / each for each in listing.videos if earlier not in (path / each).resolve().parents]
                findings += listing.findings
            elif patterned and earlier in path.resolve().parents:
                continue
            elif path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
                videos.append(path)
            elif not patterned and path.suffix.lower() == ".txt" and path.is_file():
                images += _listed(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES if patterned else path.is_file():
                images.append(path)
            elif not patterned:
                raise UserError(
                    f"{without_password(source)}: expected an image or a folder of images, a pattern or a list "
                    "(.txt) of them, or, as the only SOURCE, a video, the number of a camera, an address or a "
                    "pipeline, found nothing"
                )
    given = without_password(" ".join(sources))[:200]
    videos = list(dict.fromkeys(videos))
    unread = f"{counted(len(videos), 'video')}, each of which is a SOURCE of its own" if videos else ""
    if not images:
        raise UserError(f"{given}: expected images ({', '.join(IMAGE_SUFFIXES)}), found {unread or 'none'}")
    if unread:
        click.echo(printable(f"not looked at: {unread}: {', '.join(each.name for each in videos[:3])}"), err=True)
    for finding in findings:
        sentence = f"not looked at: {finding.item}: expected {finding.expected}, found {finding.found}"
        click.echo(printable(sentence), err=True)
    if len(sources) == 1 and (root := Path(source)).is_dir():
        named = {each.relative_to(root).as_posix(): each for each in images}
    else:
        places = [each.parent.resolve() / each.name for each in images]  # without "..", which would lead out of `out`
        root = Path(os.path.commonpath([each.parent for each in places]))
        named = {place.relative_to(root).as_posix(): each for place, each in zip(places, images, strict=True)}
    _refuse_overwriting(root, out)
    return Images(named)


def _listed(path: Path) -> list[Path]:
    """The images that a list names, one per line, from the list's folder. Raises DataError where no line is one."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a text in UTF-8, found {error.reason}") from error
    named = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not any(os.path.exists(each) for each in named):  # noqa: PTH110  # as above
        found = f"no path of one in {counted(len(named), 'line')}"
        raise DataError(f"{path}: expected paths of images, one per line, relative to its folder, found {found}")
    return named


def _refuse_overwriting(root: Path, out: Path) -> None:
    if out.resolve() == root.resolve():
        raise UserError(f"{out}: expected another folder than that of the source, which would be overwritten")
