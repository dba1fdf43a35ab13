"""TensorRT engines of the exported files, where there is a CUDA device; always the exact commands that build them.

Engines are not portable, so devices build their own, from the ONNX file of the precision they want.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from mobile_centernet.errors import UserError
from mobile_centernet.export.engines import WEAK_TYPING, WORKSPACE_MIB, provide_engine
from mobile_centernet.files import file_digest, write_json
from mobile_centernet.inference.onnx import Detector

Mode = Literal["auto", "required", "off"]
PLAN = "engine_plan.json"
NO_CUDA = "engine not built: no CUDA device"


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
    """Build an engine from each exported file into the folder `out`, and write there how a device builds its own.

    `auto` builds where TensorRT and a CUDA device are present, and else says why not; `required` raises UserError
    there; both write `engine_plan.json`. `off` writes nothing. Raises ModelError when a file is not ours or TensorRT
    refuses it.
    """
    if mode == "off":
        return EngineReport("engine not built: export.tensorrt is off", {})
    obstacle = _obstacle()
    if obstacle is not None and mode == "required":
        raise UserError(f"{obstacle}, but export.tensorrt is 'required'")
    out.mkdir(parents=True, exist_ok=True)
    report = EngineReport(obstacle, {}) if obstacle else _built(models, out, timing_cache)
    _write_plan(report, models, out / PLAN)
    return report


def build_commands(onnx_name: str, precision: str) -> tuple[BuildCommand, ...]:
    """The trtexec line of every TensorRT generation that takes a graph of this precision.

    8.2 is the Jetson TX2's: it has no INT8, and gets float16 from the float32 graph by a flag.
    """
    stem = Path(onnx_name).stem
    options = f" --memPoolSize=workspace:{WORKSPACE_MIB} --timingCacheFile=timing.cache --skipInference"
    common = f"trtexec --onnx={onnx_name} --saveEngine={stem}.engine"
    exact = " --noTF32" if precision == "fp32" else ""
    weak = "".join(f" --{flag.lower()}" for flag in WEAK_TYPING[precision])
    tx2 = (
        f"trtexec --onnx={onnx_name} --saveEngine={stem}.tx2-fp16.engine --fp16 --workspace={WORKSPACE_MIB} "
        "--timingCacheFile=timing.cache --buildOnly"
    )
    return (
        *((BuildCommand("8.2", "Jetson TX2, JetPack 4.6", tx2),) if precision == "fp32" else ()),
        BuildCommand("8.6", "any GPU with TensorRT 8.6", f"{common}{weak}{exact}{options}"),
        BuildCommand("10", "any GPU with TensorRT 10", f"{common} --stronglyTyped{exact}{options}"),
        BuildCommand("11", "any GPU with TensorRT 11", f"{common}{exact}{options}"),
    )


def _obstacle() -> str | None:
    if not torch.cuda.is_available():
        return NO_CUDA
    if importlib.util.find_spec("tensorrt") is None:
        return "engine not built: TensorRT's Python package is not installed"
    return None


def _built(models: Sequence[Path], out: Path, timing_cache: Path | None) -> EngineReport:
    trt = importlib.import_module("tensorrt")
    gpu = torch.cuda.get_device_name()
    engines = {model: out / f"{model.stem}.engine" for model in models}
    done = [provide_engine(trt, gpu, model, engine, timing_cache) for model, engine in engines.items()]
    return EngineReport("; ".join(done), engines)


def _write_plan(report: EngineReport, models: Sequence[Path], path: Path) -> None:
    write_json(path, {"status": report.status, "models": [_plan(model, report) for model in models]})


def _plan(model: Path, report: EngineReport) -> dict[str, object]:
    precision = Detector(model, provider="cpu").metadata.precision
    engine = report.engines.get(model)
    return {
        "onnx": model.name,
        "onnx_sha256": file_digest(model),
        "precision": precision,
        "engine": engine.name if engine else None,
        "commands": [asdict(command) for command in build_commands(model.name, precision)],
    }
