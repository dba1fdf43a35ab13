"""export: the student as ONNX files, one per precision, each compared with torch on frames that no training saw; and
TensorRT's engines, or how to build them.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from onnx import ModelProto

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError, ModelError
from mobile_centernet.export.accuracy import SomeFrames, measure, running
from mobile_centernet.export.calibration import Quantized, balanced_frames, quantize
from mobile_centernet.export.onnx import export_onnx, read_graph, write_graph
from mobile_centernet.export.parity import ParityLimits, ParityReport, Reference, compare_found
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

logger = logging.getLogger(__name__)


def export(params: Params) -> None:
    """Write data/export and data/reports/parity.json.

    A precision past its limits that is not required is withdrawn: its file is deleted, and parity.json says why.

    Raises:
        ModelError: a required precision is past its limits (parity.json is written all the same), or TensorRT 8.2
            could not parse a file that is meant for it.
    """
    section = params.export
    student = load_model(paths.STUDENT / paths.MODEL_FILE)
    frames = PreparedSet(paths.PREPARED / "ivslab", params.evaluate.split)
    if student.classes != frames.classes:
        expected = f"expected the classes of {paths.STUDENT / paths.MODEL_FILE}, {list(student.classes)}"
        raise DataError(f"{frames.root}: {expected}, found {list(frames.classes)}")
    for folder in (paths.EXPORT, paths.REPORTS, paths.WORK):
        folder.mkdir(parents=True, exist_ok=True)
    rules = section.precisions.wanted
    files = {precision: paths.EXPORT / f"model.{precision}.onnx" for precision in rules}
    int8 = _write_files(student, section, files)

    reference = Reference.of(TorchRunner(student.model), frames, section.parity_frames, student.input_size)
    accuracy = reference.accuracy
    report: dict[str, Any] = {
        "measured_on": {"set": f"ivslab {params.evaluate.split}", "frames": accuracy.frames},
        "torch": {"map50": accuracy.map50, "ap50": dict(accuracy.ap50)},
    }
    logger.info("torch: mAP@0.5 %.3f on %d frames", accuracy.map50, accuracy.frames)
    failures: list[str] = []
    for precision, path in files.items():
        opened: AbstractContextManager[Detector] = Detector(path, provider="cpu")
        if precision == "fp16":  # in operators that round as a device does
            opened = running(in_half_arithmetic(read_graph(path)[0]))
        with opened as detector:
            report[precision] = _compare(path, detector.run, reference, rules[precision], failures)
        if quantized := int8.get(precision):
            report[precision]["calibration"] = {
                "chosen": asdict(quantized.chosen),
                "judged_on": "ivslab val",
                "trials": [asdict(trial) for trial in quantized.trials],
            }

    for_tensorrt = {name: files[name] for name in FOR_TENSORRT if name in files and files[name].exists()}
    built = provide_engines(tuple(for_tensorrt.values()), paths.EXPORT, section.tensorrt, paths.TENSORRT_TIMING)
    logger.info("%s", built.status)
    measured = {}
    for precision, path in for_tensorrt.items():
        if engine := built.engines.get(path):
            runner = EngineRunner(import_module("tensorrt"), engine)
            measured[precision] = _compare(engine, runner, reference, rules[precision], failures)
    report["engine"] = {"status": built.status, "measured": measured}
    write_json(paths.PARITY, report)
    if failures:
        raise ModelError("; ".join(failures))


def _write_files(student: LoadedModel, section: Export, files: Mapping[str, Path]) -> dict[str, Quantized]:
    """Write every file, not compared yet; returns how those in int8 were chosen."""
    export_onnx(student.model, files["fp32"], classes=student.classes, input_size=student.input_size)
    graph, metadata = read_graph(files["fp32"])
    graphs: dict[str, ModelProto] = {}
    if "fp16" in files:
        graphs["fp16"] = to_fp16(graph)

    int8: dict[str, Quantized] = {}
    layouts = {precision: layout for precision, layout in INT8_LAYOUTS.items() if precision in files}
    if layouts:
        # Calibrated on training frames, chosen by validation frames; the frames that are reported on have no say.
        calibration, size = section.calibration, student.input_size
        train = PreparedSet(paths.PREPARED / "ivslab", "train")
        inputs = [to_input(train.image(i), size) for i in balanced_frames(train, calibration.frames)]
        validation = SomeFrames(paths.PREPARED / "ivslab", "val", calibration.validation_frames)
        with running(graph) as detector:
            reference = measure(validation, detector.run, size)

        def score(candidate: ModelProto) -> tuple[float, float]:
            with running(candidate) as detector:
                accuracy = measure(validation, detector.run, size)
            return accuracy.map50, accuracy.score_difference(reference)

        for precision, layout in layouts.items():
            int8[precision] = quantize(graph, inputs, calibration.methods, layout, score)
            graphs[precision] = int8[precision].graph

    for precision, path in files.items():
        if precision != "fp32":
            write_graph(path, graphs[precision], replace(metadata, precision=precision.removesuffix("_cpu")))
        if precision in FOR_TENSORRT and (found := lint(read_graph(path)[0])):
            raise ModelError(f"{path}: TensorRT 8.2 could not parse it: {'; '.join(found)}")
    return int8


def _compare(
    path: Path, run: Runner, reference: Reference, rule: PrecisionLimits, failures: list[str]
) -> dict[str, Any]:
    """The record of one file or engine; when it is past its limits it is either a failure or withdrawn."""
    comparison = ParityReport(
        compare_found(reference.found, run, reference.inputs),
        reference.accuracy,
        measure(reference.frames, run, reference.input_size),
        ParityLimits(**rule.model_dump(exclude={"required"})),
    )
    size = path.stat().st_size
    status = "exported" if not comparison.violations else "failed" if rule.required else "withdrawn"
    scores = f"mAP@0.5 {comparison.accuracy.map50:.3f} ({-comparison.map50_drop:+.4f})"
    logger.info("%s: %.1f MiB, %s, %s", path.name, size / 2**20, scores, status)
    for violation in comparison.violations:
        logger.warning("%s: %s", path.name, violation)
    if status == "failed":
        failures.append(f"{path}: {', '.join(comparison.violations)}")
    elif status == "withdrawn":
        path.unlink()
        sidecar(path).unlink(missing_ok=True)
    return {"file": path.name, "bytes": size, "status": status, "required": rule.required, **comparison.to_dict()}
