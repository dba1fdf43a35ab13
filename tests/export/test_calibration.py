"""Which frames calibrate, which ranges come of it, and which of several ways to int8 is kept."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, parser

from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError
from mobile_centernet.export.accuracy import running
from mobile_centernet.export.calibration import EQUAL, Method, Trial, balanced_frames, calibrate, quantize
from mobile_centernet.export.onnx import read_graph
from mobile_centernet.images import to_input
from tests.export.small_set import LABELS, small_set
from tests.export.test_subgraph import SMALL

SIZE = (96, 128)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_set(tmp_path_factory.mktemp("set"))


def test_every_class_has_its_turn_the_rarest_first(prepared: Path) -> None:
    """One frame in eight shows the rare class; it is among the first two all the same."""
    train = PreparedSet(prepared, "train")
    counts = Counter(label for i in range(len(train)) for label in train.frame(i).labels.tolist())
    assert counts[0] > 5 * counts[1] > 0
    first_two = [set(train.frame(i).labels.tolist()) for i in balanced_frames(train, 2)]
    assert 1 in first_two[0] and 0 in set().union(*first_two)


def test_labelled_frames_first_then_empty_ones_never_unlabelled_ones(prepared: Path) -> None:
    train = PreparedSet(prepared, "train")
    chosen = balanced_frames(train, 1000)
    states = [train.frame(i).state for i in chosen]
    assert len(set(chosen)) == len(chosen) == sum(label is not None for label in LABELS["train"])
    assert states[-1] == "empty" and "unlabelled" not in states and "empty" not in states[:-1]
    assert balanced_frames(train, 1000) == chosen


def test_without_labelled_frames_there_is_nothing_to_calibrate_on(tmp_path: Path) -> None:
    only_unlabelled = small_set(tmp_path, {"train": [None, None]})
    with pytest.raises(DataError, match="needs labelled frames in split 'train', found none"):
        balanced_frames(PreparedSet(only_unlabelled, "train"), 4)


@pytest.fixture(scope="module")
def graph() -> ModelProto:
    parsed: ModelProto = parser.parse_model(SMALL)
    return parsed


def images(*largest: float) -> list[NDArray[np.float32]]:
    return [np.linspace(0, limit, 32, dtype=np.float32).reshape(1, 2, 4, 4) for limit in largest]


def test_minmax_is_the_range_over_all_frames(graph: ModelProto) -> None:
    """The stem's input is the image minus 1."""
    ranges = calibrate(graph, images(10, 200, 50), "minmax")
    assert [limit.item() for limit in ranges["a"].range_value] == [-1, 199]
    watched = ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.append(watched.graph.output[0])
    watched.graph.output[-1].name = "e"
    session = onnxruntime.InferenceSession(watched.SerializeToString())
    sums = np.concatenate([session.run(["e"], {"image": image})[0] for image in images(10, 200, 50)])
    assert [limit.item() for limit in ranges["e"].range_value] == pytest.approx([sums.min(), sums.max()])


def test_percentile_cuts_off_what_is_rare() -> None:
    """One value in 640,000 is a hundred times as large as all others."""
    graph = parser.parse_model(SMALL.replace("4,4", "400,400"))
    frames = [np.random.default_rng(seed).uniform(0, 100, (1, 2, 400, 400)).astype(np.float32) for seed in (0, 1)]
    frames[1][0, 0, 0, 0] = 10_000
    assert calibrate(graph, frames, "percentile")["a"].range_value[1].item() < 1_000
    assert calibrate(graph, frames, "minmax")["a"].range_value[1].item() == 9_999


def test_among_equals_the_closest_to_float32_is_the_best(graph: ModelProto) -> None:
    def chosen(*scores: tuple[float, float]) -> Trial:
        left = iter(scores)
        return quantize(graph, images(200), ["minmax"], "tensorrt", lambda _graph: next(left)).chosen

    noisy, close, worse = (0.572, 0.0024), (0.572 - EQUAL + 1e-6, 0.0015), (0.572 - EQUAL - 1e-3, 0.0001)
    assert chosen(noisy, close, worse) == Trial("minmax", True, "outputs", *close)
    assert chosen(worse, noisy, worse) == Trial("minmax", True, "outputs", *noisy)


def test_all_ways_are_tried_and_the_best_by_score_is_kept(exported: Path, pictures: list[NDArray[np.uint8]]) -> None:
    graph = read_graph(exported)[0]
    inputs = [to_input(picture, SIZE) for picture in pictures[:2]]
    scored = []

    def score(candidate: ModelProto) -> tuple[float, float]:
        scored.append(candidate)
        return (0.5, 0.1) if len(scored) != 2 else (0.6, 0.1)

    int8 = quantize(graph, inputs, ["minmax"], "tensorrt", score)
    assert [(trial.method, trial.float_layers) for trial in int8.trials] == [
        ("minmax", layers) for layers in ("none", "outputs", "ends")
    ]
    assert int8.chosen == Trial("minmax", True, "outputs", 0.6, 0.1)
    assert int8.graph is scored[1]
    other = quantize(graph, inputs, ["percentile"], "cpu", lambda _graph: (0.5, 0.1))
    assert [trial.symmetric for trial in (*int8.trials, *other.trials)] == [True] * 3 + [False] * 3
    with running(other.graph) as detector:
        assert detector.run(inputs[0]).boxes.shape == (1, 100, 4)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_ranges_are_not_mirrored(graph: ModelProto, method: Method, symmetric: bool) -> None:
    """The stem's input is the image minus 1: -1 to 199. With a zero point, what never comes would cost half of all
    levels."""
    low, high = (limit.item() for limit in calibrate(graph, images(200), method, symmetric)["a"].range_value)
    assert -2 < low <= 0 < 100 < high < 200
