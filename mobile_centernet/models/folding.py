"""A frozen model, faster: each batch norm becomes part of the convolution before it."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mobile_centernet.models.centernet import COARSEST_STRIDE, CenterNet


def folded(model: CenterNet) -> CenterNet:
    """A copy for inference alone, on the same device: eval mode, no gradients, batch norms merged into convolutions.

    It says what `model.eval()` says, but for rounding; `model` stays as it is. In eval mode a batch norm is one factor
    and one summand a channel, which the weights and the bias of the convolution before it hold just as well. One that
    reads anything but a plain convolution (a deformable one, say) stays.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    names = {module: name for name, module in copied.named_modules()}
    for conv, norm in _conv_norm_pairs(copied):
        copied.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
        copied.set_submodule(names[norm], nn.Identity())
    return copied.requires_grad_(False)


def _conv_norm_pairs(model: CenterNet) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Which batch norm reads which convolution, as seen in one forward pass: names and order differ by model."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors too: an id is unique only among the living
    pairs = []

    def remember(conv: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        made[id(output)] = (conv, output)

    def look_up(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], norm))

    hooks = [conv.register_forward_hook(remember) for conv in model.modules() if type(conv) is nn.Conv2d]
    hooks += [norm.register_forward_pre_hook(look_up) for norm in model.modules() if type(norm) is nn.BatchNorm2d]
    with torch.no_grad():
        model(torch.zeros(1, 3, COARSEST_STRIDE, COARSEST_STRIDE, device=model.pixel_mean.device))
    for hook in hooks:
        hook.remove()
    return pairs
