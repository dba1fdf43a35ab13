"""Properties of the two distillation losses, and the naive forms they replace."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mobile_centernet.losses.distillation import Direction, pairwise_loss, pixelwise_loss

DIRECTIONS: tuple[Direction, Direction] = ("student_teacher", "teacher_student")


def features(seed: int, channels: int, batch: int = 2) -> Tensor:
    """What a body gives on a map of 4×5: after a ReLU, so with many zeros."""
    return torch.randn(batch, channels, 4, 5, generator=torch.Generator().manual_seed(seed)).relu()


def naive_pairwise(student: Tensor, teacher: Tensor) -> Tensor:
    """Equation 9-10 as printed, with both N×N matrices, in float64; some rows at a time, for whole maps take 1 GiB."""
    s, t = (F.normalize(f.double().flatten(2), dim=1, eps=1e-3) for f in (student, teacher))
    rows = zip(s.split(1024, dim=2), t.split(1024, dim=2), strict=True)
    return torch.stack([(s_rows.mT @ s - t_rows.mT @ t).square().sum() for s_rows, t_rows in rows]).sum() / (
        len(s) * s.shape[2] ** 2
    )


def body_like(seed: int, channels: int, height: int, width: int) -> Tensor:
    """float64 features after a ReLU whose channels have means of their own, so that pixels resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)
    return (noise + torch.randn(1, channels, 1, 1, generator=generator, dtype=torch.float64)).relu()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), channels=st.tuples(st.integers(1, 8), st.integers(1, 8)))
def test_pairwise_is_the_naive_form(seed: int, channels: tuple[int, int]) -> None:
    student, teacher = features(seed, channels[0]), features(seed + 1, channels[1])
    expected = naive_pairwise(student, teacher).item()
    assert pairwise_loss(student, teacher).item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_pairwise_by_hand() -> None:
    # The student's two pixels look the same, the teacher's are orthogonal: 2 of 4 pairs differ, by 1.
    student = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    teacher = torch.tensor([[2.0, 0.0], [0.0, 5.0]]).view(1, 2, 1, 2)
    assert pairwise_loss(student, teacher).item() == pytest.approx(0.5)


def test_pairwise_of_equals_is_zero() -> None:
    student = features(0, 6).requires_grad_()
    loss = pairwise_loss(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(gradient, torch.zeros_like(student))


@pytest.mark.parametrize(("height", "width"), [(40, 72), (80, 144)], ids=["2880 pixels", "11520 pixels"])
def test_pairwise_is_the_naive_form_on_whole_maps(height: int, width: int) -> None:
    student, teacher = body_like(0, 16, height, width), body_like(1, 32, height, width)
    assert pairwise_loss(student, teacher).item() == pytest.approx(naive_pairwise(student, teacher).item(), rel=1e-9)


def test_pairwise_gradient_is_that_of_the_naive_form() -> None:
    student, teacher = body_like(0, 16, 20, 36).requires_grad_(), body_like(1, 32, 20, 36)
    gradient, expected = (
        torch.autograd.grad(loss(student, teacher), student)[0] for loss in (pairwise_loss, naive_pairwise)
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [16, 32, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_pairwise_sees_small_differences(seed: int, channels: int, dtype: torch.dtype) -> None:
    """The loss is 1e-10 of each Gram term here, beyond float32."""
    teacher = body_like(seed, channels, 40, 72).to(dtype)
    student = teacher * (1 + 1e-4 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(2), dtype=dtype))
    expected = naive_pairwise(student, teacher).item()
    assert 0 < expected < 1e-8
    assert pairwise_loss(student, teacher).item() == pytest.approx(expected, rel=1e-6)

    s, t = (F.normalize(values.float().flatten(2), dim=1) for values in (student, teacher))
    energies = [(a @ b.mT).square().sum().item() for a, b in ((s, s), (t, t), (s, t))]
    in_float32 = (energies[0] + energies[1] - 2 * energies[2]) / s.shape[2] ** 2
    assert in_float32 != pytest.approx(expected, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), exponent=st.integers(-18, 0))
def test_pairwise_is_never_negative(seed: int, exponent: int) -> None:
    teacher = features(seed, 6)
    student = teacher + 10.0**exponent * features(seed + 1, 6)
    assert pairwise_loss(student, teacher).item() >= 0


def test_pairwise_is_the_mean_over_the_batch() -> None:
    student, teacher = features(0, 4), features(1, 6)
    alone = [pairwise_loss(student[i : i + 1], teacher[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(pairwise_loss(student, teacher), torch.stack(alone).mean())


def test_pairwise_ignores_scale_and_rotation() -> None:
    student, teacher = features(0, 4), features(1, 4)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))
    turned = torch.einsum("ij,bjhw->bihw", rotation, student * 7)
    torch.testing.assert_close(pairwise_loss(turned, teacher), pairwise_loss(student, teacher))


def test_pairwise_gradient() -> None:
    # Away from 0, where the ReLU's kink is not our concern.
    student = (features(0, 3).double() + 0.1).requires_grad_()
    teacher = features(1, 4).double()
    assert torch.autograd.gradcheck(lambda s: pairwise_loss(s, teacher), student)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_pixelwise_gradient(direction: Direction) -> None:
    student, teacher = features(0, 3, batch=1).double().requires_grad_(), features(1, 3, batch=1).double()
    assert torch.autograd.gradcheck(lambda s: pixelwise_loss(s, teacher, direction), student)


def test_pairwise_gradient_of_dark_pixels_is_bounded() -> None:
    student = torch.zeros(1, 3, 2, 2)
    student[..., 0, :] = 1e-7
    student.requires_grad_()
    loss = pairwise_loss(student, features(1, 4)[:1, :, :2, :2])
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), direction=st.sampled_from(DIRECTIONS))
def test_pixelwise_is_the_divergence_of_bernoullis(seed: int, direction: Direction) -> None:
    a, b = torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)).mul(3)
    p, q = (a, b) if direction == "student_teacher" else (b, a)
    two = [torch.distributions.Bernoulli(logits=logits.double()) for logits in (p, q)]
    expected = torch.distributions.kl_divergence(*two).sum(dim=1).mean().item()
    assert pixelwise_loss(a, b, direction).item() == pytest.approx(expected, rel=1e-5)


