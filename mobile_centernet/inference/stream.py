"""Detections on a live source: always on the newest frame, never on a queue of old ones."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.detections import Detections
from mobile_centernet.inference.video import LiveFrames

_LEAVE = 1.0
"""Seconds that the end of a stream waits for a source that is still delivering a frame."""


@dataclass(frozen=True)
class FrameDetections:
    """What was found on one frame of a stream.

    Attributes:
        index: the frame's place in the source, from 0.
        dropped: how many frames before it, since the last result, came too late to be looked at.
        image: the frame, RGB uint8 [H, W, 3].
        detections: in its pixels.
    """

    index: int
    dropped: int
    image: NDArray[np.uint8]
    detections: Detections


def detect_stream(
    detect: Callable[[NDArray[np.uint8]], Detections], frames: Iterable[NDArray[np.uint8]], *, drop_late: bool = True
) -> Generator[FrameDetections, None, None]:
    """Yield detections on `frames` as they come, each frame an array of its own.

    `drop_late`: `frames` is drawn from in a thread as fast as it delivers, like a camera. While a frame is being
    looked at (or the caller is busy) newer ones replace one another, so that the next result is on the newest; the
    last frame is never dropped. False looks at every frame, for a file that can wait.
    `detect` is called again for each frame, so it may change the model between two. What `frames` raises is raised
    here, after the result on the last good frame; `LiveFrames` find a source that was lost again. Closing the generator
    stops the thread at its next frame.
    """
    numbered = _NewestFrames(frames) if drop_late else enumerate(frames)
    last = -1
    try:
        for index, image in numbered:
            yield FrameDetections(index, index - last - 1, image, detect(image))
            last = index
    finally:
        if isinstance(numbered, _NewestFrames):
            numbered.close()


class _NewestFrames(threading.Thread):
    """Draws from `frames` in its own thread and keeps only the newest; iterating gives that, with its index."""

    def __init__(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        super().__init__(name="frames", daemon=True)
        self._frames = frames
        self._changed = threading.Condition()
        self._newest: tuple[int, NDArray[np.uint8]] | None = None
        self._failure: BaseException | None = None
        self._has_ended = False
        self._is_closed = False
        self.start()

    def run(self) -> None:
        iterator: Iterator[NDArray[np.uint8]] = iter(self._frames)
        failure: BaseException | None = None
        try:
            for frame in enumerate(iterator):
                with self._changed:
                    self._newest = frame
                    self._changed.notify()
                    if self._is_closed:
                        break
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the caller's thread
            failure = error
        finally:
            if isinstance(iterator, Generator):
                iterator.close()  # releases the camera, in the thread that used it
            with self._changed:
                self._failure, self._has_ended = failure, True
                self._changed.notify()

    def __iter__(self) -> "_NewestFrames":
        return self

    def __next__(self) -> tuple[int, NDArray[np.uint8]]:
        """The newest frame, once there is one. Raises what the source raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._has_ended)
            newest, self._newest = self._newest, None
            if newest is not None:
                return newest
            raise self._failure or StopIteration

    def close(self) -> None:
        if isinstance(self._frames, LiveFrames):
            self._frames.close()  # it may be waiting for its source
        with self._changed:
            self._is_closed = True
        self.join(_LEAVE)
