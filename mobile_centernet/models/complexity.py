"""How large and how costly a model is, counted and not estimated."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobile_centernet.models.deform import DeformConv2d


@dataclass(frozen=True)
class Complexity:
    """What `count` counts.

    params:    numbers in all weights, also in those that CenterNet's DLA-34 holds and never uses
    conv_macs: multiply-accumulates of all convolutions for one image: each weight times each position it is used
               at. Biases and norms are left out, and so is what a deformable convolution does to read between cells
    thop_2020: what the tool thop printed in 2020, which papers of that time quote as FLOPs: the MACs and the biases
               of convolutions and 2 per batch-norm element. Two faults are part of it: a deconvolution counts its
               output positions (stride² times too many), and a deformable convolution only its offset convolution
    """

    params: int
    conv_macs: int
    thop_2020: int


def count(model: nn.Module, input_size: tuple[int, int]) -> Complexity:
    """Size of `model`, and its cost for one image of `input_size` = (height, width)."""
    # The meta device walks through the shapes without computing a single convolution.
    dry = copy.deepcopy(model).to("meta").eval()
    costs: list[tuple[int, int]] = []

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Note the true MACs and thop's count of one layer."""
        positions, biases = output.shape[-2] * output.shape[-1], output.numel()
        match module:
            case nn.Conv2d():
                macs = module.weight.numel() * positions
                costs.append((macs, macs + (0 if module.bias is None else biases)))
            case nn.ConvTranspose2d():
                read, weights = inputs[0].shape[-2] * inputs[0].shape[-1], module.weight.numel()
                costs.append((weights * read, weights * positions + (0 if module.bias is None else biases)))
            case DeformConv2d():
                costs.append((module.weight.numel() * positions, 0))
            case nn.BatchNorm2d():
                costs.append((0, 2 * output.numel()))

    for module in dry.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, DeformConv2d, nn.BatchNorm2d)):
            module.register_forward_hook(add)
    with torch.no_grad():
        dry(torch.empty(1, 3, *input_size, device="meta"))
    params = sum(p.numel() for p in model.parameters())
    return Complexity(params, conv_macs=sum(macs for macs, _ in costs), thop_2020=sum(thop for _, thop in costs))
