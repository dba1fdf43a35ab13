"""export: the student as ONNX, compared with torch on frames that no training saw; TensorRT's build plan."""

from dataclasses import asdict
from typing import Any

from mobile_centernet.data.store import PreparedSet
from mobile_centernet.edge.runtime import Detector
from mobile_centernet.errors import ModelError
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.evaluation.detect import results_for, torch_detector
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.export.parity import compare
from mobile_centernet.export.tensorrt import build_plan
from mobile_centernet.files import write_json
from mobile_centernet.models.checkpoint import LoadedModel, load_model
from steps import workspace
from steps.params import Export, Params


def export(params: Params) -> None:
    """Write data/export and data/reports/parity.json."""
    student = load_model(workspace.STUDENT / workspace.MODEL_FILE)
    workspace.EXPORT.mkdir(parents=True, exist_ok=True)
    workspace.REPORTS.mkdir(parents=True, exist_ok=True)
    onnx_file = workspace.ONNX_FP32
    export_onnx(student.model, onnx_file, classes=student.classes, input_size=student.input_size)

    frames = PreparedSet(workspace.PREPARED / "ivslab", params.evaluate.split)
    parity = _measure(student, frames, params.export)
    engine = build_plan(onnx_file, workspace.EXPORT, params.export.tensorrt)
    write_json(workspace.PARITY, {"fp32": parity, "engine": {"status": engine.status}})

    print(f"{onnx_file}: {onnx_file.stat().st_size / 2**20:.1f} MiB, mAP@0.5 {parity['map50']:.3f}")
    for row in parity["tensors"]:
        print(f"  {row['tensor']}: torch and ONNX differ by at most {row['max_abs']:.2g} {row['unit']}")
    print(engine.status)
    if not parity["passed"]:
        raise ModelError(f"{onnx_file}: the exported file differs from torch by more than params allow: {parity}")


def _measure(student: LoadedModel, frames: PreparedSet, section: Export) -> dict[str, Any]:
    """Torch against ONNX Runtime: tensors on some frames, mAP@0.5 on all of them."""
    images = [frames.image(i) for i in range(min(section.parity_frames, len(frames)))]
    parity = asdict(compare(student.model, workspace.ONNX_FP32, images, student.input_size))
    exported = Detector(workspace.ONNX_FP32)
    detectors = {"torch_map50": torch_detector(student.model), "map50": exported.run}
    for name, detect in detectors.items():
        results = results_for(frames, detect, student.input_size, batch_size=1)
        parity[name] = evaluate_map50(frames.coco, results, frames.classes).map50
    difference = {row["tensor"]: row["max_abs"] for row in parity["tensors"]}
    limits = section.limits
    parity["limits"] = limits.model_dump()
    parity["passed"] = (
        difference["scores"] <= limits.scores
        and difference["boxes"] <= limits.boxes
        and parity["torch_map50"] - parity["map50"] <= limits.map50_drop
    )
    return parity
