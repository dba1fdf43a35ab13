"""Structured knowledge distillation: the student learns the teacher's heatmap and its similarities between pixels.

Mobile CenterNet, eq. 8-10, after Liu et al., "Structured Knowledge Distillation for Semantic Segmentation" (2019).
No gradient reaches the teacher.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mobile_centernet.losses.focal import at_least_float32

Direction = Literal["student_teacher", "teacher_student"]


def pixelwise_loss(student_logits: Tensor, teacher_logits: Tensor, direction: Direction = "student_teacher") -> Tensor:
    """KL divergence between the two heatmaps (eq. 8); float32, float64 for float64 logits.

    Both [B, C, H, W] before the sigmoid. The heatmap is one sigmoid a class without a background class, so the
    divergence is Bernoulli's for each class, summed over classes, averaged over pixels and batch. The paper prints
    KL(student‖teacher); "teacher_student" is the other way round.
    """
    _check_same(student_logits.shape, teacher_logits.shape)
    with torch.autocast(student_logits.device.type, enabled=False):
        student, teacher = at_least_float32(student_logits), at_least_float32(teacher_logits.detach())
        if direction == "student_teacher":
            divergence = _bernoulli_kl(student, teacher)
        elif direction == "teacher_student":
            divergence = _bernoulli_kl(teacher, student)
        else:
            raise ValueError(f"expected student_teacher or teacher_student, found {direction!r}")
        return divergence.sum(dim=1).mean()


def pairwise_loss(student_features: Tensor, teacher_features: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean squared difference between the two matrices of cosine similarities of all pixel pairs (eq. 9-10).

    [B, Fs, H, W] and [B, Ft, H, W], of the same resolution: mean over the N² pairs of N = H·W pixels and over the
    batch. `eps` is the smallest norm a pixel's features are divided by: it bounds the gradient of dark pixels.

    The N×N matrices are never built. With the unit pixels as columns of S and T,
    Σ(aˢ − aᵗ)² = ‖SᵀS − TᵀT‖² = ‖SSᵀ‖² + ‖TTᵀ‖² − 2‖STᵀ‖², and these are only channels × channels.
    """
    _check_same(
        student_features.shape[:1] + student_features.shape[2:],
        teacher_features.shape[:1] + teacher_features.shape[2:],
    )
    with torch.autocast(student_features.device.type, enabled=False):
        student, teacher = _unit_pixels(student_features, eps), _unit_pixels(teacher_features.detach(), eps)
        energy: Tensor = _SimilarityDifference.apply(student, teacher)  # type: ignore[no-untyped-call]  # torch's
        # What rounding leaves of a difference of 0 may be negative.
        mean = energy.clamp(min=0).mean() / student.shape[-1] ** 2
        return mean.to(torch.promote_types(student_features.dtype, torch.float32))


def _bernoulli_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p‖q) a cell. Log-sigmoids stay finite where log(sigmoid) does not."""
    p = p_logits.sigmoid()
    yes = F.logsigmoid(p_logits) - F.logsigmoid(q_logits)
    no = F.logsigmoid(-p_logits) - F.logsigmoid(-q_logits)
    return p * yes + (1 - p) * no


def _unit_pixels(features: Tensor, eps: float) -> Tensor:
    """[B, F, H, W] to [B, F, N], each pixel's features at length 1 (less below `eps`).

    In float64, the normalisation too: in float32 the loss is noise once student ≈ teacher.
    """
    exact = features.double().flatten(2)
    return exact * exact.square().sum(dim=1, keepdim=True).clamp(min=eps**2).rsqrt()


class _SimilarityDifference(torch.autograd.Function):
    """‖SᵀS − TᵀT‖² of each image from S [B, Fs, N] and T [B, Ft, N]: [B]. Its gradient is 4·S(SᵀS − TᵀT), none for T.

    All three terms come from one product, (S; T)(S; T)ᵀ: where S ≈ T its rounding errors go together and cancel, which
    is ten times as exact as three products. Written by hand, the gradient is one more product instead of two.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        both = torch.cat((student, teacher), dim=1)
        gram = both @ both.mT
        sign = torch.ones_like(gram[0, 0])
        sign[student.shape[1] :] = -1
        ctx.save_for_backward(both, gram[:, : student.shape[1]] * sign)
        return (gram.square() * sign * sign[:, None]).sum(dim=(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        both, signed = ctx.saved_tensors
        return 4 * gradient[:, None, None] * (signed @ both), None


def _check_same(student: torch.Size, teacher: torch.Size) -> None:
    if student != teacher:
        raise ValueError(f"expected the teacher's shape {tuple(teacher)}, found the student's {tuple(student)}")
