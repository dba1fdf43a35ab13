"""One TensorRT engine from one exported file, through TensorRT's Python API: 8.6, 10 and 11. Imports no torch.

An engine runs only on the kind of GPU and the TensorRT version that built it. So beside each lies a JSON file of what
it was built from and on; an engine that does not match it, or does not fit here, is built again.

`trt` is the module `tensorrt` itself, which cannot be imported where no NVIDIA driver is.
"""

from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from mobile_centernet.errors import ModelError
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.inference.tensorrt import ABSENT, Origin, sidecar, why_not

WORKSPACE_MIB = 1024

# What TensorRT 8 may use beyond float32, which it takes from no graph; from 10 on networks are strongly typed.
WEAK_TYPING = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",)}


def provide_engine(trt: ModuleType, gpu: str, onnx_path: Path, engine: Path, timing_cache: Path | None = None) -> str:
    """See that `engine` is the engine of `onnx_path` for this GPU and TensorRT, and say in a sentence what was done.

    `timing_cache` keeps what TensorRT measured, so that the next build takes seconds. Raises ModelError when the file
    is not ours or TensorRT refuses it.
    """
    origin = Origin.of(trt, gpu, onnx_path)
    objection = why_not(engine, origin)
    if objection is None:
        return f"{engine.name} fits TensorRT {origin.tensorrt} on {gpu}: not built again"
    write_atomically(engine, build_engine(trt, onnx_path, origin.precision, timing_cache))
    write_json(sidecar(engine), {**asdict(origin), "engine_sha256": file_digest(engine)})
    reason = "" if objection == ABSENT else f" ({objection})"
    return f"{engine.name} built by TensorRT {origin.tensorrt} on {gpu}{reason}"


def build_engine(trt: ModuleType, onnx_path: Path, precision: str, timing_cache: Path | None = None) -> bytes:
    """The serialised engine. Raises ModelError in TensorRT's own words where it cannot parse or build the graph."""
    is_8 = int(trt.__version__.split(".")[0]) < 10
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH if is_8 else flags.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"{onnx_path}: TensorRT {trt.__version__} cannot parse it: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_MIB << 20)
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa: on by default since Ampere
    for flag in WEAK_TYPING[precision] if is_8 else ():
        config.set_flag(getattr(trt.BuilderFlag, flag))
    _use_timings(config, timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ModelError(f"{onnx_path}: TensorRT {trt.__version__} built no engine; its log says why")
    if timing_cache is not None:
        write_atomically(timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _use_timings(config: Any, timing_cache: Path | None) -> None:
    """TensorRT refuses timings of another version or GPU: then it starts afresh."""
    if timing_cache is None:
        return
    old = timing_cache.read_bytes() if timing_cache.is_file() else b""
    for content in (old, b""):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, False):
            return
