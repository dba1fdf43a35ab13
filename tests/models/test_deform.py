"""The deformable convolution: against plain convolutions, against the paper's formula, and its gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mobile_centernet.errors import ModelError
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.models.blocks import BasicBlock
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.deform import DeformConv2d, conv_bn_relu, deform_conv2d
from mobile_centernet.models.resnet import ResNet, ResNetSpec


def rand(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


def everywhere(dy: float, dx: float, shape: tuple[int, int, int]) -> Tensor:
    """The same offset for all nine taps at all cells: [B, 18, H, W]."""
    batch, height, width = shape
    return torch.tensor([dy, dx] * 9, dtype=torch.float64).view(1, 18, 1, 1).expand(batch, 18, height, width)


def ones(batch: int, height: int, width: int) -> Tensor:
    return torch.ones(batch, 9, height, width, dtype=torch.float64)


def by_formula(
    x: NDArray[np.float64],
    offset: NDArray[np.float64],
    mask: NDArray[np.float64],
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Equation 1 of the paper, cell by cell: every tap sums the whole input under a bilinear tent of width 1."""
    batch, _, height, width = x.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    out = np.zeros((batch, len(weight), height, width))
    for b, row, column in np.ndindex(batch, height, width):
        out[b, :, row, column] = bias
        for tap, (i, j) in enumerate(np.ndindex(3, 3)):
            at_row = row + i - 1 + offset[b, 2 * tap, row, column]
            at_column = column + j - 1 + offset[b, 2 * tap + 1, row, column]
            tent = np.maximum(0, 1 - abs(rows - at_row)) * np.maximum(0, 1 - abs(columns - at_column))
            value = (x[b] * tent).sum((1, 2)) * mask[b, tap, row, column]
            out[b, :, row, column] += weight[:, :, i, j] @ value
    return out


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (2, 5)])
def test_without_offsets_it_is_a_convolution(size: tuple[int, int]) -> None:
    x, weight, bias = rand(2, 3, *size), rand(4, 3, 3, 3, seed=1), rand(4, seed=2)
    actual = deform_conv2d(x, everywhere(0, 0, (2, *size)), ones(2, *size), weight, bias)
    torch.testing.assert_close(actual, F.conv2d(x, weight, bias, padding=1))


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, -2), (-3, 2), (20, 0)])
def test_whole_offsets_are_a_shifted_convolution(dy: int, dx: int) -> None:
    x, weight = rand(2, 3, 6, 8), rand(4, 3, 3, 3, seed=1)
    padded = F.conv2d(F.pad(x, (24, 24, 24, 24)), weight, padding=1)
    expected = padded[:, :, 24 + dy : 30 + dy, 24 + dx : 32 + dx]
    torch.testing.assert_close(deform_conv2d(x, everywhere(dy, dx, (2, 6, 8)), ones(2, 6, 8), weight), expected)


def test_the_mask_weighs_each_tap() -> None:
    x, weight = rand(1, 2, 5, 6), rand(3, 2, 3, 3, seed=1)
    mask = torch.rand(9, dtype=torch.float64)
    actual = deform_conv2d(x, everywhere(0, 0, (1, 5, 6)), mask.view(1, 9, 1, 1).expand(1, 9, 5, 6), weight)
    torch.testing.assert_close(actual, F.conv2d(x, weight * mask.view(3, 3), padding=1))


@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_against_the_papers_formula(spread: float) -> None:
    """Offsets differ from tap to tap and cell to cell, and many leave the input."""
    x, offset, mask = rand(2, 2, 4, 5), rand(2, 18, 4, 5, seed=1, spread=spread), rand(2, 9, 4, 5, seed=2).sigmoid()
    weight, bias = rand(3, 2, 3, 3, seed=3), rand(3, seed=4)
    expected = by_formula(*(tensor.numpy() for tensor in (x, offset, mask, weight, bias)))
    actual = deform_conv2d(x, offset, mask, weight, bias)
    torch.testing.assert_close(actual, torch.from_numpy(expected))
    single = deform_conv2d(x.float(), offset.float(), mask.float(), weight.float(), bias.float())
    torch.testing.assert_close(single, actual.float(), rtol=1e-4, atol=1e-4)


def test_gradients() -> None:
    """Of every input, away from whole positions, where a bilinear surface has a kink."""
    offset = torch.rand(1, 18, 3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.8 + 0.1
    inputs = (rand(1, 2, 3, 4), offset, rand(1, 9, 3, 4, seed=2).sigmoid(), rand(2, 2, 3, 3, seed=3), rand(2, seed=4))
    assert torch.autograd.gradcheck(deform_conv2d, [tensor.requires_grad_() for tensor in inputs])


def test_layer_starts_as_half_a_convolution() -> None:
    layer, x = DeformConv2d(3, 4), rand(1, 3, 5, 6).float()
    torch.testing.assert_close(layer(x), 0.5 * F.conv2d(x, layer.weight, padding=1))


def test_layer_reads_offsets_first_then_masks() -> None:
    layer, x = DeformConv2d(2, 3).double(), rand(1, 2, 5, 6)
    nn.init.normal_(layer.conv_offset_mask.weight, std=0.5)
    nn.init.normal_(layer.bias)
    assert layer.conv_offset_mask.bias is not None
    nn.init.normal_(layer.conv_offset_mask.bias)
    guide = layer.conv_offset_mask(x)
    tensors = (x, guide[:, :18], guide[:, 18:].sigmoid(), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), torch.from_numpy(by_formula(*(t.detach().numpy() for t in tensors))))


def test_names_and_shapes_are_those_of_the_reference_implementation() -> None:
    assert {name: tuple(tensor.shape) for name, tensor in DeformConv2d(5, 7).state_dict().items()} == {
        "weight": (7, 5, 3, 3),
        "bias": (7,),
        "conv_offset_mask.weight": (27, 5, 3, 3),
        "conv_offset_mask.bias": (27,),
    }


def test_everything_learns_from_the_first_step() -> None:
    layer = DeformConv2d(3, 4)
    layer(rand(2, 3, 5, 6).float()).square().sum().backward()
    assert [name for name, parameter in layer.named_parameters() if not parameter.grad.any()] == []


def test_half_precision_keeps_cells_of_a_wide_map_apart() -> None:
    """bfloat16 has 256 steps between two powers of two: coordinates of 600 cells would fall together."""
    layer, x = DeformConv2d(4, 4), rand(1, 4, 3, 600).float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(x)
    half = layer.bfloat16()(x.bfloat16())
    assert (mixed.dtype, half.dtype) == (torch.bfloat16, torch.bfloat16)
    for actual in (mixed, half):
        torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.05)


def test_the_plain_variant_has_the_same_names_and_a_bias() -> None:
    deformable, plain = conv_bn_relu(3, 4, True)[0].state_dict(), conv_bn_relu(3, 4, False)[0].state_dict()
    assert set(plain) == {"weight", "bias"} == {name for name in deformable if "offset" not in name}
    assert all(plain[name].shape == deformable[name].shape for name in plain)


def test_export_says_what_to_export_instead(tmp_path: Path) -> None:
    backbone = ResNet(ResNetSpec(BasicBlock, (1, 1, 1, 1)))
    model = CenterNet(backbone, backbone.out_channels, name="small", num_classes=1, head_channels=8)
    with pytest.raises(ModelError, match="cannot be exported to ONNX: expected a _conv variant"):
        export_onnx(model, tmp_path / "model.onnx", classes=["car"], input_size=(64, 64))
    assert not list(tmp_path.iterdir())
