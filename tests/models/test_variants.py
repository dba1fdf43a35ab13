"""The table of models: its rows, and what holds for every one of them."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mobile_centernet.errors import ModelError
from mobile_centernet.export.onnx import DetectionGraph, export_onnx
from mobile_centernet.images import to_input
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import MODELS, build_model
from tests.helpers.heads import last_layers

PAPER = ("resnet18", "resnet50", "dla34", "hrnet_w32", "hrnet_w16")
SIZE = (64, 96)
LITE = ("hrnet_w16_lite", "hrnet_w32_lite")
NANO = ("hrnet_w16_nano", "hrnet_w16_nano_wide")
PLAIN = ("resnet18_conv", "resnet50_conv", "dla34_conv")


def test_table() -> None:
    assert tuple(MODELS) == (*PAPER, *LITE, *NANO, *PLAIN)
    heads = {name: spec.head_channels for name, spec in MODELS.items()}
    narrow = {"hrnet_w16": 32, "hrnet_w16_lite": 32, "hrnet_w16_nano": 48, "hrnet_w16_nano_wide": 32}
    assert heads == dict.fromkeys(MODELS, 64) | narrow
    assert {name for name, spec in MODELS.items() if spec.shared_head and spec.scaled_input} == set(NANO)
    assert {name for name, spec in MODELS.items() if spec.shared_head or spec.scaled_input} == set(NANO)


def test_only_the_papers_models_carry_the_papers_figures() -> None:
    figures = {name: (spec.paper.params_m, spec.paper.gflops) for name, spec in MODELS.items() if spec.paper}
    assert figures == {
        "resnet18": (14.4, 10.4),
        "resnet50": (30.7, 18.9),
        "dla34": (19.8, 14.4),
        "hrnet_w32": (28.6, 29.5),
        "hrnet_w16": (1.62, 5.7),
    }


@pytest.mark.parametrize("name", [*PAPER, *LITE, *NANO])  # the plain variants are run below
def test_every_body_gives_rectified_features_at_a_quarter(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 3).eval()
    with torch.no_grad():
        output = model(torch.randint(0, 256, (1, 3, 32, 64), dtype=torch.uint8))
    assert model.name == name
    assert output.heatmap_logits.shape == (1, 3, 8, 16)
    assert output.features.shape == (1, model.backbone.out_channels, 8, 16)
    assert (output.features >= 0).all() and output.features.any()


@pytest.fixture
def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, 12, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(2)]


def lively(name: str, pictures: list[NDArray[np.uint8]]) -> CenterNet:
    """A model whose batch norms know the images and whose scores differ from place to place."""
    torch.manual_seed(0)
    model = build_model(name, 2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # running statistics become plain means
    with torch.no_grad():
        model.train()(torch.from_numpy(np.concatenate([to_input(picture, SIZE) for picture in pictures])))
    nn.init.normal_(last_layers(model).heatmap.weight, std=0.1)
    nn.init.constant_(last_layers(model).size.bias, 5.0)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "deconvolutions"),
    [
        *((name, 0) for name in NANO),
        ("resnet18_conv", 3),
        ("dla34_conv", 8),
        pytest.param("resnet50_conv", 3, marks=pytest.mark.slow),
    ],
)
def test_other_variants_export_and_say_what_torch_says(
    name: str, deconvolutions: int, pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    model, path = lively(name, pictures), tmp_path / "model.onnx"
    export_onnx(model, path, classes=["car", "person"], input_size=SIZE, k=20)
    graph = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 13)]
    operators = Counter(node.op_type for node in graph.graph.node)
    assert operators["ConvTranspose"] == deconvolutions
    assert not operators.keys() & {"BatchNormalization", "GridSample"}
    assert (graph.graph.node[0].op_type == "Conv") == (name in NANO)  # others normalise before it
    graph_in_torch = DetectionGraph(model.double(), k=20)  # in float64, so that the difference is the file's alone
    for picture in pictures:
        image = to_input(picture, SIZE)
        with torch.no_grad():
            exact = graph_in_torch(torch.from_numpy(image).double())
            expected = [each.float() if each.is_floating_point() else each for each in exact]
        scores = expected[1][0]
        assert scores[0] - scores[-1] > 0.05
        boxes, found, labels = (torch.from_numpy(array) for array in Detector(path).run(image))
        torch.testing.assert_close(found, expected[1], rtol=0, atol=1e-4)
        apart = torch.cat([scores.diff().abs() > 1e-3, torch.tensor([False])])  # near-tied ranks may swap
        clear = apart & apart.roll(1).index_fill(0, torch.tensor([0]), True)
        assert clear.sum() > 5
        torch.testing.assert_close(boxes[0, clear], expected[0][0, clear], rtol=0, atol=1e-2)
        assert labels[0, clear].equal(expected[2][0, clear])


def test_model_knows_itself() -> None:
    model = build_model("hrnet_w16", 7)
    assert (model.name, model.num_classes, model.head_channels, model.stride) == ("hrnet_w16", 7, 32, 4)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'resnet_9000': expected one of resnet18, .*hrnet_w32, hrnet_w16, "):
        build_model("resnet_9000", 4)


def test_no_classes() -> None:
    with pytest.raises(ModelError, match="at least one class"):
        build_model("hrnet_w16", 0)
