"""A detector of a few kilobytes whose answers depend on the image."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobile_centernet.inference.graph import GraphMetadata

CLASSES = ("vehicle", "piéton")
HEIGHT, WIDTH, STRIDE, K = 64, 96, 8, 30
ROWS, COLUMNS = HEIGHT // STRIDE, WIDTH // STRIDE
CELLS = ROWS * COLUMNS


def tiny_detector(path: Path, precision: str = "fp32", seed: int = 0) -> Path:
    """Average colours in cells of 8 x 8 pixels, one linear score a class, a sigmoid, the best K cells as boxes."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.01, (2, 3, 1, 1))
    constants = {
        "weights": (weights - weights.mean(axis=1, keepdims=True)).astype(np.float32),  # hue counts, brightness not
        "flat": np.array([1, 2 * CELLS], np.int64),
        "k": np.array([K], np.int64),
        "cells": np.array(CELLS, np.int64),
        "columns": np.array(COLUMNS, np.int64),
        "stride": np.array(STRIDE, np.float32),
        "extent": np.array(3 * STRIDE, np.float32),
        "last": np.array([2], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("AveragePool", ["image"], ["mean"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
        node("Conv", ["mean", "weights"], ["logits"]),
        node("Sigmoid", ["logits"], ["heatmap"]),
        node("Reshape", ["heatmap", "flat"], ["row"]),
        node("TopK", ["row", "k"], ["scores", "index"]),
        node("Div", ["index", "cells"], ["labels"]),
        node("Mod", ["index", "cells"], ["cell"]),
        node("Div", ["cell", "columns"], ["y"]),
        node("Mod", ["cell", "columns"], ["x"]),
    ]
    for axis in ("x", "y"):
        nodes += [
            node("Cast", [axis], [f"{axis}f"], to=TensorProto.FLOAT),
            node("Mul", [f"{axis}f", "stride"], [f"{axis}1"]),
            node("Add", [f"{axis}1", "extent"], [f"{axis}2"]),
        ]
    corners = ["x1", "y1", "x2", "y2"]
    nodes += [node("Unsqueeze", [corner, "last"], [f"{corner}_"]) for corner in corners]
    nodes.append(node("Concat", [f"{corner}_" for corner in corners], ["boxes"], axis=2))
    for operator in nodes:
        operator.name = operator.output[0]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [
            value("boxes", TensorProto.FLOAT, [1, K, 4]),
            value("scores", TensorProto.FLOAT, [1, K]),
            value("labels", TensorProto.INT64, [1, K]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(model, GraphMetadata("tiny", CLASSES, (HEIGHT, WIDTH), precision).to_props())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
