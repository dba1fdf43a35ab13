"""What a model's heads end in, whether each has its own or one is shared."""

from typing import NamedTuple

from torch import Tensor

from mobile_centernet.models.centernet import CenterNet


class LastLayer(NamedTuple):
    """Of one output: weight [channels, hidden, 1, 1] and bias [channels], the model's own, to be changed in place."""

    weight: Tensor
    bias: Tensor


class LastLayers(NamedTuple):
    heatmap: LastLayer
    size: LastLayer
    offset: LastLayer


def last_layers(model: CenterNet) -> LastLayers:
    if not model.shared_head:
        heads = (model.heatmap_head, model.size_head, model.offset_head)
        return LastLayers(*(LastLayer(head.out.weight.detach(), head.out.bias.detach()) for head in heads))
    weight, bias = model.head.out.weight.detach(), model.head.out.bias.detach()
    classes = model.num_classes
    rows = (slice(0, classes), slice(classes, classes + 2), slice(classes + 2, classes + 4))
    return LastLayers(*(LastLayer(weight[part], bias[part]) for part in rows))
