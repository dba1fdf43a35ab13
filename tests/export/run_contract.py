"""Runs in a process of its own, which has one version's bindings: our code against them. Prints JSON.

python -m tests.export.run_contract ONNX FOLDER
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt_bindings

from mobile_centernet.errors import ModelError
from mobile_centernet.export.onnx import read_graph, write_graph
from mobile_centernet.export.tensorrt import provide_engine
from mobile_centernet.inference.tensorrt import EngineRunner
from tests.export.checked_bindings import Answers, CheckedModule, MismatchError

SHAPES = {"image": (1, 3, 96, 128), "boxes": (1, 100, 4), "scores": (1, 100), "labels": (1, 100)}
KINDS = {"image": "FLOAT", "boxes": "FLOAT", "scores": "FLOAT", "labels": "INT32"}


def main(onnx_path: Path, folder: Path) -> None:
    report = {
        "version": tensorrt_bindings.__version__,
        "builds": {precision: build(onnx_path, folder, precision) for precision in ("fp32", "fp16", "int8")},
        "timings": timings(onnx_path, folder),
        "refusals": refusals(onnx_path, folder),
        "detections": detections(folder),
        "mistakes": mistakes(),
    }
    print(json.dumps(report))


def bindings(answers: Answers) -> CheckedModule:
    return CheckedModule(tensorrt_bindings, answers)


def build(onnx_path: Path, folder: Path, precision: str) -> dict[str, Any]:
    """Flags by name, and all that was called, for a file that says it is of this precision."""
    trt, model, engine = bindings({}), folder / f"{precision}.onnx", folder / f"{precision}.engine"
    graph, metadata = read_graph(onnx_path)
    write_graph(model, graph, replace(metadata, precision=precision))
    provide_engine(trt, "GPU", model, engine)
    assert engine.read_bytes() == b"built"
    network = next(args[0] for name, args in trt.calls if name == "Builder.create_network")
    creation = tensorrt_bindings.NetworkDefinitionCreationFlag.__members__
    return {
        "network": [name for name, flag in creation.items() if network & (1 << int(flag))],
        "set": [args[0].name for name, args in trt.calls if name == "IBuilderConfig.set_flag"],
        "cleared": [args[0].name for name, args in trt.calls if name == "IBuilderConfig.clear_flag"],
        "calls": [name for name, _ in trt.calls],
        "parsed": next(args[0] for name, args in trt.calls if name == "OnnxParser.parse") == model.read_bytes(),
    }


def timings(onnx_path: Path, folder: Path) -> dict[str, Any]:
    """The cache's content as the builder got it: none, the last one, one that it refuses."""
    cache = folder / "timing.cache"
    offered: list[list[str]] = []
    for accepts in (True, True, False):
        answers = iter([accepts, True])
        trt = bindings({"IBuilderConfig.set_timing_cache": lambda *_args, answers=answers: next(answers)})
        provide_engine(trt, "GPU", onnx_path, folder / f"timed{len(offered)}.engine", cache)
        offered.append([args[0].decode() for name, args in trt.calls if name == "IBuilderConfig.create_timing_cache"])
    return {"offered": offered, "kept": cache.read_bytes().decode()}


def refusals(onnx_path: Path, folder: Path) -> list[str]:
    """What a user reads when TensorRT cannot parse, or cannot build."""
    unparsed = {
        "OnnxParser.parse": lambda *_args: False,
        "OnnxParser.num_errors": lambda: 1,
        "OnnxParser.get_error": lambda index: f"error {index}",
    }
    unbuilt = {"Builder.build_serialized_network": lambda *_args: None}
    return [
        said(lambda answers=answers: provide_engine(bindings(answers), "GPU", onnx_path, folder / "refused.engine"))
        for answers in (unparsed, unbuilt)
    ]


def detections(folder: Path) -> dict[str, Any]:
    """Through an engine, in host memory: no kernel runs, so all outputs stay 0."""
    engine = folder / "model.engine"
    engine.write_bytes(b"built")
    answers: dict[str, Callable[..., Any]] = {
        "ICudaEngine.num_io_tensors": lambda: len(SHAPES),
        "ICudaEngine.get_tensor_name": lambda index: list(SHAPES)[index],
        "ICudaEngine.get_tensor_shape": lambda name: tensorrt_bindings.Dims(SHAPES[name]),
        "ICudaEngine.get_tensor_dtype": lambda name: getattr(tensorrt_bindings.DataType, KINDS[name]),
    }
    trt = bindings(answers)
    detector = EngineRunner(trt, engine, device="cpu")
    boxes, scores, labels = detector(np.full(SHAPES["image"], 7, np.float32))
    foreign = bindings({**answers, "ICudaEngine.get_tensor_name": lambda index: f"tensor_{index}"})
    return {
        "shapes": [list(boxes.shape), list(scores.shape), list(labels.shape)],
        "types": [str(boxes.dtype), str(scores.dtype), str(labels.dtype)],
        "addresses": [args[0] for name, args in trt.calls if name == "IExecutionContext.set_tensor_address"],
        "foreign": said(lambda: EngineRunner(foreign, engine, device="cpu")),
        "unreadable": said(
            lambda: EngineRunner(
                bindings({"Runtime.deserialize_cuda_engine": lambda *_args: None}), engine, device="cpu"
            )
        ),
        "calls": [name for name, _ in trt.calls],
    }


def mistakes() -> dict[str, str]:
    """Code that is wrong for some version: the check must see it, else it proves nothing."""
    trt = bindings({"IBuilderConfig.max_workspace_size": lambda: 0})
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    return {
        "FP16 flag": said(lambda: config.set_flag(trt.BuilderFlag.FP16)),
        "explicit batch": said(
            lambda: builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        ),
        "strongly typed": said(
            lambda: builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        ),
        "workspace size": said(lambda: config.max_workspace_size),
        "wrong type": said(lambda: config.set_flag(trt.MemoryPoolType.WORKSPACE)),
        "wrong object": said(lambda: trt.OnnxParser(builder, logger)),
        "too few": said(lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)),
        "no such method": said(lambda: builder.build_cuda_engine(config)),
    }


def said(action: Callable[[], object]) -> str:
    """The error's sentence; empty when there was none."""
    try:
        action()
    except (ModelError, AttributeError, MismatchError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
