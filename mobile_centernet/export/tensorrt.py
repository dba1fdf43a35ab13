"""From ONNX to a TensorRT engine, where there is a CUDA device; else the exact commands that build it on one.

An engine runs only on the kind of GPU and the TensorRT version that built it, so devices build their own. The
precision lives in the ONNX graph: TensorRT 10 and 11 take it from there; 8.x must also be allowed it by a flag.
"""

import hashlib
import importlib
import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch

from mobile_centernet.edge.runtime import Detector
from mobile_centernet.errors import ModelError, UserError
from mobile_centernet.files import write_atomically, write_json

Mode = Literal["auto", "required", "off"]
WORKSPACE_MIB = 1024
NO_CUDA = "engine not built: no CUDA device"

# What TensorRT 8.x may use beyond fp32; a strongly typed network (10 and 11) needs no permission.
WEAK_TYPING = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}


@dataclass(frozen=True)
class BuildCommand:
    """One command line that builds the engine, run on the device in the folder of the ONNX file."""

    tensorrt: str
    device: str
    command: str


@dataclass(frozen=True)
class EngineReport:
    """What came of it. `status` is one sentence; `engine` is None when none was built."""

    status: str
    engine: Path | None = None
    commands: tuple[BuildCommand, ...] = ()


def build_plan(onnx_path: Path, out: Path, mode: Mode) -> EngineReport:
    """Build an engine from an exported file into the folder `out`, or write there how a device builds it.

    `auto` builds where TensorRT and a CUDA device are present, and else says why not; `required` raises UserError
    there; both write `engine_plan.json`. `off` writes nothing. Beside an engine lies a JSON file of what it was
    built from and on. Raises ModelError when the file is not ours or TensorRT refuses it.
    """
    if mode == "off":
        return EngineReport("engine not built: export.tensorrt is off")
    precision = Detector(onnx_path).metadata.precision
    commands = build_commands(onnx_path.name, precision)
    out.mkdir(parents=True, exist_ok=True)
    obstacle = _obstacle()
    if obstacle is None:
        report = EngineReport(*_build_and_save(onnx_path, out, precision), commands)
    elif mode == "required":
        raise UserError(f"{obstacle}, but export.tensorrt is 'required'")
    else:
        report = EngineReport(obstacle, None, commands)
    _write_plan(report, onnx_path, precision, out / "engine_plan.json")
    return report


def build_commands(onnx_name: str, precision: str) -> tuple[BuildCommand, ...]:
    """The trtexec line of every TensorRT generation we ship to. `precision` is that of the graph."""
    common = f"trtexec --onnx={onnx_name} --saveEngine={Path(onnx_name).stem}.engine"
    workspace = f"--memPoolSize=workspace:{WORKSPACE_MIB}"
    weak = "".join(f" --{flag.lower()}" for flag in WEAK_TYPING[precision])
    tx2 = f"{common} --fp16 --workspace={WORKSPACE_MIB} --buildOnly"
    commands = (
        BuildCommand("8.2", "Jetson TX2, JetPack 4.6", tx2),
        BuildCommand("8.6", "any GPU with TensorRT 8.6", f"{common}{weak} {workspace} --skipInference"),
        BuildCommand("10", "any GPU with TensorRT 10", f"{common} --stronglyTyped {workspace} --skipInference"),
        BuildCommand("11", "any GPU with TensorRT 11", f"{common} {workspace} --skipInference"),
    )
    return commands if precision != "int8" else commands[1:]  # the TX2 has no INT8


def _obstacle() -> str | None:
    if not torch.cuda.is_available():
        return NO_CUDA
    if importlib.util.find_spec("tensorrt") is None:
        return "engine not built: TensorRT's Python package is not installed"
    return None


def _build_and_save(onnx_path: Path, out: Path, precision: str) -> tuple[str, Path]:
    trt = importlib.import_module("tensorrt")
    engine = out / f"{onnx_path.stem}.engine"
    gpu = torch.cuda.get_device_name()
    write_atomically(engine, build_engine(trt, onnx_path, precision))
    sidecar = {
        "tensorrt": trt.__version__,
        "gpu": gpu,
        "precision": precision,
        "onnx": onnx_path.name,
        "onnx_sha256": _sha256(onnx_path),
        "engine_sha256": _sha256(engine),
    }
    write_json(engine.with_suffix(".engine.json"), sidecar)
    return f"engine built by TensorRT {trt.__version__} on {gpu}", engine


def build_engine(trt: ModuleType, onnx_path: Path, precision: str) -> bytes:
    """The serialised engine, through the Python API of TensorRT 8.6, 10 or 11 (`trt` is the module itself)."""
    major = int(trt.__version__.split(".")[0])
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH if major < 10 else flags.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"{onnx_path}: TensorRT {trt.__version__} cannot parse it: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_MIB << 20)
    if major < 10:
        for flag in WEAK_TYPING[precision]:
            config.set_flag(getattr(trt.BuilderFlag, flag))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ModelError(f"{onnx_path}: TensorRT {trt.__version__} built no engine; its log says why")
    return bytes(engine)


def _write_plan(report: EngineReport, onnx_path: Path, precision: str, path: Path) -> None:
    plan = {
        "status": report.status,
        "onnx": onnx_path.name,
        "onnx_sha256": _sha256(onnx_path),
        "precision": precision,
        "engine": report.engine.name if report.engine else None,
        "commands": [asdict(command) for command in report.commands],
    }
    write_json(path, plan)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
