"""What may leave float32: from the first to the last convolution, no more and no less."""

from pathlib import Path

import onnx
import pytest
from onnx import GraphProto, TensorProto, helper, parser

from mobile_centernet.export.subgraph import NetworkSubgraph

# A normalisation, a stem, a residual block, two heads of two convolutions, decoding.
SMALL = """
<ir_version: 7, opset_import: ["" : 13]>
small (float[1,2,4,4] image) => (float[1,2,4,4] heat, float[1,2,4,4] size)
<float mean = {1.0}, float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}>
{
    [scale] a = Sub (image, mean)
    [stem] b = Conv (a, w)
    [stem_relu] c = Relu (b)
    [block] d = Conv (c, w)
    [sum] e = Add (d, c)
    [heat_hidden] f = Conv (e, w)
    [heat_relu] g = Relu (f)
    [heat_out] h = Conv (g, w)
    [size_hidden] i = Conv (e, w)
    [size_out] j = Conv (i, w)
    [sigmoid] heat = Sigmoid (h)
    [positive] size = Relu (j)
}
"""


@pytest.fixture(scope="module")
def body() -> NetworkSubgraph:
    return NetworkSubgraph.of(parser.parse_model(SMALL).graph)


def test_all_between_the_first_and_the_last_convolution(body: NetworkSubgraph) -> None:
    inside = ("stem", "stem_relu", "block", "sum", "heat_hidden", "heat_relu", "heat_out", "size_hidden", "size_out")
    assert body.nodes == inside
    assert (body.inputs, body.outputs) == (("a",), ("h", "j"))


def test_the_ends_are_known_by_their_place(body: NetworkSubgraph) -> None:
    assert body.first == ("stem",)
    assert body.hidden == ("heat_hidden", "size_hidden")
    assert body.last == ("heat_out", "size_out")


def test_a_tensor_that_is_used_inside_and_outside_leaves() -> None:
    graph: GraphProto = parser.parse_model(SMALL).graph
    graph.output.append(helper.make_tensor_value_info("e", TensorProto.FLOAT, [1, 2, 4, 4]))
    assert NetworkSubgraph.of(graph).outputs == ("e", "h", "j")


def test_transposed_convolutions_count() -> None:
    graph = parser.parse_model(SMALL.replace("[block] d = Conv", "[block] d = ConvTranspose")).graph
    assert "block" in NetworkSubgraph.of(graph).nodes


def test_the_students_body_has_all_convolutions_and_nothing_of_decoding(exported: Path) -> None:
    graph = onnx.load(exported).graph
    body = NetworkSubgraph.of(graph)
    inside = {node.op_type for node in graph.node if node.name in body.nodes}
    outside = {node.op_type for node in graph.node if node.name not in body.nodes}
    assert inside == {"Conv", "Relu", "Add", "Resize"}
    assert not outside & {"Conv", "Resize"} and {"Sigmoid", "MaxPool", "TopK", "Sub", "Div"} <= outside
    assert [len(part) for part in (body.first, body.hidden, body.last)] == [1, 3, 3]
    heads = ("heatmap_head", "size_head", "offset_head")
    assert body.outputs == tuple(f"/model/{head}/out/Conv_output_0" for head in heads)
