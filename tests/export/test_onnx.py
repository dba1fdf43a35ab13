"""The exported graph: what it is made of, what it says about itself, that it computes what the model computes."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from mobile_centernet.codec import decode
from mobile_centernet.errors import ModelError
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.images import to_input
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.inference.torch import TorchRunner
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import build_model
from tests.export.test_parity import compared

CLASSES = ("vehicle", "pedestrian", "scooter", "bicycle")
SIZE = (96, 128)

# Those of our operators that docs/operators.md of onnx-tensorrt 8.2 lists. Mod came with 8.5; ConstantOfShape
# is float32 only; Shape, Slice and Where would mean that something about the shapes is left to the device.
TENSORRT_8_2 = {
    *("Add", "Cast", "Concat", "Conv", "Div", "Equal", "Expand", "GatherElements", "Greater", "Max"),
    *("MaxPool", "Mul", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Sub", "TopK", "Transpose", "Unsqueeze"),
}


@pytest.fixture(scope="module")
def graph(exported: Path) -> onnx.ModelProto:
    return onnx.load(exported)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def initializers(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_opset_13_and_nothing_else(graph: onnx.ModelProto) -> None:
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 13)]
    assert graph.ir_version == 7
    assert not graph.functions


def test_names_types_and_fixed_shapes(graph: onnx.ModelProto) -> None:
    found = {
        value.name: (value.type.tensor_type.elem_type, [d.dim_value for d in value.type.tensor_type.shape.dim])
        for value in [*graph.graph.input, *graph.graph.output]
    }
    assert found == {
        "image": (onnx.TensorProto.FLOAT, [1, 3, 96, 128]),
        "boxes": (onnx.TensorProto.FLOAT, [1, 100, 4]),
        "scores": (onnx.TensorProto.FLOAT, [1, 100]),
        "labels": (onnx.TensorProto.INT64, [1, 100]),
    }


def test_every_tensor_inside_has_a_fixed_shape(graph: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True, data_prop=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    inner = {name for node in graph.graph.node for name in node.output} - {"boxes", "scores", "labels"}
    assert inner <= shapes.keys()
    assert all(dim.dim_value > 0 for dims in shapes.values() for dim in dims)


def test_metadata_is_what_devices_read(graph: onnx.ModelProto) -> None:
    props = {prop.key: prop.value for prop in graph.metadata_props}
    assert json.loads(props["classes"]) == list(CLASSES)
    assert json.loads(props["input_size"]) == [96, 128]
    expected = {"project": "mobile-centernet", "format": "1", "model": "hrnet_w16", "precision": "fp32"}
    assert {key: props[key] for key in expected} == expected


def test_passes_the_full_checker_and_needs_no_second_file(graph: onnx.ModelProto, exported: Path) -> None:
    onnx.checker.check_model(graph, full_check=True)
    assert [file.name for file in exported.parent.iterdir()] == [exported.name]


def test_only_operators_that_tensorrt_8_2_parses(graph: onnx.ModelProto) -> None:
    assert operators(graph).keys() <= TENSORRT_8_2


def test_batch_norms_are_folded_and_there_is_one_sigmoid(graph: onnx.ModelProto, student: CenterNet) -> None:
    found = operators(graph)
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in student.modules())
    assert (found["Conv"], found["Sigmoid"], found["MaxPool"], found["TopK"]) == (convolutions, 1, 2, 2)
    assert "BatchNormalization" not in found


def test_what_tensorrt_wants_constant_is_constant(graph: onnx.ModelProto) -> None:
    constants = initializers(graph)
    for node in graph.graph.node:
        match node.op_type:
            case "Conv" | "Reshape" | "Expand" | "Unsqueeze":
                assert set(node.input[1:]) <= constants.keys()
            case "TopK":
                assert constants[node.input[1]].tolist() == [100]
            case "Resize":
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                assert attributes["mode"] == b"nearest"
                assert attributes["coordinate_transformation_mode"] == b"asymmetric"
                assert attributes["nearest_mode"] == b"floor"
                assert constants[node.input[2]].tolist() in [[1, 1, s, s] for s in (2, 4, 8)]


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    script = """
import sys, torch
from pathlib import Path
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.models.variants import build_model
from tests.export.test_parity import compared
torch.manual_seed(7)
export_onnx(build_model("hrnet_w16", 1), Path(sys.argv[1]), classes=["car"], input_size=(64, 64))
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "there.onnx"], check=True, timeout=120)
    torch.manual_seed(7)
    export_onnx(build_model("hrnet_w16", 1), tmp_path / "here.onnx", classes=["car"], input_size=(64, 64))
    assert (tmp_path / "here.onnx").read_bytes() == (tmp_path / "there.onnx").read_bytes()
    assert b"mobile_centernet" not in (tmp_path / "here.onnx").read_bytes()  # no paths of source files inside


