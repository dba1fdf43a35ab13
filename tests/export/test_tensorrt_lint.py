"""The lint passes what TensorRT 8.2 documents and names what it doesn't, fault by fault."""

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper, parser

from mobile_centernet.export.calibration import calibrate
from mobile_centernet.export.onnx import export_onnx, read_graph
from mobile_centernet.export.precision import to_fp16, to_int8
from mobile_centernet.export.tensorrt_lint import lint
from mobile_centernet.images import to_input
from mobile_centernet.models.centernet import CenterNet

SIZE = (96, 128)
CLASSES = ("vehicle", "pedestrian", "scooter", "bicycle")


@pytest.fixture(scope="module")
def graph(exported: Path) -> ModelProto:
    return read_graph(exported)[0]


def small(body: str, inputs: str = "float[1,2,4,4] x", outputs: str = "float[1,2,4,4] y") -> ModelProto:
    header = f'<ir_version: 7, opset_import: ["" : 13]> small ({inputs}) => ({outputs})'
    parsed: ModelProto = parser.parse_model(f"{header} {body}")
    return parsed


def test_our_graphs_hold_only_what_it_documents(graph: ModelProto, pictures: list[NDArray[np.uint8]]) -> None:
    ranges = calibrate(graph, [to_input(pictures[0], SIZE)], "minmax")
    assert lint(graph) == []
    assert lint(to_fp16(graph)) == []
    assert lint(to_int8(graph, ranges, (), "tensorrt")) == []
    assert any("UINT8" in finding for finding in lint(to_int8(graph, ranges, (), "cpu")))  # not meant for it


@pytest.mark.parametrize("name", ["resnet18_conv", "dla34_conv", "hrnet_w16_lite", "hrnet_w32_lite", "hrnet_w16_nano"])
def test_so_do_the_other_bodies(name: str, lively: Callable[[str], CenterNet], tmp_path: Path) -> None:
    export_onnx(lively(name), tmp_path / "model.onnx", classes=CLASSES, input_size=(64, 64))
    assert lint(read_graph(tmp_path / "model.onnx")[0]) == []


