"""TensorRT engines of the exported files, where there is a CUDA device; always the exact commands that build them.

Experimental: no engine has been built or run on a GPU yet. Tests hold every call against NVIDIA's bindings alone.

Engines are not portable: one runs only on the kind of GPU and the TensorRT version that built it. So devices build
their own, from the ONNX file of the precision they want, through the API of TensorRT 8.6, 10 and 11 or by `trtexec`.
Beside each engine lies a JSON file of what it was built from and on; an engine that does not match it, or does not
fit here, is built again.

`trt` is the module `tensorrt` itself, which cannot be imported where no NVIDIA driver is. torch is imported late: what
builds one engine needs none, and a device may have none.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from mobile_centernet.errors import ModelError, UserError
from mobile_centernet.files import file_digest, write_atomically, write_json
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.inference.tensorrt import ABSENT, Origin, sidecar, why_not

Mode = Literal["auto", "required", "off"]
PLAN = "engine_plan.json"
NO_CUDA = "engine not built: no CUDA device"
WORKSPACE_MIB = 1024

# What TensorRT 8 may use beyond float32, which it takes from no graph; from 10 on networks are strongly typed.
WEAK_TYPING = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",)}


@dataclass(frozen=True)
class BuildCommand:
    """One command line that builds the engine, run on the device in the folder of the ONNX file."""

    tensorrt: str
    device: str
    command: str


@dataclass(frozen=True)
class EngineReport:
    """What came of it, in one sentence, and the engines that were built, by their ONNX file."""

    status: str
    engines: dict[Path, Path]


def provide_engines(models: Sequence[Path], out: Path, mode: Mode, timing_cache: Path | None = None) -> EngineReport:
    """Build an engine from each exported file, and write down how a device builds its own.

    Experimental: never run on a GPU.

    Args:
        models: exported ONNX files.
        out: the folder of the engines and of `engine_plan.json`.
        mode: `auto` builds where TensorRT and a CUDA device are present, and else says why not; `required` fails
            there; `off` writes nothing.
        timing_cache: see `provide_engine`.

    Raises:
        UserError: engines are required and cannot be built here.
        ModelError: a file is not ours or TensorRT refuses it.
    """
    if mode == "off":
        return EngineReport("engine not built: export.tensorrt is off", {})
    import torch

    obstacle = None
    if not torch.cuda.is_available():
        obstacle = NO_CUDA
    elif importlib.util.find_spec("tensorrt") is None:
        obstacle = "engine not built: TensorRT's Python package is not installed"
    if obstacle is not None and mode == "required":
        raise UserError(f"{obstacle}, but export.tensorrt is 'required'")

    out.mkdir(parents=True, exist_ok=True)
    if obstacle is not None:
        report = EngineReport(obstacle, {})
    else:
        trt, gpu = importlib.import_module("tensorrt"), torch.cuda.get_device_name()
        engines = {model: out / f"{model.stem}.engine" for model in models}
        done = [provide_engine(trt, gpu, model, engine, timing_cache) for model, engine in engines.items()]
        report = EngineReport("; ".join(done), engines)
    plans = []
    for model in models:
        precision = Detector(model, provider="cpu").metadata.precision
        # The trtexec line of every TensorRT generation that takes a graph of this precision. 8.2 is the Jetson TX2's:
        # it has no INT8, and gets float16 from the float32 graph by a flag.
        options = f" --memPoolSize=workspace:{WORKSPACE_MIB} --timingCacheFile=timing.cache --skipInference"
        common = f"trtexec --onnx={model.name} --saveEngine={model.stem}.engine"
        exact = " --noTF32" if precision == "fp32" else ""
        weak = "".join(f" --{flag.lower()}" for flag in WEAK_TYPING[precision])
        tx2 = (
            f"trtexec --onnx={model.name} --saveEngine={model.stem}.tx2-fp16.engine --fp16 --workspace={WORKSPACE_MIB} "
            "--timingCacheFile=timing.cache --buildOnly"
        )
        commands = (
            *((BuildCommand("8.2", "Jetson TX2, JetPack 4.6", tx2),) if precision == "fp32" else ()),
            BuildCommand("8.6", "any GPU with TensorRT 8.6", f"{common}{weak}{exact}{options}"),
            BuildCommand("10", "any GPU with TensorRT 10", f"{common} --stronglyTyped{exact}{options}"),
            BuildCommand("11", "any GPU with TensorRT 11", f"{common}{exact}{options}"),
        )
        plans.append(
            {
                "onnx": model.name,
                "onnx_sha256": file_digest(model),
                "precision": precision,
                "engine": report.engines[model].name if model in report.engines else None,
                "commands": [asdict(command) for command in commands],
            }
        )
    write_json(out / PLAN, {"status": report.status, "models": plans})
    return report


def provide_engine(trt: ModuleType, gpu: str, onnx_path: Path, engine: Path, timing_cache: Path | None = None) -> str:
    """See that `engine` is the engine of `onnx_path` for this GPU and TensorRT.

    Experimental: never run on a GPU.

    Args:
        trt: the module `tensorrt`.
        gpu: its name, as CUDA gives it.
        onnx_path: the exported file.
        engine: where the engine is, or will be.
        timing_cache: keeps what TensorRT measured, so that the next build takes seconds.

    Returns:
        What was done, in a sentence.

    Raises:
        ModelError: the file is not ours, or, in TensorRT's own words, it cannot be parsed or built.
    """
    origin = Origin.of(trt, gpu, onnx_path)
    refused = why_not(engine, origin)
    if refused is None:
        return f"{engine.name} fits TensorRT {origin.tensorrt} on {gpu}: not built again"

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
    if origin.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa: on by default since Ampere
    for flag in WEAK_TYPING[origin.precision] if is_8 else ():
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if timing_cache is not None:  # timings of another version or GPU are refused: then it starts with none
        old = timing_cache.read_bytes() if timing_cache.is_file() else b""
        for content in (old, b""):
            timings = config.create_timing_cache(content)
            if timings is not None and config.set_timing_cache(timings, False):
                break

    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ModelError(f"{onnx_path}: TensorRT {trt.__version__} built no engine; its log says why")
    if timing_cache is not None:
        write_atomically(timing_cache, bytes(config.get_timing_cache().serialize()))
    write_atomically(engine, bytes(built))
    write_json(sidecar(engine), {**asdict(origin), "engine_sha256": file_digest(engine)})
    reason = "" if refused == ABSENT else f" ({refused})"
    return f"{engine.name} built by TensorRT {origin.tensorrt} on {gpu}{reason}"
