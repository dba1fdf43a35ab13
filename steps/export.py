"""export: the student as ONNX files, one a precision, each compared with torch on frames that no training saw; and
TensorRT's engines, or how to build them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from onnx import ModelProto

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import ModelError
from mobile_centernet.export.accuracy import SomeFrames, check_classes, measure, running
from mobile_centernet.export.calibration import Quantized, balanced_frames, quantize
from mobile_centernet.export.onnx import export_onnx, read_graph, write_graph
from mobile_centernet.export.parity import ParityLimits, ParityReport, Reference, compare_with
from mobile_centernet.export.precision import Layout, in_half_arithmetic, to_fp16
from mobile_centernet.export.tensorrt import provide_engines
from mobile_centernet.export.tensorrt_lint import lint
from mobile_centernet.files import write_json
from mobile_centernet.images import to_input
from mobile_centernet.inference.detector import Runner
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.inference.tensorrt import EngineRunner, sidecar
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Export, Params, PrecisionLimits
from mobile_centernet.models.checkpoint import LoadedModel, load_model

FOR_TENSORRT = ("fp32", "fp16", "int8")
INT8_LAYOUTS: Mapping[str, Layout] = {"int8": "tensorrt", "int8_cpu": "cpu"}
TIMING_CACHE = paths.WORK / "tensorrt.timing"


def export(params: Params) -> None:
    """Write data/export and data/reports/parity.json.

    Raises ModelError where a required precision is past its limits (parity.json is written all the same). One that
    is not required is withdrawn instead: its file is deleted, and parity.json says why.
    """
    section = params.export
    student = load_model(paths.STUDENT / paths.MODEL_FILE)
    frames = PreparedSet(paths.PREPARED / "ivslab", params.evaluate.split)
    check_classes(frames, student.classes, str(paths.STUDENT / paths.MODEL_FILE))
    for folder in (paths.EXPORT, paths.REPORTS, paths.WORK):
        folder.mkdir(parents=True, exist_ok=True)
    rules = section.precisions.wanted
    files = {precision: paths.EXPORT / f"model.{precision}.onnx" for precision in rules}
    int8 = _write_files(student, section, files)

    reference = Reference.of(TorchRunner(student.model), frames, section.parity_frames, student.input_size)
    accuracy = reference.accuracy
    report: dict[str, Any] = {
        "measured_on": {"set": f"ivslab {params.evaluate.split}", "frames": len(frames)},
        "torch": {"map50": accuracy.map50, "ap50": dict(accuracy.ap50)},
    }
    print(f"torch: mAP@0.5 {accuracy.map50:.3f} on {len(frames)} frames")
    failures: list[str] = []
    for precision, path in files.items():
        with _detector(precision, path) as detect:
            comparison = compare_with(reference, detect, _limits(rules[precision]))
        record = _settled(path, comparison, rules[precision], failures)
        report[precision] = {**record, **_calibration(int8.get(precision))}
    for_tensorrt = {name: files[name] for name in FOR_TENSORRT if name in files and files[name].exists()}
    report["engine"] = _engines(for_tensorrt, section, reference, failures)
    write_json(paths.PARITY, report)
    if failures:
        raise ModelError("; ".join(failures))


def _write_files(student: LoadedModel, section: Export, files: Mapping[str, Path]) -> dict[str, Quantized]:
    """Every file, not measured yet, and how those in int8 were chosen.

    Raises ModelError where TensorRT 8.2 could not parse one that is meant for it."""
    export_onnx(student.model, files["fp32"], classes=student.classes, input_size=student.input_size)
    graph, metadata = read_graph(files["fp32"])
    graphs: dict[str, ModelProto] = {}
    if "fp16" in files:
        graphs["fp16"] = to_fp16(graph)
    layouts = {precision: layout for precision, layout in INT8_LAYOUTS.items() if precision in files}
    int8 = _quantized(graph, student.input_size, section, layouts) if layouts else {}
    graphs |= {precision: quantized.graph for precision, quantized in int8.items()}
    for precision, path in files.items():
        if precision != "fp32":
            write_graph(path, graphs[precision], replace(metadata, precision=precision.removesuffix("_cpu")))
        if precision in FOR_TENSORRT and (found := lint(read_graph(path)[0])):
            raise ModelError(f"{path}: TensorRT 8.2 could not parse it: {'; '.join(found)}")
    return int8


def _quantized(
    graph: ModelProto, input_size: tuple[int, int], section: Export, layouts: Mapping[str, Layout]
) -> dict[str, Quantized]:
    """Calibrated on training frames, chosen by validation frames; the frames that are reported on have no say."""
    train = PreparedSet(paths.PREPARED / "ivslab", "train")
    chosen = balanced_frames(train, section.calibration.frames)
    inputs = [to_input(train.image(i), input_size) for i in chosen]
    validation = SomeFrames(paths.PREPARED / "ivslab", "val", section.calibration.validation_frames)
    with running(graph) as detector:
        reference = measure(validation, detector.run, input_size)

    def score(candidate: ModelProto) -> tuple[float, float]:
        with running(candidate) as detector:
            accuracy = measure(validation, detector.run, input_size)
        return accuracy.map50, accuracy.score_difference(reference)

    methods = section.calibration.methods
    return {precision: quantize(graph, inputs, methods, layout, score) for precision, layout in layouts.items()}


@contextmanager
def _detector(precision: str, path: Path) -> Iterator[Runner]:
    """The file in ONNX Runtime; a float16 one in operators that round as a device does."""
    if precision == "fp16":
        with running(in_half_arithmetic(read_graph(path)[0])) as detector:
            yield detector.run
    else:
        with Detector(path, provider="cpu") as detector:
            yield detector.run


def _limits(rule: PrecisionLimits) -> ParityLimits:
    return ParityLimits(**rule.model_dump(exclude={"required"}))


def _settled(path: Path, comparison: ParityReport, rule: PrecisionLimits, failures: list[str]) -> dict[str, Any]:
    """The record of one file or engine; when it is past its limits it is either a failure or withdrawn."""
    size = path.stat().st_size
    status = "exported" if not comparison.violations else "failed" if rule.required else "withdrawn"
    scores = f"mAP@0.5 {comparison.accuracy.map50:.3f} ({-comparison.map50_drop:+.4f})"
    print(f"{path.name}: {size / 2**20:.1f} MiB, {scores}, {status}")
    for violation in comparison.violations:
        print(f"  {violation}")
    if status == "failed":
        failures.append(f"{path}: {', '.join(comparison.violations)}")
    elif status == "withdrawn":
        path.unlink()
        sidecar(path).unlink(missing_ok=True)
    return {"file": path.name, "bytes": size, "status": status, "required": rule.required, **comparison.to_dict()}


def _calibration(int8: Quantized | None) -> dict[str, Any]:
    if int8 is None:
        return {}
    rows = [asdict(trial) for trial in int8.trials]
    return {"calibration": {"chosen": asdict(int8.chosen), "judged_on": "ivslab val", "trials": rows}}


def _engines(files: Mapping[str, Path], section: Export, reference: Reference, failures: list[str]) -> dict[str, Any]:
    """Build what can be built here, and measure it as its file was measured."""
    built = provide_engines(tuple(files.values()), paths.EXPORT, section.tensorrt, TIMING_CACHE)
    print(built.status)
    rules = section.precisions.wanted
    measured = {}
    for precision, path in files.items():
        if path in built.engines:
            engine = built.engines[path]
            detect = EngineRunner(import_module("tensorrt"), engine)
            comparison = compare_with(reference, detect, _limits(rules[precision]))
            measured[precision] = _settled(engine, comparison, rules[precision], failures)
    return {"status": built.status, "measured": measured}
