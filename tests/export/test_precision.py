"""float16 and int8 graphs: what changes, what must not, and that they compute what their formats say."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper, parser
from onnx.utils import Extractor
from onnxruntime.quantization import TensorsData

from mobile_centernet.export.accuracy import running
from mobile_centernet.export.calibration import calibrate
from mobile_centernet.export.onnx import read_graph, write_graph
from mobile_centernet.export.parity import Parity, compare_found
from mobile_centernet.export.precision import Layout, in_half_arithmetic, to_fp16, to_int8
from mobile_centernet.export.subgraph import CONVOLUTIONS, NetworkSubgraph
from mobile_centernet.images import to_input
from mobile_centernet.inference.graph import GraphMetadata
from mobile_centernet.inference.onnx import Detector
from tests.export.test_parity import compared
from tests.export.test_subgraph import SMALL

SIZE = (96, 128)
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
HEADS = tuple(f"/model/{head}_head/out/Conv_output_0" for head in ("heatmap", "size", "offset"))


@pytest.fixture(scope="module")
def fp32(exported: Path) -> ModelProto:
    return read_graph(exported)[0]


@pytest.fixture(scope="module")
def fp16(fp32: ModelProto) -> ModelProto:
    return to_fp16(fp32)


@pytest.fixture(scope="module")
def ranges(fp32: ModelProto, pictures: list[NDArray[np.uint8]]) -> TensorsData:
    return calibrate(fp32, [to_input(picture, SIZE) for picture in pictures], "minmax")


@pytest.fixture(scope="module")
def int8(fp32: ModelProto, ranges: TensorsData) -> dict[str, ModelProto]:
    kept = NetworkSubgraph.of(fp32.graph).last
    return {layout: to_int8(fp32, ranges, kept, layout) for layout in ("tensorrt", "cpu")}  # type: ignore[arg-type]


def nodes(graph: ModelProto, *operators: str) -> list[onnx.NodeProto]:
    return [node for node in graph.graph.node if node.op_type in operators]


def constants(graph: ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def types(graph: ModelProto) -> dict[str, int]:
    typed = onnx.shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in [*typed.input, *typed.output, *typed.value_info]}
    return found | {tensor.name: tensor.data_type for tensor in typed.initializer}


def interface(graph: ModelProto) -> list[tuple[str, int, list[int]]]:
    return [
        (value.name, value.type.tensor_type.elem_type, [d.dim_value for d in value.type.tensor_type.shape.dim])
        for value in [*graph.graph.input, *graph.graph.output]
    ]


def measured(fp32: ModelProto, candidate: ModelProto, pictures: list[NDArray[np.uint8]]) -> Parity:
    with running(fp32) as ours, running(candidate) as theirs:
        return compared(ours.run, theirs.run, pictures)


def heads(graph: ModelProto, pictures: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """What the network says before sigmoid and decoding: heatmap logits, size, offset of all images."""
    typed = onnx.shape_inference.infer_shapes(graph)
    network = Extractor(typed).extract_model(["image"], list(HEADS))
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    found = [session.run(list(HEADS), {"image": to_input(picture, SIZE)}) for picture in pictures]
    return [np.concatenate(head) for head in zip(*found, strict=True)]


def test_no_precision_changes_names_types_or_shapes(
    fp32: ModelProto, fp16: ModelProto, int8: dict[str, ModelProto]
) -> None:
    for graph in (fp16, int8["tensorrt"], int8["cpu"]):
        assert interface(graph) == interface(fp32)
        assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 13)]
        assert graph.ir_version == 7


def test_written_files_say_their_precision_and_run_in_plain_onnxruntime(
    fp16: ModelProto, int8: dict[str, ModelProto], exported: Path, tmp_path: Path
) -> None:
    metadata = GraphMetadata("hrnet_w16", ("vehicle", "pedestrian", "scooter", "bicycle"), SIZE, "int8")
    for name, graph in (("fp16", fp16), ("int8", int8["tensorrt"]), ("int8_cpu", int8["cpu"])):
        path = tmp_path / f"{name}.onnx"
        write_graph(path, graph, metadata)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        boxes, _, labels = session.run(None, {"image": np.zeros((1, 3, *SIZE), np.float32)})
        assert boxes.shape == (1, 100, 4) and labels.dtype == np.int64
        assert Detector(path).metadata == metadata
    assert (tmp_path / "fp16.onnx").stat().st_size < 0.52 * exported.stat().st_size
    assert (tmp_path / "int8_cpu.onnx").stat().st_size < 0.32 * exported.stat().st_size


PLAIN = """
import sys
sys.modules["mobile_centernet"] = None  # from here on it cannot be imported
import numpy, onnxruntime
image = numpy.load(sys.argv[1])
for path in sys.argv[2:]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"image": image})
    numpy.savez(path + ".npz", boxes=boxes, scores=scores, labels=labels)
