"""A small detector that says something: untrained ones give one score everywhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.variants import build_model
from tests.helpers.heads import last_layers

CLASSES = ("vehicle", "pedestrian", "scooter", "bicycle")
SIZE = (96, 128)


def picture(seed: int, size: tuple[int, int] = (180, 320)) -> NDArray[np.uint8]:
    """Coloured rectangles on a gradient with noise: edges, flat areas and texture."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.linspace(0, 200, width)[None, :, None] + rng.normal(0, 8, (height, width, 3))
    for _ in range(12):
        x, y = rng.integers(0, width - 8), rng.integers(0, height - 8)
        w, h = rng.integers(8, width // 3), rng.integers(8, height // 3)
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def lively() -> Callable[[str], CenterNet]:
    """A model whose batch norms know the images and whose heads differ from place to place, unsaturated."""

    def build(name: str) -> CenterNet:
        torch.manual_seed(0)
        model = build_model(name, len(CLASSES))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # running statistics become plain means
        images = torch.from_numpy(np.stack([picture(seed, SIZE) for seed in range(4)])).permute(0, 3, 1, 2)
        with torch.no_grad():
            model.train()(images)
            features = model.eval()(images).features
        last = last_layers(model)
        for (weight, _), spread in zip(last, (1.0, 2.0, 0.2), strict=True):
            nn.init.normal_(weight, std=spread / float(features.std()) / weight.shape[1])
        nn.init.constant_(last.size.bias, 5.0)
        return model

    return build


@pytest.fixture(scope="session")
def student(lively: Callable[[str], CenterNet]) -> CenterNet:
    return lively("hrnet_w16")


@pytest.fixture(scope="session")
def exported(student: CenterNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.fp32.onnx"
    export_onnx(student, path, classes=CLASSES, input_size=SIZE)
    return path


@pytest.fixture(scope="session")
def pictures() -> list[NDArray[np.uint8]]:
    """Structure, noise, black and white, of several sizes."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    flat = [np.full((50, 70, 3), value, np.uint8) for value in (0, 255)]
    return [*(picture(seed) for seed in range(3)), noise, *flat]
