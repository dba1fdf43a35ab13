"""Frames of a camera or a video file. Needs OpenCV; any other source of RGB arrays does as well."""

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.errors import DataError, UserError


def video_frames(source: int | str | Path) -> Iterator[NDArray[np.uint8]]:
    """Yield RGB frames [H, W, 3] of a camera's number, a file, an address or a GStreamer pipeline.

    A file ends; a camera, an address or a pipeline that ends was lost.

    Raises:
        UserError: there is no OpenCV.
        DataError: the source does not open, or was lost.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("reading video needs OpenCV: pip install opencv-python-headless, or JetPack's own") from error
    capture = cv2.VideoCapture(str(source) if isinstance(source, Path) else source)
    try:
        if not capture.isOpened():
            is_pipeline = isinstance(source, str) and "!" in source
            if is_pipeline and not re.search(r"GStreamer: +YES", cv2.getBuildInformation()):
                raise DataError(
                    f"{source}: expected an OpenCV with GStreamer, found one without (JetPack's own has it)"
                )
            raise DataError(f"{source}: expected a camera or a video, found none that opens")
        while True:
            has_frame, bgr = capture.read()
            if not has_frame:
                if not Path(str(source)).is_file():
                    raise DataError(f"{source}: expected another frame of a live source, found its end")
                return
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def paced(frames: Iterable[NDArray[np.uint8]], fps: float) -> Iterator[NDArray[np.uint8]]:
    """Deliver frames no faster than `fps` a second: makes a camera of a file."""
    start = time.monotonic()
    for index, frame in enumerate(frames):
        time.sleep(max(0.0, start + index / fps - time.monotonic()))
        yield frame
