"""Runs a TensorRT engine as a detector, to measure it beside torch and ONNX Runtime. Buffers are torch tensors."""

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from mobile_centernet.errors import ModelError
from mobile_centernet.inference.graph import INPUT, OUTPUTS, FoundBoxes

# By name: TensorRT 8 has no INT64 and makes int64 outputs INT32.
_TYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "INT32": torch.int32, "INT64": torch.int64}

DEFAULT_STREAM = 0  # torch's own, so that reading an output waits for the engine


class EngineDetector:
    """An engine of `engines.provide_engine`, on the GPU that it was built for; `run` is a `Detect`.

    Raises ModelError when TensorRT cannot read the engine or its tensors are not those of our graphs.
    """

    def __init__(self, trt: ModuleType, engine: Path, device: str = "cuda") -> None:
        self.path = engine
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise ModelError(f"{engine}: TensorRT {trt.__version__} cannot read it; its log says why")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        if set(names) != {INPUT, *OUTPUTS}:
            raise ModelError(f"{engine}: expected tensors {[INPUT, *OUTPUTS]}, found {names}")
        self._buffers = {name: self._buffer(name, device) for name in names}

    def run(self, image: NDArray[np.float32]) -> FoundBoxes:
        """[1, 3, h, w] RGB 0..255 to boxes [1, K, 4] in its pixels, scores and labels [1, K]."""
        self._buffers[INPUT].copy_(torch.from_numpy(image))
        if not self._context.execute_async_v3(DEFAULT_STREAM):
            raise ModelError(f"{self.path}: TensorRT could not run it; its log says why")
        boxes, scores, labels = (self._buffers[name].cpu().numpy() for name in OUTPUTS)
        return boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64)

    def _buffer(self, name: str, device: str) -> torch.Tensor:
        shape = tuple(self._engine.get_tensor_shape(name))
        kind = self._engine.get_tensor_dtype(name).name
        buffer = torch.zeros(shape, dtype=_TYPES[kind], device=device)
        self._context.set_tensor_address(name, buffer.data_ptr())
        return buffer