"""


def test_plain_onnxruntime_runs_all_of_them_without_this_package_and_they_agree(
    fp32: ModelProto, fp16: ModelProto, int8: dict[str, ModelProto], pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    metadata = GraphMetadata("hrnet_w16", ("vehicle", "pedestrian", "scooter", "bicycle"), SIZE, "fp32")
    graphs = {"fp32": fp32, "fp16": fp16, "int8": int8["tensorrt"], "int8_cpu": int8["cpu"]}
    for name, graph in graphs.items():
        write_graph(tmp_path / f"{name}.onnx", graph, metadata)
    image = to_input(pictures[3], SIZE)
    np.save(tmp_path / "image.npy", image)
    command = [sys.executable, "-I", "-c", PLAIN, "image.npy", *(f"{name}.onnx" for name in graphs)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=120)
    found = {}
    for name in graphs:
        with np.load(tmp_path / f"{name}.onnx.npz") as arrays:
            found[name] = tuple(arrays[key] for key in ("boxes", "scores", "labels"))
    for name, partners, overlap in (("fp16", 1.0, 0.97), ("int8", 0.8, 0.85), ("int8_cpu", 0.8, 0.85)):
        confident = compare_found([found["fp32"]], lambda _image, name=name: found[name], [image]).confident
        assert confident.matched >= partners * confident.detections > 20, name
        assert confident.mean_iou and confident.mean_iou > overlap, name


def with_half(body: str, kind: str, half: float) -> ModelProto:
    """A graph from x [2] to y [2] that knows one float16 constant."""
    header = f'<ir_version: 7, opset_import: ["" : 13]> small ({kind}[2] x) => (float[2] y)'
    graph: ModelProto = parser.parse_model(header + body)
    graph.graph.initializer.append(numpy_helper.from_array(np.float16(half), "half"))
    return graph


class TestFloat16:
    def test_the_body_is_half_and_nothing_else(self, fp32: ModelProto, fp16: ModelProto) -> None:
        known, body = types(fp16), NetworkSubgraph.of(fp16.graph)
        for node in fp16.graph.node:
            kinds = {known[name] for name in node.output if known[name] in (HALF, FLOAT)}
            assert kinds <= ({HALF} if node.name in body.nodes else {FLOAT}) or node.op_type == "Cast"
        weights = {name for node in nodes(fp16, "Conv") for name in node.input[1:]}
        assert {known[name] for name in weights} == {HALF}
        assert {known[node.input[2]] for node in nodes(fp16, "Resize")} == {FLOAT}  # scales, as ONNX wants

    def test_casts_only_at_the_border(self, fp32: ModelProto, fp16: ModelProto) -> None:
        more = Counter(node.op_type for node in fp16.graph.node)
        more.subtract(node.op_type for node in fp32.graph.node)
        assert {name: count for name, count in more.items() if count} == {"Cast": 4}  # one image in, three heads out

    def test_weights_are_rounded_to_nearest(self, fp32: ModelProto, fp16: ModelProto) -> None:
        before, after = constants(fp32), constants(fp16)
        first = nodes(fp32, "Conv")[0].input[1]
        np.testing.assert_array_equal(after[first], before[first].astype(np.float16))

    def test_measured_with_rounding_it_is_close_but_not_equal(
        self, fp32: ModelProto, fp16: ModelProto, pictures: list[NDArray[np.uint8]]
    ) -> None:
        """Compared before decoding: which of two like neighbours is the peak is chance in a network that knows nothing.

        Half a cell's spread of sizes is a tenth of a box, so 1 % of the spread is a thousandth of a box.
        """
        for ours, theirs in zip(heads(fp32, pictures), heads(in_half_arithmetic(fp16), pictures), strict=True):
            error = np.abs(theirs - ours) / ours.std()
            assert 1e-4 < error.mean() < 0.01 and error.max() < 0.1

    def test_the_same_detections_come_out(
        self, fp32: ModelProto, fp16: ModelProto, pictures: list[NDArray[np.uint8]]
    ) -> None:
        parity = measured(fp32, in_half_arithmetic(fp16), pictures)
        assert parity.confident.matched == parity.confident.detections > 20
        assert 1e-6 < parity.tensors[1].mean_abs < 2e-3

    def test_rounding_hides_from_onnxruntimes_cpu_kernels_but_not_from_us(self) -> None:
        """60000 + 60000 is more than a half can hold; the CPU kernels go on in float32 and say 120000."""
        graph = with_half("{ [a] a = Add (x, x)  [b] b = Mul (a, half)  [c] y = Cast <to = 1> (b) }", "float16", 0.5)
        x = np.float16([60000, 1.5])
        plain = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": x})[0]
        rounded = in_half_arithmetic(graph)
        rounded.graph.input[0].type.tensor_type.elem_type = FLOAT
        honest = onnxruntime.InferenceSession(rounded.SerializeToString()).run(None, {"x": x.astype(np.float32)})[0]
        assert plain.tolist() == [60000, 1.5]
        assert honest.tolist() == [np.inf, 1.5]

    def test_every_tensor_is_rounded_as_numpy_rounds(self) -> None:
        body = "{ [a] a = Cast <to = 10> (x)  [b] b = Mul (a, half)  [c] c = Mul (b, half)  [d] y = Cast <to = 1> (c) }"
        graph = with_half(body, "float", 0.3333)
        x = np.float32([1.0001, 3.14159])
        found = onnxruntime.InferenceSession(in_half_arithmetic(graph).SerializeToString()).run(None, {"x": x})[0]
        third = np.float16(0.3333)
        expected = ((x.astype(np.float16) * third).astype(np.float16) * third).astype(np.float16)
        np.testing.assert_array_equal(found, expected.astype(np.float32))


class TestInt8:
    def test_tensorrts_zero_points_are_zero_and_weights_go_by_channel(self, int8: dict[str, ModelProto]) -> None:
        graph = int8["tensorrt"]
        values = constants(graph)
        pairs = nodes(graph, "QuantizeLinear", "DequantizeLinear")
        assert {values[node.input[2]].dtype for node in pairs} == {np.dtype(np.int8)}
        assert not any(values[node.input[2]].any() for node in pairs)
        assert all((values[node.input[1]] > 0).all() for node in pairs)
        producers = {node.output[0]: node for node in pairs}
        quantized = [node for node in nodes(graph, "Conv") if node.input[1] in producers]
        assert len(quantized) == 70  # of 73, the heads' last ones stayed float32
        for node in quantized:
            dequantize = producers[node.input[1]]
            assert values[dequantize.input[1]].shape == (values[producers[dequantize.input[0]].input[0]].shape[0],)

    def test_scales_by_hand(self, fp32: ModelProto, int8: dict[str, ModelProto], ranges: TensorsData) -> None:
        """The largest weight of a channel is 127 steps, the largest input value as well."""
        graph, values = int8["tensorrt"], constants(int8["tensorrt"])
        producers = {node.output[0]: node for node in graph.graph.node}
        conv = nodes(graph, "Conv")[0]
        weights = constants(fp32)[nodes(fp32, "Conv")[0].input[1]]
        expected = np.abs(weights).max(axis=(1, 2, 3)) / 127
        np.testing.assert_allclose(values[producers[conv.input[1]].input[1]], expected, rtol=1e-5)
        low, high = (limit.item() for limit in ranges[nodes(fp32, "Conv")[0].input[0]].range_value)
        step = values[producers[conv.input[0]].input[1]].item()
        assert step == pytest.approx(max(abs(low), abs(high)) / 127, rel=1e-5)

    def test_tensorrt_can_fuse_sums(self, int8: dict[str, ModelProto]) -> None:
        """A sum reads a convolution's own output as it is and its residual quantized; nobody else reads the pair."""
        graph = int8["tensorrt"]
        producers = {name: node.op_type for node in graph.graph.node for name in node.output}
        uses = Counter(name for node in graph.graph.node for name in node.input)
        body = NetworkSubgraph.of(graph.graph)
        sources = Counter(
            producers[name] for node in nodes(graph, "Add") if node.name in body.nodes for name in node.input
        )
        assert set(sources) == {"Conv", "DequantizeLinear"}
        quantized = [node.input[0] for node in nodes(graph, "QuantizeLinear")]
        assert not [name for name in quantized if producers.get(name) in CONVOLUTIONS]
        assert {uses[node.output[0]] for node in nodes(graph, "QuantizeLinear", "DequantizeLinear")} == {1}

    def test_sigmoid_and_decoding_are_float32_as_before(self, fp32: ModelProto, int8: dict[str, ModelProto]) -> None:
        before = [node for node in fp32.graph.node if node.name not in NetworkSubgraph.of(fp32.graph).nodes]
        for graph in int8.values():
            after = {node.name: node for node in graph.graph.node}
            known = types(graph)
            for node in before:
                assert after[node.name] == node
                assert {known[name] for name in node.input} <= {FLOAT, TensorProto.INT64, TensorProto.BOOL}

    @pytest.mark.parametrize(("layers", "count"), [((), 73), (("last",), 70), (("first", "hidden", "last"), 66)])
    def test_layers_that_shall_stay_float_do(
        self, fp32: ModelProto, ranges: TensorsData, layers: tuple[str, ...], count: int
    ) -> None:
        network = NetworkSubgraph.of(fp32.graph)
        kept = [name for part in layers for name in getattr(network, part)]
        graph = to_int8(fp32, ranges, kept, "tensorrt")
        fed = {name for node in nodes(graph, "DequantizeLinear") for name in node.output}
        quantized = [node.name for node in nodes(graph, "Conv") if fed & set(node.input)]
        assert len(quantized) == count and not set(quantized) & set(kept)

    @pytest.mark.parametrize(
        ("layout", "channels", "in_int8"),
        [("cpu", 16, ["body"]), ("cpu", 17, ["stem", "body"]), ("tensorrt", 16, ["stem", "body"])],
    )
    def test_a_narrow_first_convolution_stays_float_on_a_cpu(
        self, layout: Layout, channels: int, in_int8: list[str]
    ) -> None:
        header = '<ir_version: 7, opset_import: ["" : 13]> small (float[1,3,8,8] image) => (float[1,2,8,8] y)'
        body = "{ [stem] a = Conv (image, wide) [relu] b = Relu (a) [body] y = Conv (b, narrow) }"
        graph: ModelProto = parser.parse_model(f"{header} {body}")
        for name, shape in (("wide", (channels, 3, 1, 1)), ("narrow", (2, channels, 1, 1))):
            weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            graph.graph.initializer.append(numpy_helper.from_array(weights, name))
        image = np.random.default_rng(1).uniform(0, 255, (1, 3, 8, 8)).astype(np.float32)
        found = to_int8(graph, calibrate(graph, [image], "minmax", layout == "tensorrt"), (), layout)
        dequantized = {name for node in nodes(found, "DequantizeLinear") for name in node.output}
        assert [node.name for node in nodes(found, "Conv") if node.input[1] in dequantized] == in_int8

    def test_the_cpus_layout_stores_int8_and_lets_relus_vanish(self, int8: dict[str, ModelProto]) -> None:
        values = constants(int8["cpu"])
        kinds = {value.dtype for value in values.values() if value.ndim == 4}
        assert np.dtype(np.int8) in kinds
        activations = {values[node.input[2]].dtype for node in nodes(int8["cpu"], "QuantizeLinear")}
        assert activations == {np.dtype(np.uint8)}
        assert len(nodes(int8["cpu"], "Relu")) < 10  # zero points of 0 cut off what is negative

    @pytest.mark.parametrize("layout", ["tensorrt", "cpu"])
    def test_it_still_says_what_float32_says(
        self, layout: Layout, fp32: ModelProto, int8: dict[str, ModelProto], pictures: list[NDArray[np.uint8]]
    ) -> None:
        parity = measured(fp32, int8[layout], pictures)
        assert parity.confident.matched > 0.8 * parity.confident.detections > 20
        assert parity.confident.mean_iou and parity.confident.mean_iou > 0.85
        assert 1e-5 < parity.tensors[1].mean_abs < 0.05

    def test_a_wrong_scale_is_seen(
        self, fp32: ModelProto, int8: dict[str, ModelProto], pictures: list[NDArray[np.uint8]]
    ) -> None:
        broken = ModelProto()
        broken.CopyFrom(int8["tensorrt"])
        hidden = next(node for node in broken.graph.node if node.name in NetworkSubgraph.of(broken.graph).hidden)
        dequantize = next(node for node in broken.graph.node if hidden.input[0] in node.output)
        wrong = constants(broken)[dequantize.input[1]] * np.float32(0.5)
        broken.graph.initializer.append(numpy_helper.from_array(wrong, "wrong"))
        dequantize.input[1] = "wrong"
        good, bad = (measured(fp32, graph, pictures[:3]) for graph in (int8["tensorrt"], broken))
        assert bad.tensors[1].mean_abs > 3 * good.tensors[1].mean_abs


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """Files are outputs of a cached stage: not the order of a set, nor the time, may show in them."""
    script = """
import sys
from pathlib import Path
from tests.export.test_precision import write_all
write_all(Path(sys.argv[1]))
"""
    (tmp_path / "there").mkdir()
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", script, tmp_path / "there"]
    subprocess.run(command, check=True, env=env, cwd=root, timeout=120)
    for path in write_all(tmp_path):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


def write_all(folder: Path) -> list[Path]:
    """A small network in every precision."""
    graph = parser.parse_model(SMALL)
    ranges = calibrate(graph, [np.float32(np.linspace(0, 255, 32)).reshape(1, 2, 4, 4)], "minmax")
    graphs = [to_fp16(graph), to_int8(graph, ranges, (), "tensorrt"), to_int8(graph, ranges, (), "cpu")]
    paths = [folder / f"{i}.onnx" for i in range(len(graphs))]
    for path, small in zip(paths, graphs, strict=True):
        write_graph(path, small, GraphMetadata("small", ("car",), (4, 4), "fp32"))
    return paths
