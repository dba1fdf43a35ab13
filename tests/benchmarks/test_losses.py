"""What the distillation losses cost, against the matrices of all pixel pairs that equation 9-10 prints."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_centernet.losses.distillation import pairwise_loss

pytestmark = pytest.mark.benchmark

HEIGHT, WIDTH = 80, 144  # of the paper's input of 576×320, so 11,520 pixels
STUDENT, TEACHER = 16, 32


def naive_pairwise_loss(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (F.normalize(features.flatten(2), dim=1, eps=1e-3) for features in (student, teacher))
    return (s.mT @ s - t.mT @ t).square().mean()


def test_pairwise_time(side_by_side, row) -> None:
    teacher = torch.rand(1, TEACHER, HEIGHT, WIDTH)
    student = torch.rand(1, STUDENT, HEIGHT, WIDTH, requires_grad=True)

    def step(loss):
        return lambda: torch.autograd.grad(loss(student, teacher), student)

    seconds = side_by_side({"naive": step(naive_pairwise_loss), "Gram": step(pairwise_loss)}, repetitions=5, warm_up=1)
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
torch.set_num_threads(1)

def naive(student, teacher):
    s, t = (F.normalize(features.flatten(2), dim=1, eps=1e-3) for features in (student, teacher))
    return (s.mT @ s - t.mT @ t).square().mean()

def step(height, width):
    student = torch.rand(1, 16, height, width, requires_grad=True)
    teacher = torch.rand(1, 32, height, width)
    LOSS(student, teacher).backward()

step(16, 16)  # loads the libraries
# measured
step(80, 144)
"""


def test_pairwise_memory(peak_memory, row) -> None:
    naive, gram = (peak_memory(SCRIPT.replace("LOSS", loss)) for loss in ("naive", "pairwise_loss"))
    row(
        "the same, peak memory",
        f"naive {naive:.0f} MiB",
        f"Gram {gram:.0f} MiB",
        f"{naive / gram:.0f}× less (target 50×)",
    )
    assert naive / gram >= 50
