"""Does a graph hold only what TensorRT 8.2's ONNX parser documents? From a table, so that it needs no TensorRT.

`tensorrt_8_2.json` is that table; it names its sources. Newer TensorRTs take more, never less.
"""

import json
from collections.abc import Mapping
from importlib.resources import files

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

_TYPES: Mapping[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT32",
    TensorProto.INT8: "INT8",
    TensorProto.BOOL: "BOOL",
}


def lint(model: ModelProto) -> list[str]:
    """What TensorRT 8.2 would stumble over, one sentence each; empty for a graph that it documents to parse."""
    table = json.loads(files("mobile_centernet.export").joinpath("tensorrt_8_2.json").read_text(encoding="utf-8"))
    found = [
        f"expected operators of opset {table['opset']} at most, found {domain or 'ai.onnx'} {version}"
        for domain, version in ((opset.domain, opset.version) for opset in model.opset_import)
        if domain or version > table["opset"]
    ]
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = [*typed.input, *typed.output, *typed.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in typed.initializer}

    # INT64 becomes INT32: a larger constant would be clamped without a word that stops the build.
    limits = np.iinfo(np.int32)
    for name, value in constants.items():
        if value.dtype == np.int64 and value.size and (value.min() < limits.min or value.max() > limits.max):
            found.append(f"{name}: expected integers of 32 bits, found {value.min()} to {value.max()}")
    for node in typed.node:
        rule = table["operators"].get(node.op_type)
        if rule is None:
            found.append(f"{node.name}: expected an operator of the table, found {node.op_type}")
            continue

        # Where the node breaks its operator's rule: by element types of tensors, attributes, inputs and shape.
        problems = []
        checked = [node.input[rule.get("typed_input", 0)]] if node.input else []
        for name in (*checked, *(node.output if node.op_type in ("Cast", "Constant") else ())):
            kind = types.get(name, TensorProto.UNDEFINED)
            if _TYPES.get(kind) not in rule["types"]:
                problems.append(
                    f"expected {', '.join(rule['types'])}, found {TensorProto.DataType.Name(kind)} in {name}"
                )

        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        for name, allowed in rule.get("attributes", {}).items():
            chosen = attributes.get(name, b"").decode()
            if chosen and chosen not in allowed:
                problems.append(f"expected {name} {', '.join(allowed)}, found {chosen}")

        for i in rule.get("constant_inputs", ()):
            if i < len(node.input) and node.input[i] not in constants:
                problems.append(f"expected a constant as input {i}, found the computed {node.input[i]}")
        for i in rule.get("computed_inputs", ()):
            if node.input[i] in constants:
                problems.append(f"expected a computed input {i}, found the constant {node.input[i]}")
        for i in rule.get("zero_inputs", ()):
            zero = constants.get(node.input[i]) if i < len(node.input) else np.zeros(1)
            if zero is None or zero.any():
                problems.append(f"expected a constant zero point of 0, found {node.input[i]}")

        dims = len(attributes.get("kernel_shape", ()))
        if "spatial_dims" in rule and dims not in rule["spatial_dims"]:
            problems.append(f"expected a kernel of {rule['spatial_dims']} dimensions, found {dims}")
        if "outputs" in rule and len(node.output) > rule["outputs"]:
            problems.append(f"expected at most {rule['outputs']} output, found {len(node.output)}")
        found += [f"{node.name}: {node.op_type} {problem}" for problem in problems]
        k = constants.get(node.input[1]) if node.op_type == "TopK" else None
        if k is not None and k.max() > table["top_k"]:
            found.append(f"{node.name}: TopK expected K of at most {table['top_k']}, found {k.max()}")
    return found
