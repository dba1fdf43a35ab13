"""The category-balanced focal loss on heatmaps (Mobile CenterNet, eq. 3)."""

import torch
from torch import Tensor

SATURATION = 1e-4
"""Scores are kept this far from 0 and 1, as in CenterNet's code: their logarithms stay finite."""


def category_balanced_focal_loss(
    heatmap_logits: Tensor,
    heatmap_target: Tensor,
    class_weights: Tensor | None = None,
    ignore_mask: Tensor | None = None,
    alpha: float = 2,
    beta: float = 4,
) -> Tensor:
    """CenterNet's focal loss with one weight a class: the sum over all cells / the number of objects.

    heatmap_logits [B, C, H, W] before the sigmoid, any float dtype; heatmap_target [B, C, H, W] in 0..1, exactly
    1 at object centres; class_weights [C], None for all 1; ignore_mask [B, 1, H, W] bool, True where unlabelled
    objects may be: such cells are no background, labelled centres among them still count.
    Without any object the result is the background's sum alone. float32, float64 for float64 logits.
    """
    with torch.autocast(heatmap_logits.device.type, enabled=False):
        # At least float32: in fp16 and bf16, 1 - 1e-4 is 1 and the logarithm of its complement infinite.
        score = at_least_float32(heatmap_logits).sigmoid().clamp(SATURATION, 1 - SATURATION)
        target = at_least_float32(heatmap_target)
        centre = target == 1
        of_centres = -((1 - score) ** alpha) * score.log() * centre
        of_background = -((1 - target) ** beta) * score**alpha * (1 - score).log()
        if ignore_mask is not None:
            of_background = of_background * ~ignore_mask.bool()
        per_class = (of_centres + of_background).sum(dim=(0, 2, 3))
        if class_weights is not None:
            per_class = per_class * class_weights
        return per_class.sum() / centre.sum().clamp(min=1)


def at_least_float32(values: Tensor) -> Tensor:
    """What losses are computed in, whatever autocast gave the model: fp16, bf16 and integers become float32.

    float64 stays, so that gradients can be checked numerically.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
