"""The one path from images to boxes, whatever runs the network: ONNX Runtime, torch or TensorRT. Needs numpy only."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.detections import Detections, NumpyBatch
from mobile_centernet.errors import DataError
from mobile_centernet.images import ImageSource, read_image, to_input
from mobile_centernet.inference.stream import FrameDetections, detect_stream

Runner = Callable[[NDArray[np.float32]], NumpyBatch]
"""What runs a network: float32 [B, 3, h, w], RGB 0..255, of its input size to boxes in pixels of the input."""

Kind = Literal["onnx", "checkpoint", "engine"]


def to_detections(
    batch: NumpyBatch, sizes: Sequence[tuple[int, int]], input_size: tuple[int, int], class_names: tuple[str, ...]
) -> list[Detections]:
    """Carry boxes back from pixels of the input to those of each image, of `sizes` (height, width), clipped to it."""
    return [
        Detections(boxes_to_original(boxes, input_size, size), scores, labels, class_names)
        for size, boxes, scores, labels in zip(sizes, *batch, strict=True)
    ]


class BaseDetector(ABC):
    """A model that runs. Call it with an image: a path, an RGB uint8 array [H, W, 3] or a PIL image.

    Attributes:
        path: its file.
        name: what the user calls it: the file's name, or an address such as models:/mobile-centernet@champion.
        kind: what the file is.
        runs_on: what computes it, such as `onnxruntime cpu`.
        classes: names by label.
        input_size: (height, width) in pixels.
    """

    path: Path
    name: str
    kind: Kind
    runs_on: str
    classes: tuple[str, ...]
    input_size: tuple[int, int]

    @abstractmethod
    def run(self, images: NDArray[np.float32]) -> NumpyBatch:
        """The network alone, a `Runner`."""

    def __call__(self, image: ImageSource) -> Detections:
        """Detect on one image.

        Args:
            image: a path, an RGB uint8 array [H, W, 3] or a PIL image, of any size. A file is turned
                upright as its EXIF orientation says; what is decoded already is taken as it is.

        Returns:
            What was found, in absolute pixels of the image (a file's: upright) and clipped to it, best score first.
            Nothing is dropped: `Detections.above` does that.

        Raises:
            DataError: the file is missing, does not decode, or the array is no RGB image.
        """
        if isinstance(image, str | PathLike):
            return self.detect(read_image(Path(image), upright=True))
        pixels = image if isinstance(image, np.ndarray) else np.asarray(image.convert("RGB"))
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise DataError(f"expected an RGB image, uint8 [H, W, 3], found {pixels.dtype} {list(pixels.shape)}")
        return self.detect(pixels)

    def detect(self, image: NDArray[np.uint8]) -> Detections:
        """The same for RGB uint8 [H, W, 3] alone, which is not checked."""
        batch = self.run(to_input(image, self.input_size))
        return to_detections(batch, [(image.shape[0], image.shape[1])], self.input_size, self.classes)[0]

    def detect_stream(
        self, frames: Iterable[NDArray[np.uint8]], *, drop_late: bool = True
    ) -> Iterator[FrameDetections]:
        """`detect` on a camera's or video's frames as they come; late ones are dropped, see `inference.stream`."""
        return detect_stream(self.detect, frames, drop_late=drop_late)

    def warm_up(self) -> None:
        """Run once on black, so that the first real image does not pay for what is set up on first use."""
        self.run(np.zeros((1, 3, *self.input_size), np.float32))


def median_latencies(detectors: Sequence[BaseDetector], images: Iterable[NDArray[np.uint8]]) -> list[float]:
    """Median milliseconds of each detector from a decoded image to its boxes, warmed up.

    The detectors take turns on every image, so that whatever else the machine does meets all of them.
    """
    for detector in detectors:
        detector.warm_up()
    taken: list[list[float]] = [[] for _ in detectors]
    for image in images:
        for detector, times in zip(detectors, taken, strict=True):
            start = time.perf_counter()
            detector.detect(image)
            times.append((time.perf_counter() - start) * 1e3)
    return [median(times) for times in taken]
