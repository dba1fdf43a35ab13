"""What the pair-wise loss costs, against the matrices of all pixel pairs that equations 9-10 print."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_centernet.losses.distillation import pairwise_loss

pytestmark = pytest.mark.benchmark


def naive_pairwise_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """In float32, which is the best that can be said for it."""
    s, t = (F.normalize(features.flatten(2), dim=1, eps=1e-3) for features in (student, teacher))
    return (s.mT @ s - t.mT @ t).square().mean()


def test_pairwise_time(side_by_side, row) -> None:
    teacher = torch.rand(1, 32, 80, 144)  # of the paper's input of 576×320
    student = torch.rand(1, 16, 80, 144, requires_grad=True)
    losses = {"naive": naive_pairwise_loss, "Gram": pairwise_loss}
    steps = {
        name: lambda loss=loss: torch.autograd.grad(loss(student, teacher), student) for name, loss in losses.items()
    }
    seconds = side_by_side(steps, repetitions=7)
    ratio = seconds["naive"] / seconds["Gram"]
    row(
        "pair-wise loss, 11,520 pixels, forward and backward",
        f"naive {1e3 * seconds['naive']:.0f} ms",
        f"Gram {1e3 * seconds['Gram']:.1f} ms",
        f"{ratio:.0f}× faster (target 200×)",
    )
    assert ratio >= 200


SCRIPT = """
import torch
from torch.nn import functional as F
from mobile_centernet.losses.distillation import pairwise_loss

def naive_pairwise_loss(student, teacher):
    s, t = (F.normalize(features.flatten(2), dim=1, eps=1e-3) for features in (student, teacher))
    return (s.mT @ s - t.mT @ t).square().mean()

def step(height, width):
    student = torch.rand(1, 16, height, width, requires_grad=True)
    teacher = torch.rand(1, 32, height, width)
    CANDIDATE(student, teacher).backward()

step(8, 8)  # loads the libraries
# measured
step(80, 144)
"""


def test_pairwise_memory(peak_memory, row) -> None:
    naive, gram = (peak_memory(SCRIPT.replace("CANDIDATE", name)) for name in ("naive_pairwise_loss", "pairwise_loss"))
    row(
        "pair-wise loss, 11,520 pixels, peak memory, features included",
        f"naive {naive:.0f} MiB",
        f"Gram {gram:.0f} MiB",
        f"{naive / gram:.0f}× less (target 50×)",
    )
    assert naive / gram >= 50
