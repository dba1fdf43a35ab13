"""An exported model, on a device or anywhere. numpy, ONNX Runtime, and OpenCV or Pillow only."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.errors import ModelError
from mobile_centernet.files import file_digest
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.graph import INPUT, OUTPUTS, GraphMetadata

# Raised for a file that is no ONNX, was cut off or does not hold together, and where memory or a driver gives up.
# ONNX Runtime's own have no common base, and each version has others; RuntimeError is what its bindings raise besides.
_KINDS = [kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type)]
_BACKEND_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in _KINDS if issubclass(kind, Exception)),
    RuntimeError,
    MemoryError,
)

# Fastest first. An installed ONNX Runtime has some of them built in.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
AUTO = "auto"


class Detector(BaseDetector):
    """An exported model, which devices run. Call it with an image: a path, an RGB array or a PIL image.

    `classes` and `input_size` come from the file itself. May be used in a `with`, which frees the model at its end.

    Args:
        path: the ONNX file.
        threads: CPU threads that one image may use; None leaves the choice to ONNX Runtime.
        provider: what runs it: tensorrt, cuda or cpu, and on which GPU (cuda:1). `auto` takes the fastest one that
            works here, and warns where one that is built in does not; naming one makes anything else a ModelError.
        engine_cache: an existing folder where TensorRT keeps the engines it builds, which takes it minutes.
        spinning: CPU threads that have nothing to do keep a core busy, as is ONNX Runtime's default, where they sleep
            else. It may save a little time between an image's layers and costs several times the processor time.

    Raises:
        ModelError: the file is missing, no complete ONNX file or not exported by this project, or `provider` does not
            work here.
    """

    kind = "onnx"

    def __init__(
        self,
        path: Path | str,
        threads: int | None = None,
        provider: str = AUTO,
        engine_cache: Path | None = None,
        spinning: bool = False,
    ) -> None:
        self.path = path = Path(path)
        self.name = path.name
        # Provider names of ONNX Runtime with their options, fastest first, the CPU after them for the odd layer.
        available = [long for long in PROVIDERS.values() if long in onnxruntime.get_available_providers()]
        wanted: dict[str, dict[str, object]] = {long: {} for long in available}
        asked = provider.partition(":")[0]
        if provider != AUTO:
            if PROVIDERS.get(asked) not in available:
                names = [name for name, long in PROVIDERS.items() if long in available]
                raise ModelError(f"{path}: expected a provider that is here ({', '.join(names)}), found {provider!r}")
            wanted = {PROVIDERS[asked]: device_options(provider), PROVIDERS["cpu"]: {}}

        options = session_options(threads, spinning)
        if PROVIDERS["tensorrt"] in wanted:
            # The precision is the graph's own, so its metadata is read first.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            precision = _metadata(open_session(path, options, {PROVIDERS["cpu"]: {}}), path).precision
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
            # TensorRT before 11 must be allowed it besides.
            allowed = {"trt_fp16_enable": precision != "fp32", "trt_int8_enable": precision == "int8"}
            wanted[PROVIDERS["tensorrt"]] |= allowed
            if engine_cache:
                # TensorRT tells cached engines apart by the names in a graph, which all our graphs share.
                wanted[PROVIDERS["tensorrt"]] |= {
                    "trt_engine_cache_enable": True,
                    "trt_engine_cache_path": str(engine_cache),
                    "trt_engine_cache_prefix": file_digest(path)[:16],
                }

        session = open_session(path, options, wanted)
        fastest = next(iter(wanted))
        if fastest not in session.get_providers():
            problem = f"{path}: expected to run on {fastest}, which is built into ONNX Runtime but does not work here"
            if provider != AUTO:
                raise ModelError(problem)
            warnings.warn(f"{problem}; it runs on {session.get_providers()[0]}", stacklevel=2)

        self._session: onnxruntime.InferenceSession | None = session
        self.provider = next(name for name, long in PROVIDERS.items() if long in session.get_providers())
        self.runs_on = f"onnxruntime {self.provider if provider == AUTO else provider}"
        self.metadata = _metadata(session, self.path)
        self.classes = self.metadata.classes
        self.input_size = self.metadata.input_size
        # The metadata could lie, after someone edited the file.
        found = {node.name: node.shape for node in session.get_inputs()}
        expected = {INPUT: [1, 3, *self.input_size]}
        outputs = [node.name for node in session.get_outputs()]
        if found != expected or outputs != list(OUTPUTS):
            raise ModelError(
                f"{self.path}: expected input {expected} and outputs {list(OUTPUTS)}, found {found} and {outputs}"
            )

    def __enter__(self) -> "Detector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; the detector cannot be used any more."""
        self._session = None

    def run(self, images: NDArray[np.float32]) -> NumpyBatch:
        """The raw graph, for one image at a time: [1, 3, h, w] RGB 0..255 of `input_size`.

        Raises ModelError where ONNX Runtime gives up, and when it finds a class that the file does not name, after
        someone edited it.
        """
        if self._session is None:
            raise ModelError(f"{self.path}: expected an open detector, found one that was closed")
        boxes, scores, labels = run_session(self._session, self.path, {INPUT: images}, OUTPUTS)
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise ModelError(
                f"{self.path}: expected labels of its {len(self.classes)} classes ({', '.join(self.classes)}), "
                f"found label {max(labels.max(), -labels.min())}: its class list is another graph's"
            )
        return DetectionBatch(boxes, scores, labels)


def device_options(provider: str) -> dict[str, object]:
    """What ONNX Runtime has to know about the GPU that a provider's name ends in, as in cuda:1; else nothing."""
    number = provider.partition(":")[2]
    return {"device_id": int(number)} if number else {}


def session_options(threads: int | None, spinning: bool) -> onnxruntime.SessionOptions:
    """How sessions run here, as `Detector` takes it; they report errors only."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # warnings on stderr would drown the command's own sentence
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "1" if spinning else "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def open_session(
    path: Path, options: onnxruntime.SessionOptions, providers: dict[str, dict[str, object]]
) -> onnxruntime.InferenceSession:
    """Load any ONNX file. Raises ModelError when it is missing, damaged, or has operators that nobody knows here."""
    if not path.is_file():
        raise ModelError(f"{path}: expected an ONNX file, found {'a directory' if path.exists() else 'nothing'}")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers.items()))
    except _BACKEND_ERRORS as error:
        raise ModelError(f"{path}: expected a complete ONNX file, but it does not load ({_reason(error)})") from error


def run_session(
    session: onnxruntime.InferenceSession, path: Path, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()
) -> Sequence[Any]:
    """The named outputs, or all. Raises ModelError, naming `path`, where ONNX Runtime gives up."""
    try:
        found: Sequence[Any] = session.run(list(outputs), dict(inputs))
    except _BACKEND_ERRORS as error:  # no memory left, a driver that gave up, other inputs than it wants
        raise ModelError(f"{path}: ONNX Runtime could not run it ({_reason(error)})") from error
    return found


def _reason(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _metadata(session: onnxruntime.InferenceSession, path: Path) -> GraphMetadata:
    return GraphMetadata.from_props(session.get_modelmeta().custom_metadata_map, path)
