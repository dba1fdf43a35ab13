"""All losses of one training step as a dict of unweighted terms; the weights are applied once, in `total`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mobile_centernet.losses.distillation import Direction, pairwise_loss, pixelwise_loss
from mobile_centernet.losses.focal import category_balanced_focal_loss
from mobile_centernet.losses.regression import centre_l1_loss

PAPER_WEIGHTS: Mapping[str, float] = {
    "heatmap": 1.0,
    "size": 0.1,
    "offset": 1.0,
    "pixelwise": 0.1,
    "pairwise": 10.0,
}

TARGETS = ("heatmap", "size", "offset", "index", "mask", "ignore")


class DetectorOutput(Protocol):
    """What the losses read of a model's output; see `models.centernet.CenterNetOutput`."""

    @property
    def heatmap_logits(self) -> Tensor: ...
    @property
    def size(self) -> Tensor: ...
    @property
    def offset(self) -> Tensor: ...
    @property
    def features(self) -> Tensor: ...


class Criterion(nn.Module):
    """Detection losses against the labels, distillation losses against a teacher.

    class_weights: one per class for the heatmap (eq. 4), None for all 1
    alpha, beta:   of the focal loss (eq. 3)
    weights:       the λ of each term, one for each name in PAPER_WEIGHTS
    kl_direction:  of the pixel-wise term; "student_teacher" is the paper's
    """

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        *,
        alpha: float = 2.0,
        beta: float = 4.0,
        weights: Mapping[str, float] = PAPER_WEIGHTS,
        kl_direction: Direction = "student_teacher",
    ) -> None:
        super().__init__()
        if set(weights) != set(PAPER_WEIGHTS):
            raise ValueError(f"expected weights for {sorted(PAPER_WEIGHTS)}, found {sorted(weights)}")
        self.alpha, self.beta = alpha, beta
        self.weights = dict(weights)
        self.kl_direction: Direction = kl_direction
        balance = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("class_weights", balance, persistent=False)

    def forward(
        self,
        output: DetectorOutput,
        targets: Mapping[str, Tensor],
        teacher_output: DetectorOutput | None = None,
    ) -> dict[str, Tensor]:
        """The unweighted terms: heatmap, size, offset; with a teacher also pixelwise and pairwise.

        targets: the batch's heatmap [B, C, H, W], size and offset [B, M, 2], index [B, M], mask [B, M];
        optional ignore [B, 1, H, W] bool (no background here) and labelled [B] bool (False: nothing is known
        about the frame, so that it only counts for distillation).
        """
        heatmap_logits, size, offset = output.heatmap_logits, output.size, output.offset
        if "labelled" in targets:
            labelled = targets["labelled"]
            heatmap_logits, size, offset = heatmap_logits[labelled], size[labelled], offset[labelled]
            targets = {name: targets[name][labelled] for name in TARGETS if name in targets}
        index, mask = targets["index"], targets["mask"]
        terms = {
            "heatmap": category_balanced_focal_loss(
                heatmap_logits, targets["heatmap"], self.class_weights, targets.get("ignore"), self.alpha, self.beta
            ),
            "size": centre_l1_loss(size, targets["size"], index, mask),
            "offset": centre_l1_loss(offset, targets["offset"], index, mask),
        }
        if teacher_output is not None:
            student_logits, teacher_logits = output.heatmap_logits, teacher_output.heatmap_logits
            terms["pixelwise"] = pixelwise_loss(student_logits, teacher_logits, self.kl_direction)
            terms["pairwise"] = pairwise_loss(output.features, teacher_output.features)
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum, what training minimises."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