def test_a_network_that_starts_at_the_image_does_in_every_precision(
    lively: Callable[[str], CenterNet], pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    """Their image goes straight into the first convolution, and one head says everything."""
    export_onnx(lively("hrnet_w16_nano_wide"), tmp_path / "model.onnx", classes=CLASSES, input_size=SIZE)
    graph, _ = read_graph(tmp_path / "model.onnx")
    assert graph.graph.node[0].op_type == "Conv" and graph.graph.node[0].input[0] == "image"
    ranges = calibrate(graph, [to_input(pictures[0], SIZE)], "minmax")
    precisions = {"fp32": graph, "fp16": to_fp16(graph), "int8": to_int8(graph, ranges, (), "tensorrt")}
    assert {precision: lint(found) for precision, found in precisions.items()} == {key: [] for key in precisions}


def change_attribute(graph: ModelProto, operator: str, name: str, value: str) -> None:
    node = next(node for node in graph.graph.node if node.op_type == operator)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def change_constant(graph: ModelProto, operator: str, position: int, value: NDArray[np.generic]) -> None:
    node = next(node for node in graph.graph.node if node.op_type == operator)
    node.input[position] = "changed"
    graph.graph.initializer.append(numpy_helper.from_array(value, "changed"))


def test_a_resize_that_it_does_not_know(graph: ModelProto) -> None:
    broken = ModelProto()
    broken.CopyFrom(graph)
    change_attribute(broken, "Resize", "mode", "cubic")
    change_attribute(broken, "Resize", "coordinate_transformation_mode", "tf_crop_and_resize")
    first, second = lint(broken)
    assert "Resize expected mode nearest, linear, found cubic" in first
    assert "expected coordinate_transformation_mode half_pixel" in second and "tf_crop_and_resize" in second


def test_k_must_be_constant_and_no_larger_than_3840() -> None:
    body = "{ [top] y, i = TopK (x, k) }"
    inputs, outputs = "float[5000] x", "float[K] y, int64[K] i"
    fits = small(f"<int64[1] k = {{3840}}> {body}", inputs, outputs)
    large = small(f"<int64[1] k = {{3841}}> {body}", inputs, outputs)
    computed = small(body, f"{inputs}, int64[1] k", outputs)
    assert lint(fits) == []
    assert lint(large) == ["top: TopK expected K of at most 3840, found 3841"]
    assert lint(computed) == ["top: TopK expected a constant as input 1, found the computed k"]


def test_an_operator_that_came_later() -> None:
    assert lint(small("<float z = {3.0}> { [rest] y = Mod <fmod = 1> (x, z) }")) == [
        "rest: expected an operator of the table, found Mod"
    ]


def test_a_later_opset_and_a_foreign_domain(graph: ModelProto) -> None:
    later = ModelProto()
    later.CopyFrom(graph)
    later.opset_import[0].version = 17
    later.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    found = lint(later)
    assert "expected operators of opset 13 at most, found ai.onnx 17" in found
    assert "expected operators of opset 13 at most, found com.microsoft 1" in found


def test_an_int64_that_would_be_clamped() -> None:
    graph = small("<int64[1] far = {3000000000}> { [sum] y = Add (x, far) }", "int64[2] x", "int64[2] y")
    assert lint(graph) == ["far: expected integers of 32 bits, found 3000000000 to 3000000000"]


@pytest.mark.parametrize(
    ("body", "inputs", "outputs", "sentence"),
    [
        ("{ [n] y = Sigmoid (x) }", "double[2] x", "double[2] y", "Sigmoid expected FP32, FP16, INT8, found DOUBLE"),
        ("{ [n] y = Cast <to = 11> (x) }", "float[2] x", "double[2] y", "Cast expected .* found DOUBLE in y"),
        ("{ [n] y, i = MaxPool <kernel_shape = [3, 3]> (x) }", "float[1,1,4,4] x", "float[1,1,2,2] y, int64[1,1,2,2] i",
         "MaxPool expected at most 1 output, found 2"),
        ("<float[1,1,3] w = {1.0, 2.0, 3.0}> { [n] y = Conv <kernel_shape = [3]> (x, w) }", "float[1,1,5] x",
         "float[1,1,3] y", r"Conv expected a kernel of \[2, 3\] dimensions, found 1"),
        ("<float s = {0.5}, uint8 z = {0}> { [n] y = QuantizeLinear (x, s, z) [m] w = DequantizeLinear (y, s, z) }",
         "float[2] x", "uint8[2] y, float[2] w", "DequantizeLinear expected INT8, found UINT8"),
        ("<float s = {0.5}, int8 z = {3}> { [n] y = QuantizeLinear (x, s, z) }", "float[2] x", "int8[2] y",
         "QuantizeLinear expected a constant zero point of 0, found z"),
        ("<int8[2] c = {1, 2}, float s = {0.5}, int8 z = {0}> { [n] y = DequantizeLinear (c, s, z) }", "float[2] x",
         "float[2] y", "DequantizeLinear expected a computed input 0, found the constant c"),
    ],
)  # fmt: skip
def test_types_and_shapes_outside_the_table(body: str, inputs: str, outputs: str, sentence: str) -> None:
    found = lint(small(body, inputs, outputs))
    assert len(found) == 1 and re.search(sentence, found[0]), found


def test_the_table_names_its_sources_and_their_version() -> None:
    table = json.loads(files("mobile_centernet.export").joinpath("tensorrt_8_2.json").read_text())
    assert (table["tensorrt"], table["opset"], table["top_k"]) == ("8.2", 13, 3840)
    assert "onnx-tensorrt/blob/85e79f629fb546a75d61e3027fb259a9529144fe/docs/operators.md" in table["sources"][0]
    assert all(onnx.defs.has(name) for name in table["operators"])
    assert "Mod" not in table["operators"]