def test_pixelwise_by_hand() -> None:
    student, teacher = torch.logit(torch.tensor([[0.5], [0.8]])), torch.logit(torch.tensor([[0.25], [0.8]]))
    loss = pixelwise_loss(student.view(1, 2, 1, 1), teacher.view(1, 2, 1, 1))
    assert loss.item() == pytest.approx(0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75), rel=1e-5)


def test_pixelwise_sums_classes_and_averages_pixels_and_batch() -> None:
    """Something in one class, one of six pixels, one of two images; 0 elsewhere."""
    student, teacher = torch.zeros(2, 2, 2, 3), torch.zeros(2, 2, 2, 3)
    teacher[1, 0, 1, 2] = -log(3)
    one = 0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75)
    assert pixelwise_loss(student, teacher).item() == pytest.approx(one / 12, rel=1e-5)
    # The other way round: ¼ ln(¼ / ½) + ¾ ln(¾ / ½).
    other = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.75 / 0.5)
    assert pixelwise_loss(student, teacher, "teacher_student").item() == pytest.approx(other / 12, rel=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_pixelwise_of_equals_is_zero(direction: Direction) -> None:
    logits = torch.randn(2, 3, 4, 5)
    assert pixelwise_loss(logits, logits.clone(), direction).item() == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_stays_finite(direction: Direction, dtype: torch.dtype) -> None:
    extremes = torch.tensor([-60000.0, -30.0, 0.0, 30.0, 60000.0], dtype=dtype)
    student, teacher = (grid.reshape(1, 1, 5, 5).clone() for grid in torch.meshgrid(extremes, extremes, indexing="ij"))
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pixelwise_loss(student, teacher, direction) + pairwise_loss(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_autocast_changes_nothing() -> None:
    student, teacher = features(0, 4), features(1, 6)
    expected = pairwise_loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pairwise_loss(student, teacher), expected, rtol=0, atol=0)


@pytest.mark.parametrize("loss", [pixelwise_loss, pairwise_loss])
def test_teacher_gets_no_gradient(loss: object) -> None:
    assert callable(loss)
    student, teacher = features(0, 4).requires_grad_(), features(1, 4).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()


def test_unknown_direction() -> None:
    with pytest.raises(ValueError, match="sideways"):
        pixelwise_loss(features(0, 2), features(1, 2), "sideways")  # type: ignore[arg-type]  # what a config might say


def test_different_resolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the teacher's shape"):
        pairwise_loss(features(0, 2), features(1, 3)[..., :4])
    with pytest.raises(ValueError, match="expected the teacher's shape"):
        pixelwise_loss(features(0, 2), features(1, 3))
