"""An exported model on a device: a picture in, boxes out. numpy, ONNX Runtime, and OpenCV or Pillow only."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

from mobile_centernet.boxes import boxes_to_original
from mobile_centernet.errors import ModelError
from mobile_centernet.images import to_input
from mobile_centernet.inference.graph import INPUT, OUTPUTS, GraphMetadata
from mobile_centernet.inference.stream import Detections, detect_stream

# What ONNX Runtime raises for a file that is no ONNX, was cut off, or whose graph does not hold together.
UNREADABLE = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf)

# Fastest first. An installed ONNX Runtime has some of them built in.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
AUTO = "auto"


class Detector:
    """A loaded model. `classes` and `input_size` (height, width) come from the file itself.

    `provider` says what runs it: tensorrt, cuda or cpu. May be used in a `with`, which frees the model at its end.
    Raises ModelError when `path` is missing, no complete ONNX file, or not exported by this project.
    """

    def __init__(
        self, path: Path, threads: int | None = None, provider: str = AUTO, engine_cache: Path | None = None
    ) -> None:
        """`threads`: how many CPU threads one picture may use; None leaves the choice to ONNX Runtime.

        `provider`: `auto` takes the fastest one that works here, and warns where one that is built in does not;
        naming one makes anything else a ModelError. `engine_cache`: an existing folder where TensorRT keeps the
        engines it builds, which takes it minutes.
        """
        self.path = Path(path)
        self._session: onnxruntime.InferenceSession | None = _load(self.path, threads, provider, engine_cache)
        self.provider = next(name for name, long in PROVIDERS.items() if long in self._session.get_providers())
        self.metadata = _metadata(self._session, self.path)
        self.classes = self.metadata.classes
        self.input_size = self.metadata.input_size
        self._check_graph(self._session)

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; the detector cannot be used any more."""
        self._session = None

    def detect(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Boxes [K, 4] xyxy in pixels of `image`, clipped to it; scores [K], best first; labels [K], 0-based.

        `image` is RGB uint8 [H, W, 3] of any size. Nothing is dropped: choose a threshold on the scores.
        """
        boxes, scores, labels = self.run(to_input(image, self.input_size))
        original_size = (image.shape[0], image.shape[1])
        return boxes_to_original(boxes[0], self.input_size, original_size), scores[0], labels[0]

    def detect_stream(self, frames: Iterable[NDArray[np.uint8]], *, drop_late: bool = True) -> Iterator[Detections]:
        """`detect` on a camera's or video's frames as they come; late ones are dropped, see `edge.stream`."""
        return detect_stream(self.detect, frames, drop_late=drop_late)

    def run(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """The raw graph: [1, 3, h, w] RGB 0..255 of `input_size` to boxes [1, K, 4] in its pixels, scores, labels.

        Raises ModelError when it finds a class that the file does not name, after someone edited it.
        """
        if self._session is None:
            raise ModelError(f"{self.path}: expected an open detector, found one that was closed")
        boxes, scores, labels = self._session.run(list(OUTPUTS), {INPUT: image})
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise ModelError(
                f"{self.path}: expected labels of its {len(self.classes)} classes ({', '.join(self.classes)}), "
                f"found label {max(labels.max(), -labels.min())}: its class list is another graph's"
            )
        return boxes, scores, labels

    def warm_up(self) -> None:
        """Run once on black, so that the first real picture does not pay for what is set up on first use."""
        self.run(np.zeros((1, 3, *self.input_size), np.float32))

    def _check_graph(self, session: onnxruntime.InferenceSession) -> None:
        """The metadata could lie, after someone edited the file."""
        found = {node.name: node.shape for node in session.get_inputs()}
        expected = {INPUT: [1, 3, *self.input_size]}
        outputs = [node.name for node in session.get_outputs()]
        if found != expected or outputs != list(OUTPUTS):
            raise ModelError(
                f"{self.path}: expected input {expected} and outputs {list(OUTPUTS)}, found {found} and {outputs}"
            )


def _load(path: Path, threads: int | None, provider: str, engine_cache: Path | None) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: expected an ONNX file, found {'a directory' if path.exists() else 'nothing'}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings on stderr would drown the command's own sentence
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = _wanted(path, provider)
    if PROVIDERS["tensorrt"] in wanted:
        precision = _metadata(_cpu_session(path), path).precision
        wanted[PROVIDERS["tensorrt"]] = _tensorrt_options(precision, engine_cache)
    session = _session(path, options, wanted)
    fastest = next(iter(wanted))
    if fastest not in session.get_providers():
        problem = f"{path}: expected to run on {fastest}, which is built into ONNX Runtime but does not work here"
        if provider != AUTO:
            raise ModelError(problem)
        warnings.warn(f"{problem}; it runs on {session.get_providers()[0]}", stacklevel=3)
    return session


def _wanted(path: Path, provider: str) -> dict[str, dict[str, object]]:
    """Provider names of ONNX Runtime with their options, fastest first, the CPU behind them for the odd layer."""
    available = [long for long in PROVIDERS.values() if long in onnxruntime.get_available_providers()]
    if provider == AUTO:
        return {long: {} for long in available}
    if PROVIDERS.get(provider) not in available:
        names = [name for name, long in PROVIDERS.items() if long in available]
        raise ModelError(f"{path}: expected a provider that is here ({', '.join(names)}), found {provider!r}")
    return {PROVIDERS[provider]: {}, PROVIDERS["cpu"]: {}}


def _tensorrt_options(precision: str, engine_cache: Path | None) -> dict[str, object]:
    """The precision is the graph's own; TensorRT before 11 must be allowed it besides."""
    cache = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(engine_cache)} if engine_cache else {}
    return {"trt_fp16_enable": precision != "fp32", "trt_int8_enable": precision == "int8", **cache}


def _cpu_session(path: Path) -> onnxruntime.InferenceSession:
    """To read the file's metadata; nothing is optimised."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _session(path, options, {PROVIDERS["cpu"]: {}})


def _session(
    path: Path, options: onnxruntime.SessionOptions, providers: dict[str, dict[str, object]]
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers.items()))
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: expected a complete ONNX file, but it does not load ({reason})") from error


def _metadata(session: onnxruntime.InferenceSession, path: Path) -> GraphMetadata:
    return GraphMetadata.from_props(session.get_modelmeta().custom_metadata_map, path)
