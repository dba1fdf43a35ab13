"""An exported model on a device: a picture in, boxes out. numpy, OpenCV and ONNX Runtime only."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

from mobile_centernet.edge.graph import INPUT, OUTPUTS, GraphMetadata
from mobile_centernet.errors import ModelError
from mobile_centernet.preprocessing import boxes_to_original, to_input

# What ONNX Runtime raises for a file that is no ONNX, was cut off, or whose graph does not hold together.
UNREADABLE = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf)


class Detector:
    """A loaded model. `classes` and `input_size` (height, width) come from the file itself.

    Raises ModelError when `path` is missing, no complete ONNX file, or not exported by this project.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """`threads`: how many CPU threads one picture may use; None leaves the choice to ONNX Runtime."""
        self.path = Path(path)
        self._session = _load(self.path, threads)
        self.metadata = GraphMetadata.from_props(self._session.get_modelmeta().custom_metadata_map, self.path)
        self.classes = self.metadata.classes
        self.input_size = self.metadata.input_size
        self._check_graph()

    def detect(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Boxes [K, 4] xyxy in pixels of `image`, clipped to it; scores [K], best first; labels [K], 0-based.

        `image` is RGB uint8 [H, W, 3] of any size. Nothing is dropped: choose a threshold on the scores.
        """
        boxes, scores, labels = self.run(to_input(image, self.input_size))
        original_size = (image.shape[0], image.shape[1])
        return boxes_to_original(boxes[0], self.input_size, original_size), scores[0], labels[0]

    def run(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """The raw graph: [1, 3, h, w] RGB 0..255 of `input_size` to boxes [1, K, 4] in its pixels, scores, labels."""
        boxes, scores, labels = self._session.run(list(OUTPUTS), {INPUT: image})
        return boxes, scores, labels

    def _check_graph(self) -> None:
        """The metadata could lie, after someone edited the file."""
        found = {node.name: node.shape for node in self._session.get_inputs()}
        expected = {INPUT: [1, 3, *self.input_size]}
        outputs = [node.name for node in self._session.get_outputs()]
        if found != expected or outputs != list(OUTPUTS):
            raise ModelError(
                f"{self.path}: expected input {expected} and outputs {list(OUTPUTS)}, found {found} and {outputs}"
            )


def _load(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: expected an ONNX file, found {'a directory' if path.exists() else 'nothing'}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings on stderr would drown the command's own sentence
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: expected a complete ONNX file, but it does not load ({reason})") from error
