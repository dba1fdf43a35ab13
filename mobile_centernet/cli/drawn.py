"""Drawn pictures and videos as files: complete or absent."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_centernet.errors import UserError
from mobile_centernet.files import write_atomically


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write RGB [H, W, 3] in the format that the suffix names. Raises UserError where that fails."""
    encoded, content = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise UserError(f"{path}: OpenCV cannot write a picture of this kind")
    try:
        write_atomically(path, content.tobytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


class VideoFile:
    """An MP4 (MPEG-4) of RGB frames of one size, which appears at `path` when it is finished."""

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

    def finish(self) -> None:
        """Complete the file and give it its name, unless there was no frame. Raises UserError where that fails."""
        if self._writer is None:
            return
        self._writer.release()
        written = self._frames_written()  # a full disk makes OpenCV's writer fail in silence
        if written != self._count:
            raise UserError(f"{self._path}: expected {self._count} frames, found {written} written; is the disk full?")
        try:
            self._partial.replace(self._path)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written ({error.strerror})") from error

    def discard(self) -> None:
        """Remove what was not finished."""
        if self._writer is not None:
            self._writer.release()
        self._partial.unlink(missing_ok=True)

    def _frames_written(self) -> int:
        capture = cv2.VideoCapture(str(self._partial), cv2.CAP_FFMPEG)
        try:
            return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        finally:
            capture.release()
