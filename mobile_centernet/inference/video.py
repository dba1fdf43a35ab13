"""Frames of a camera or a video file. Needs OpenCV; any other source of RGB arrays does as well."""

import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.errors import DataError, UserError, without_password

logger = logging.getLogger(__name__)


class SourceLostError(DataError):
    """A live source does not open or has ended. It may come back."""


def is_live(source: int | str | Path) -> bool:
    """Whether it is a camera (its number or its file in /dev), an address or a GStreamer pipeline: without an end."""
    if isinstance(source, int):
        return True
    text = str(source)
    if os.path.exists(text):  # noqa: PTH110  # Path.exists raises for a text as long as a pipeline may be
        return Path(text).is_char_device()
    return not isinstance(source, Path) and ("://" in text or " ! " in text or text.startswith("/dev/"))


def video_frames(source: int | str | Path) -> Iterator[NDArray[np.uint8]]:
    """Yield RGB frames [H, W, 3] of a camera's number, a file, an address or a GStreamer pipeline.

    A file ends, also one behind an address that says how many frames it has; any other live source that ends was lost.
    Passwords in an address are in no message.

    Raises:
        UserError: there is no OpenCV.
        SourceLostError: a live source does not open, or was lost.
        DataError: a file does not open, or OpenCV has no GStreamer for a pipeline.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("reading video needs OpenCV: pip install opencv-python-headless, or JetPack's own") from error
    may_come_back, shown = is_live(source), without_password(str(source))
    is_address = may_come_back and "://" in str(source)
    backends = [cv2.CAP_ANY]
    if may_come_back and " ! " in str(source):
        if not re.search(r"GStreamer: +YES", cv2.getBuildInformation()):
            raise DataError(f"{shown}: expected an OpenCV with GStreamer, found one without (JetPack's own has it)")
        backends = [cv2.CAP_GSTREAMER]
    elif is_address:
        backends = [cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER]  # any others cannot, but print the address with its password
    for backend in backends:
        capture = cv2.VideoCapture(str(source) if isinstance(source, Path) else source, backend)
        if capture.isOpened():
            break
    lost = SourceLostError if may_come_back else DataError
    try:
        if not capture.isOpened():
            raise lost(f"{shown}: expected a camera or a video, found none that opens")
        announced, count = capture.get(cv2.CAP_PROP_FRAME_COUNT), 0
        while True:
            has_frame, bgr = capture.read()
            if not has_frame:
                if may_come_back and not (is_address and 0 < announced <= count):
                    raise lost(f"{shown}: expected another frame of a live source, found its end")
                return
            count += 1
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


class LiveFrames:
    """Frames of a source that is opened again, whenever it is lost, until it is back. Give it to `detect_stream`.

    After each failure it waits twice as long as before. A file ends, and what is wrong for good is raised, as by
    `video_frames`. Losing a source and finding it again is logged once each.

    Args:
        source: as `video_frames` takes it.
        first_wait_s: seconds before the first attempt after a frame.
        longest_wait_s: seconds between two attempts at most.
    """

    def __init__(self, source: int | str | Path, *, first_wait_s: float = 0.5, longest_wait_s: float = 30.0) -> None:
        self.source = source
        self._first_wait_s, self._longest_wait_s = first_wait_s, longest_wait_s
        self._is_closed = threading.Event()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        wait, told = self._first_wait_s, ""
        while not self._is_closed.is_set():
            try:
                for frame in video_frames(self.source):
                    if told:
                        logger.info("%s: back", without_password(str(self.source)))
                    wait, told = self._first_wait_s, ""
                    yield frame
                    if self._is_closed.is_set():
                        return
                return
            except SourceLostError as lost:
                if str(lost) != told:
                    told = str(lost)
                    logger.warning("%s; it is opened again until it is back", told)
                self._is_closed.wait(wait)
                wait = min(2 * wait, self._longest_wait_s)

    def close(self) -> None:
        """End the iteration, from any thread: at its next frame, or at once where it waits for its source."""
        self._is_closed.set()


def paced(frames: Iterable[NDArray[np.uint8]], fps: float) -> Iterator[NDArray[np.uint8]]:
    """Deliver frames no faster than `fps` a second: makes a camera of a file."""
    start = time.monotonic()
    for index, frame in enumerate(frames):
        time.sleep(max(0.0, start + index / fps - time.monotonic()))
        yield frame
