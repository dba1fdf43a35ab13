"""Which range of values each int8 tensor covers: from training frames, chosen by validation frames."""

import io
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, TensorsData, create_calibrator

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError
from mobile_centernet.export.precision import QUANTIZED, Layout, to_int8
from mobile_centernet.export.subgraph import NetworkSubgraph
from mobile_centernet.inference.graph import INPUT

Method = Literal["minmax", "percentile", "entropy"]

# The percentile of absolute values that still fits; what lies above is clipped.
PERCENTILE = 99.999

_METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": PERCENTILE, "num_bins": 2048}),
    # With ONNX Runtime's own 128 bins for 128 levels there is only one threshold to choose from.
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 512, "num_quantized_bins": 128}),
}

# Half a point of mAP@0.5 is one box that tips over its threshold: it tells nothing about which way is better.
EQUAL = 0.005


@dataclass(frozen=True)
class Trial:
    """One way to int8, and its scores on the validation frames.

    symmetric:        whether 0 is in the middle of each range, as TensorRT wants it; else the range is what was seen
    float_layers:     what stays float32: none; outputs, the last convolution of each head; ends, these, the heads'
                      hidden ones and the first convolution of all
    score_difference: of the detections' scores to those of float32, by rank, mean absolute
    """

    method: Method
    symmetric: bool
    float_layers: str
    map50: float
    score_difference: float


@dataclass(frozen=True)
class Quantized:
    """The chosen way and what it makes of the graph, and all that were tried."""

    chosen: Trial
    trials: tuple[Trial, ...]
    graph: ModelProto


ScoreFn = Callable[[ModelProto], tuple[float, float]]
"""A quantized graph to its mAP@0.5 and score difference, on validation frames: they neither calibrate nor test."""


def quantize(
    graph: ModelProto, inputs: Sequence[NDArray[np.float32]], methods: Sequence[Method], layout: Layout, score: ScoreFn
) -> Quantized:
    """Try every method with every choice of layers that stay float32, and keep the one closest to float32.

    Args:
        graph: float32, as `export_onnx` writes it.
        inputs: what calibrates, [1, 3, h, w] each, RGB 0..255.
        methods: the calibrators.
        layout: for which runtime.
        score: measures each candidate. Among those within EQUAL of the highest mAP@0.5 the smallest score
            difference wins.
    """
    trials: dict[Trial, ModelProto] = {}
    symmetric = layout == "tensorrt"  # neither layout can do the other
    network = NetworkSubgraph.of(graph.graph)
    float_layers = {"none": (), "outputs": network.last, "ends": network.first + network.hidden + network.last}
    for method in methods:
        ranges = calibrate(graph, inputs, method, symmetric)
        for name, nodes in float_layers.items():
            candidate = to_int8(graph, ranges, nodes, layout)
            trials[Trial(method, symmetric, name, *score(candidate))] = candidate
    highest = max(trial.map50 for trial in trials)
    equals = [trial for trial in trials if trial.map50 >= highest - EQUAL]
    chosen = min(equals, key=lambda trial: trial.score_difference)
    return Quantized(chosen, tuple(trials), trials[chosen])


def balanced_frames(prepared: PreparedSet, count: int) -> list[int]:
    """Up to `count` labelled frames in which all classes have their turn, the rarest first; the same at every call.

    Each class in turn adds the next frame that shows it, so that a class in one frame of a hundred is calibrated as
    well as the most frequent one. Frames that are known to be empty fill up. Raises DataError when there are none.
    """
    order = np.random.default_rng(0).permutation(len(prepared)).tolist()
    frames = {i: prepared.frame(i) for i in order}
    showing = [
        [i for i in order if label in frames[i].labels and frames[i].state is FrameState.LABELLED]
        for label in range(len(prepared.classes))
    ]
    empty = [i for i in order if frames[i].state is FrameState.EMPTY]
    turns = zip_longest(*sorted(showing, key=len))
    chosen = list(dict.fromkeys([*(i for turn in turns for i in turn if i is not None), *empty]))[:count]
    if not chosen:
        raise DataError(f"{prepared.root}: int8 needs labelled frames in split {prepared.split!r}, found none")
    return chosen


def calibrate(
    graph: ModelProto, inputs: Iterable[NDArray[np.float32]], method: Method, symmetric: bool = True
) -> TensorsData:
    """The range of every tensor around the network's operators, over `inputs` ([1, 3, h, w], RGB 0..255).

    `symmetric` chooses by absolute values; `minmax` is always what was seen, and made symmetric by `to_int8`.
    """
    kind, options = _METHODS[method]
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # it prints progress
        onnx.save(graph, Path(folder, "graph.onnx"))
        calibrator = create_calibrator(
            Path(folder, "graph.onnx"),
            QUANTIZED,
            augmented_model_path=str(Path(folder, "watched.onnx")),
            calibrate_method=kind,
            extra_options=options | ({} if method == "minmax" else {"symmetric": symmetric}),
        )
        for image in inputs:  # one by one: it keeps all activations of what it is given at once
            calibrator.collect_data(_Once(image))
        return calibrator.compute_data()


class _Once(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, image: NDArray[np.float32]) -> None:
        self._left = [{INPUT: image}]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return self._left.pop() if self._left else None
