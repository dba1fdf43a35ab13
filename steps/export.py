"""export: the student as ONNX, compared with torch on frames that no training saw; TensorRT's build plan."""

from dataclasses import asdict

from mobile_centernet.data.store import PreparedSet
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.export.parity import compare
from mobile_centernet.export.tensorrt import build_plan
from mobile_centernet.files import write_json
from mobile_centernet.models.checkpoint import load_model
from steps import workspace
from steps.params import Params


def export(params: Params) -> None:
    """Write data/export and data/reports/parity.json."""
    student = load_model(workspace.STUDENT / workspace.MODEL_FILE)
    workspace.EXPORT.mkdir(parents=True, exist_ok=True)
    workspace.REPORTS.mkdir(parents=True, exist_ok=True)
    onnx_file = workspace.ONNX_FP32
    export_onnx(student.model, onnx_file, classes=student.classes, input_size=student.input_size)

    frames = PreparedSet(workspace.PREPARED / "ivslab", "test")
    images = [frames.image(i) for i in range(min(params.export.parity_frames, len(frames)))]
    parity = compare(student.model, onnx_file, images, student.input_size)
    engine = build_plan(onnx_file, workspace.EXPORT, params.export.tensorrt)
    write_json(workspace.PARITY, {"fp32": asdict(parity), "engine": {"status": engine.status}})

    size = onnx_file.stat().st_size / 2**20
    print(f"{onnx_file}: {size:.1f} MiB, compared with torch on {parity.images} test frames")
    for difference in parity.tensors:
        print(f"  {difference.tensor}: largest difference {difference.max_abs:.2g} {difference.unit}")
    print(engine.status)
