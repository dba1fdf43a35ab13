"""Does a graph hold only what TensorRT 8.2's ONNX parser documents? From a table, so that it needs no TensorRT.

`tensorrt_8_2.json` is that table; it names its sources. Newer TensorRTs take more, never less.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

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
    table = _table()
    found = [
        f"expected operators of opset {table['opset']} at most, found {domain or 'ai.onnx'} {version}"
        for domain, version in ((opset.domain, opset.version) for opset in model.opset_import)
        if domain or version > table["opset"]
    ]
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    facts = _Facts(_types(typed), {tensor.name: numpy_helper.to_array(tensor) for tensor in typed.initializer})
    found += [f"{name}: {problem}" for name, problem in _integers(facts.constants)]
    for node in typed.node:
        rule = table["operators"].get(node.op_type)
        if rule is None:
            found.append(f"{node.name}: expected an operator of the table, found {node.op_type}")
            continue
        found += [f"{node.name}: {problem}" for check in _CHECKS for problem in check(node, rule, facts)]
    return found


@cache
def _table() -> dict[str, Any]:
    text = files("mobile_centernet.export").joinpath("tensorrt_8_2.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


@dataclass(frozen=True)
class _Facts:
    """Element types of all tensors, and the values of the constant ones."""

    types: Mapping[str, int]
    constants: Mapping[str, NDArray[Any]]


def _types(graph: GraphProto) -> dict[str, int]:
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _integers(constants: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, str]]:
    """INT64 becomes INT32: a larger constant would be clamped without a word that stops the build."""
    limits = np.iinfo(np.int32)
    for name, value in constants.items():
        if value.dtype == np.int64 and value.size and (value.min() < limits.min or value.max() > limits.max):
            yield name, f"expected integers of 32 bits, found {value.min()} to {value.max()}"


def _check_types(node: NodeProto, rule: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    names = [node.input[rule.get("typed_input", 0)]] if node.input else []
    if node.op_type in ("Cast", "Constant"):
        names += list(node.output)
    for name in names:
        kind = facts.types.get(name, TensorProto.UNDEFINED)
        if _TYPES.get(kind) not in rule["types"]:
            expected = ", ".join(rule["types"])
            yield f"{node.op_type} expected {expected}, found {TensorProto.DataType.Name(kind)} in {name}"


def _check_attributes(node: NodeProto, rule: Mapping[str, Any], _facts: _Facts) -> Iterator[str]:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    for name, allowed in rule.get("attributes", {}).items():
        value = values.get(name, b"").decode()
        if value and value not in allowed:
            yield f"{node.op_type} expected {name} {', '.join(allowed)}, found {value}"


def _check_constants(node: NodeProto, rule: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    for i in rule.get("constant_inputs", ()):
        if i < len(node.input) and node.input[i] not in facts.constants:
            yield f"{node.op_type} expected a constant as input {i}, found the computed {node.input[i]}"
    for i in rule.get("computed_inputs", ()):
        if node.input[i] in facts.constants:
            yield f"{node.op_type} expected a computed input {i}, found the constant {node.input[i]}"
    for i in rule.get("zero_inputs", ()):
        value = facts.constants.get(node.input[i]) if i < len(node.input) else np.zeros(1)
        if value is None or value.any():
            yield f"{node.op_type} expected a constant zero point of 0, found {node.input[i]}"


def _check_shape(node: NodeProto, rule: Mapping[str, Any], _facts: _Facts) -> Iterator[str]:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    dims = len(values.get("kernel_shape", ()))
    if "spatial_dims" in rule and dims not in rule["spatial_dims"]:
        yield f"{node.op_type} expected a kernel of {rule['spatial_dims']} dimensions, found {dims}"
    if "outputs" in rule and len(node.output) > rule["outputs"]:
        yield f"{node.op_type} expected at most {rule['outputs']} output, found {len(node.output)}"


def _check_top_k(node: NodeProto, _rule: Mapping[str, Any], facts: _Facts) -> Iterator[str]:
    k = facts.constants.get(node.input[1]) if node.op_type == "TopK" else None
    if k is not None and k.max() > _table()["top_k"]:
        yield f"TopK expected K of at most {_table()['top_k']}, found {k.max()}"


_CHECKS: tuple[Callable[[NodeProto, Mapping[str, Any], _Facts], Iterator[str]], ...] = (
    _check_types,
    _check_attributes,
    _check_constants,
    _check_shape,
    _check_top_k,
)