def test_plain_onnxruntime_says_what_torch_and_decode_say(
    student: CenterNet, exported: Path, pictures: list[NDArray[np.uint8]]
) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for picture in pictures:
        image = to_input(picture, SIZE)
        boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"image": image})
        with torch.no_grad():
            output = student(torch.from_numpy(image))
            expected = decode(output.heatmap_logits.sigmoid(), output.size, output.offset)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
        # Ranks of near-tied scores may swap: the test of parity compares boxes place by place.
        assert (labels == expected.labels.numpy()).mean() > 0.9
        assert boxes.dtype == np.float32 and labels.dtype == np.int64


@pytest.mark.parametrize("name", ["hrnet_w16", "hrnet_w32"])
def test_parity_on_every_kind_of_picture(
    name: str, lively: Callable[[str], CenterNet], pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    model = lively(name)
    export_onnx(model, tmp_path / "model.onnx", classes=CLASSES, input_size=SIZE)
    parity = compared(TorchRunner(model), Detector(tmp_path / "model.onnx").run, pictures)
    boxes, scores = parity.tensors
    # Which of two equal scores makes the last of the 100 is chance: only there may partners be missing.
    assert parity.labels_agreement > 0.99 and parity.worst_unmatched < 1e-5
    assert boxes.max_abs < 2e-3
    assert scores.max_abs < 1e-5


def test_k_is_constant_and_chosen_at_export(student: CenterNet, tmp_path: Path) -> None:
    export_onnx(student, tmp_path / "few.onnx", classes=CLASSES, input_size=SIZE, k=7)
    model = onnx.load(tmp_path / "few.onnx")
    constants = initializers(model)
    topk = [node for node in model.graph.node if node.op_type == "TopK"]
    assert [constants[node.input[1]].tolist() for node in topk] == [[7], [7]]


def test_a_model_in_training_is_exported_for_inference_and_left_as_it_was(
    student: CenterNet, exported: Path, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    student.train()
    try:
        export_onnx(student, tmp_path / "model.onnx", classes=CLASSES, input_size=SIZE)
        assert student.training
    finally:
        student.eval()
    assert (tmp_path / "model.onnx").read_bytes() == exported.read_bytes()
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("classes", "input_size", "k", "message"),
    [
        (CLASSES[:3], SIZE, 100, "expected 4 class names to export, found 3"),
        (CLASSES, (100, 128), 100, "multiples of 32, found 128x100"),
        (CLASSES, (32, 32), 100, r"expected k in 1\.\.64"),
        (CLASSES, SIZE, 0, r"expected k in 1\.\.768"),
    ],
)
def test_what_does_not_fit_is_refused(
    student: CenterNet, tmp_path: Path, classes: tuple[str, ...], input_size: tuple[int, int], k: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        export_onnx(student, tmp_path / "model.onnx", classes=classes, input_size=input_size, k=k)
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_old_file(
    student: CenterNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the release of yesterday")

    def refuse(*_args: object, **_options: object) -> None:
        raise onnx.checker.ValidationError("broken graph")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(onnx.checker.ValidationError):
        export_onnx(student, path, classes=CLASSES, input_size=SIZE)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        ("model.onnx", b"the release of yesterday")
    ]
