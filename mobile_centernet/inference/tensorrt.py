"""TensorRT engines: whether one may be used here, and as a detector. Imports torch, for its buffers, only to run one.

An engine runs only on the kind of GPU and the TensorRT version that built it. So beside each lies a JSON file of what
it was built from and on, and its own digest.
"""

import importlib
import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.errors import ModelError
from mobile_centernet.files import file_digest
from mobile_centernet.inference.detector import BaseDetector
from mobile_centernet.inference.graph import INPUT, OUTPUTS
from mobile_centernet.inference.onnx import Detector

# TensorRT's names as torch's: TensorRT 8 has no INT64 and makes int64 outputs INT32.
_TYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64"}

DEFAULT_STREAM = 0  # torch's own, so that reading an output waits for the engine
ABSENT = "there was none"


@dataclass(frozen=True)
class Origin:
    """What an engine was built from and on, its sidecar file; all must be equal to use it."""

    tensorrt: str
    gpu: str
    precision: str
    onnx: str
    onnx_sha256: str

    @classmethod
    def of(cls, trt: ModuleType, gpu: str, onnx_path: Path) -> "Origin":
        """What an engine from this file would be here. Raises ModelError when the file is not ours."""
        precision = Detector(onnx_path, provider="cpu").metadata.precision
        return cls(trt.__version__, gpu, precision, onnx_path.name, file_digest(onnx_path))


def why_not(engine: Path, origin: Origin) -> str | None:
    """Why an engine may not be used where `origin` is what it should be; None when it may."""
    if not engine.is_file():
        return ABSENT
    try:
        found = json.loads(sidecar(engine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{engine.name} was refused: expected {sidecar(engine).name} beside it, found none that can be read"
    for name, expected in asdict(origin).items():
        if not isinstance(found, dict) or found.get(name) != expected:
            value = found.get(name) if isinstance(found, dict) else None
            return f"{engine.name} was refused: expected {name} {expected}, found {value}"
    if found.get("engine_sha256") != file_digest(engine):
        return f"{engine.name} was refused: its content is not what {sidecar(engine).name} describes"
    return None


def sidecar(engine: Path) -> Path:
    """Where the origin of an engine is written down."""
    return engine.with_name(f"{engine.name}.json")


class EngineRunner:
    """A `Runner`: an engine of `export.tensorrt.provide_engine`, on the GPU that it was built for.

    `trt` is the module `tensorrt` itself. Raises ModelError when TensorRT cannot read the engine or its tensors are
    not those of our graphs.
    """

    def __init__(self, trt: ModuleType, engine: Path, device: str = "cuda") -> None:
        import torch

        self.path = engine
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise ModelError(f"{engine}: TensorRT {trt.__version__} cannot read it; its log says why")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        if set(names) != {INPUT, *OUTPUTS}:
            raise ModelError(f"{engine}: expected tensors {[INPUT, *OUTPUTS]}, found {names}")
        self._buffers: dict[str, Any] = {}
        for name in names:
            kind = _TYPES[self._engine.get_tensor_dtype(name).name]
            shape = tuple(self._engine.get_tensor_shape(name))
            self._buffers[name] = torch.zeros(shape, dtype=getattr(torch, kind), device=device)
            self._context.set_tensor_address(name, self._buffers[name].data_ptr())

    def __call__(self, images: NDArray[np.float32]) -> NumpyBatch:
        import torch

        self._buffers[INPUT].copy_(torch.from_numpy(images))
        if not self._context.execute_async_v3(DEFAULT_STREAM):
            raise ModelError(f"{self.path}: TensorRT could not run it; its log says why")
        boxes, scores, labels = (self._buffers[name].cpu().numpy() for name in OUTPUTS)
        return DetectionBatch(boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64))


class EngineDetector(BaseDetector):
    """An engine that runs. It knows neither its classes nor its size: the ONNX file does that its sidecar names.

    Raises ModelError without TensorRT's Python package or a CUDA device, where the ONNX file or the sidecar is not
    beside the engine (or the ONNX file in the folder above), and where the engine was built elsewhere. `device` is cuda
    or cuda:N.
    """

    kind = "engine"

    def __init__(self, path: Path, device: str | None = None) -> None:
        if importlib.util.find_spec("tensorrt") is None:
            raise ModelError(f"{path}: expected TensorRT's Python package, which runs engines, found it not installed")
        import torch

        if not torch.cuda.is_available():
            raise ModelError(f"{path}: expected a CUDA device, which runs engines, found none")
        if device == "cpu":
            raise ModelError(f"{path}: expected the device cuda or cuda:N, which runs engines, found cpu")
        if device and ":" in device:
            from mobile_centernet.inference.torch import best_device

            torch.cuda.set_device(best_device(device))  # TensorRT works on the current one
        trt = importlib.import_module("tensorrt")
        try:
            onnx_name = Path(str(json.loads(sidecar(path).read_text(encoding="utf-8"))["onnx"])).name
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: expected {sidecar(path).name} beside it, found none that can be read") from error
        onnx_path = next((found for each in path.parents[:2] if (found := each / onnx_name).is_file()), None)
        if onnx_path is None:
            raise ModelError(f"{path}: expected {onnx_name}, which it was built from, beside it or in the folder above")
        objection = why_not(path, Origin.of(trt, torch.cuda.get_device_name(), onnx_path))
        if objection is not None:
            raise ModelError(f"{path}: {objection}")
        described = Detector(onnx_path, provider="cpu")
        self.path, self.name = path, path.name
        self.runs_on = f"tensorrt {trt.__version__}"
        self.classes, self.input_size = described.classes, described.input_size
        self._runner = EngineRunner(trt, path)

    def run(self, images: NDArray[np.float32]) -> NumpyBatch:
        return self._runner(images)
