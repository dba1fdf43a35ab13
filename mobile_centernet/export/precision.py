"""From the exported float32 graph to float16 and int8: the precision is in the graph, so every runtime obeys it.

TensorRT 11 takes precision from nowhere else. Only the body changes (see `export.body`), names and shapes don't.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.utils import Extractor
from onnxruntime.quantization import QuantType, TensorsData, quantize_static, save_tensors_data
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxscript import ir

from mobile_centernet.export.subgraph import CONVOLUTIONS, Body

Layout = Literal["tensorrt", "cpu"]
"""Where the int8 graph shall run. They contradict each other: TensorRT takes no zero point but 0, ONNX Runtime's CPU
kernels are fast only where a zero point lets a ReLU vanish into the rounding.

tensorrt: int8, zero point 0; inputs of convolutions and residual inputs of sums are quantized, outputs are not, so
    that TensorRT fuses convolution, sum and ReLU; weights and biases stay float32 with Q/DQ behind the weights, since
    TensorRT 8 refuses int8 constants
cpu:      uint8 with any zero point, every tensor of the body, weights stored as int8
"""

# What the calibrator has to watch for either layout.
QUANTIZED = ("Conv", "ConvTranspose", "Add", "Resize", "Relu", "MaxPool")
_OPERATORS = {"tensorrt": ("Conv", "ConvTranspose", "Add"), "cpu": QUANTIZED}


def to_fp16(graph: ModelProto) -> ModelProto:
    """The same graph with a float16 body, cast on its way in and out.

    The body is cut out for ONNX Runtime's converter: what that is told to leave alone it still rounds in between.
    """
    typed = _with_shapes(graph)
    body = Body.of(typed.graph)
    half = convert_float_to_float16(
        Extractor(typed).extract_model(list(body.inputs), list(body.outputs)), keep_io_types=True
    )
    return _transplanted(graph, set(body.nodes), half)


def in_half_arithmetic(graph: ModelProto) -> ModelProto:
    """What a device computes from a float16 graph, in operators that ONNX Runtime does compute on a CPU.

    Its CPU kernels run float16 nodes in float32 and drop the rounding between them, so measuring the file itself
    would hide overflow and rounding. Here every float16 tensor is rounded, and sums inside a convolution are float32,
    as on a GPU. For measuring only.
    """
    halves = {
        value.name
        for value in _with_shapes(graph).graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    rounded = ModelProto()
    rounded.CopyFrom(graph)
    del rounded.graph.node[:], rounded.graph.value_info[:]
    for node in graph.graph.node:
        rounded.graph.node.extend(_rounding(node, halves))
    for tensor in rounded.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            exact = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
    return rounded


def to_int8(graph: ModelProto, ranges: TensorsData, keep_float: Collection[str], layout: Layout) -> ModelProto:
    """The same graph with Q/DQ nodes in its body, weights by channel; the nodes in `keep_float` stay as they are.

    `ranges` are of the operators in QUANTIZED, from `calibration.calibrate`.
    """
    operators = _OPERATORS[layout]
    body = set(Body.of(graph.graph).nodes) - set(keep_float)
    prepared = _with_shapes(graph)
    add_pre_process_metadata(prepared)  # else it is advised to fold what is folded
    with tempfile.TemporaryDirectory() as folder:
        save_tensors_data(ranges, Path(folder, "ranges.json"))
        quantize_static(
            prepared,
            Path(folder, "int8.onnx"),
            calibration_cache_path=Path(folder, "ranges.json"),
            calibrate_method=ranges.calibration_method,
            op_types_to_quantize=list(operators),
            nodes_to_quantize=[node.name for node in graph.graph.node if node.name in body],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if layout == "tensorrt" else QuantType.QUInt8,
            extra_options=_options(layout),
        )
        quantized = onnx.load(Path(folder, "int8.onnx"))
    return _fusable_sums(quantized) if layout == "tensorrt" else quantized


def _options(layout: Layout) -> dict[str, object]:
    if layout == "cpu":
        return {"WeightSymmetric": True}
    return {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "QuantizeBias": False,
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": list(_OPERATORS[layout]),
    }


def _with_shapes(graph: ModelProto) -> ModelProto:
    """A copy with the type of every tensor, and of tensors only: the converter takes initialisers in it for these."""
    bare = ModelProto()
    bare.CopyFrom(graph)
    del bare.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)


def _transplanted(graph: ModelProto, old: set[str], body: ModelProto) -> ModelProto:
    """`graph` with the nodes of `body` in place of those named `old`; tensors at the border have the same names."""
    result = ModelProto()
    result.CopyFrom(graph)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    rest = [node for node in graph.graph.node if node.name not in old]
    needed = {name for node in rest for name in node.input}
    result.graph.node.extend([*rest, *body.graph.node])
    result.graph.initializer.extend(tensor for tensor in graph.graph.initializer if tensor.name in needed)
    result.graph.initializer.extend(body.graph.initializer)
    sortable = ir.from_proto(result)
    sortable.graph.sort()
    return ir.to_proto(sortable)


def _rounding(node: NodeProto, halves: set[str]) -> list[NodeProto]:
    """The node, and behind each of its float16 outputs a cast to float16 and back to float32."""
    copy = NodeProto()
    copy.CopyFrom(node)
    nodes = [copy]
    for i, name in enumerate(node.output):
        if name in halves:
            copy.output[i] = f"{name}/exact"
            nodes.append(helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    return nodes


def _fusable_sums(quantized: ModelProto) -> ModelProto:
    """Sums take a convolution's output as it is; only the other input, the residual, stays quantized.

    TensorRT's rule for Q/DQ around a residual sum; a pair behind the convolution would keep them apart.
    """
    producers = {name: node for node in quantized.graph.node for name in node.output}

    def source(name: str, operator: str) -> NodeProto | None:
        node = producers.get(name)
        return node if node is not None and node.op_type == operator else None

    unused: set[str] = set()
    for node in quantized.graph.node:
        for i, name in enumerate(node.input if node.op_type == "Add" else ()):
            dequantize = source(name, "DequantizeLinear")
            quantize = source(dequantize.input[0], "QuantizeLinear") if dequantize else None
            if dequantize and quantize and producers[quantize.input[0]].op_type in CONVOLUTIONS:
                node.input[i] = quantize.input[0]
                unused |= {quantize.name, dequantize.name}  # each pair has one user
    kept = [node for node in quantized.graph.node if node.name not in unused]
    del quantized.graph.node[:], quantized.graph.value_info[:]
    quantized.graph.node.extend(kept)
    return _without_unused_initializers(quantized)


def _without_unused_initializers(graph: ModelProto) -> ModelProto:
    used = {name for node in graph.graph.node for name in node.input}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in used]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    return graph
