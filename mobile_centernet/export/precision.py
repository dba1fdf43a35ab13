"""From the exported float32 graph to float16 and int8: the precision is in the graph, so every runtime obeys it.

TensorRT 11 takes precision from nowhere else. Only the network changes (see `export.subgraph`), names and shapes don't.
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

from mobile_centernet.export.subgraph import CONVOLUTIONS, NetworkSubgraph

Layout = Literal["tensorrt", "cpu"]
"""Where the int8 graph shall run. They contradict each other: TensorRT takes no zero point but 0, ONNX Runtime's CPU
kernels are fast only where a zero point lets a ReLU vanish into the rounding.

tensorrt: int8, zero point 0; inputs of convolutions and residual inputs of sums are quantized, outputs are not, so
    that TensorRT fuses convolution, sum and ReLU; weights and biases stay float32 with Q/DQ after the weights, since
    TensorRT 8 refuses int8 constants
cpu:      uint8 with any zero point, every tensor of the network, weights stored as int8, of which 7 bits are used: on
    x86 without VNNI ONNX Runtime adds two products in 16 bits, which clamps where weights use all 8
"""

# Sums of 27 products gain nothing from int8 kernels, and every output has to be rounded: up to so many channels a first
# convolution is faster in float32. With more, what it costs to quantize its output eats that up.
NARROW_STEM = 16

# What the calibrator has to watch for either layout.
QUANTIZED = ("Conv", "ConvTranspose", "Add", "Resize", "Relu", "MaxPool")
_OPERATORS = {"tensorrt": ("Conv", "ConvTranspose", "Add"), "cpu": QUANTIZED}

_OPTIONS: dict[Layout, dict[str, object]] = {
    "tensorrt": {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,
        "QuantizeBias": False,
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": list(_OPERATORS["tensorrt"]),
    },
    "cpu": {"WeightSymmetric": True},
}


def to_fp16(graph: ModelProto) -> ModelProto:
    """The same graph with the network in float16, cast on its way in and out.

    The network is cut out for ONNX Runtime's converter: what that is told to leave alone it still rounds in between.
    """
    typed = _with_shapes(graph)
    network = NetworkSubgraph.of(typed.graph)
    half = convert_float_to_float16(
        Extractor(typed).extract_model(list(network.inputs), list(network.outputs)), keep_io_types=True
    )
    # Back into its place: tensors at the border have the same names.
    result = ModelProto()
    result.CopyFrom(graph)
    del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
    replaced = set(network.nodes)
    rest = [node for node in graph.graph.node if node.name not in replaced]
    needed = {name for node in rest for name in node.input}
    result.graph.node.extend([*rest, *half.graph.node])
    result.graph.initializer.extend(tensor for tensor in graph.graph.initializer if tensor.name in needed)
    result.graph.initializer.extend(half.graph.initializer)
    sortable = ir.from_proto(result)
    sortable.graph.sort()
    return ir.to_proto(sortable)


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
        added = rounded.graph.node.add()
        added.CopyFrom(node)
        for i, name in enumerate(node.output):
            if name in halves:  # after each float16 output a cast to float16 and back to float32
                added.output[i] = f"{name}/exact"
                rounded.graph.node.extend(
                    [
                        helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16),
                        helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT),
                    ]
                )
    for tensor in rounded.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            exact = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
    return rounded


def to_int8(graph: ModelProto, ranges: TensorsData, keep_float: Collection[str], layout: Layout) -> ModelProto:
    """The same graph with Q/DQ nodes in its network, weights by channel.

    Args:
        graph: float32, as `export_onnx` writes it.
        ranges: of the operators in QUANTIZED, from `calibration.calibrate`.
        keep_float: names of nodes that stay as they are; for a CPU so does a first convolution of few channels.
        layout: for which runtime.
    """
    network = NetworkSubgraph.of(graph.graph)
    quantizable = set(network.nodes) - set(keep_float)
    if layout == "cpu":
        widths = {tensor.name: tensor.dims[0] for tensor in graph.graph.initializer if tensor.dims}
        first = [node for node in graph.graph.node if node.name in network.first]
        quantizable -= {node.name for node in first if widths[node.input[1]] <= NARROW_STEM}
    prepared = _with_shapes(graph)
    add_pre_process_metadata(prepared)  # else it is advised to fold what is folded
    with tempfile.TemporaryDirectory() as folder:
        save_tensors_data(ranges, Path(folder, "ranges.json"))
        quantize_static(
            prepared,
            Path(folder, "int8.onnx"),
            calibration_cache_path=Path(folder, "ranges.json"),
            calibrate_method=ranges.calibration_method,
            op_types_to_quantize=list(_OPERATORS[layout]),
            nodes_to_quantize=[node.name for node in graph.graph.node if node.name in quantizable],
            per_channel=True,
            reduce_range=layout == "cpu",
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if layout == "tensorrt" else QuantType.QUInt8,
            extra_options=_OPTIONS[layout],
        )
        quantized = onnx.load(Path(folder, "int8.onnx"))
    if layout == "cpu":
        return quantized

    # TensorRT's rule for Q/DQ around a residual sum: it takes a convolution's output as it is, and only the other
    # input, the residual, stays quantized. A pair after the convolution would keep the two apart.
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
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in quantized.graph.initializer if tensor.name in used]
    del quantized.graph.initializer[:]
    quantized.graph.initializer.extend(constants)
    return quantized


def _with_shapes(graph: ModelProto) -> ModelProto:
    """A copy with the type of every tensor, and of tensors only: the converter takes initialisers in it for these."""
    bare = ModelProto()
    bare.CopyFrom(graph)
    del bare.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
