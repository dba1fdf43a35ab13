"""The criterion: which frames count for which term, and one application of the weights."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mobile_centernet import codec
from mobile_centernet.losses.criterion import PAPER_WEIGHTS, Criterion
from mobile_centernet.losses.distillation import Direction
from mobile_centernet.models.variants import build_model

DETECTION = {"heatmap", "size", "offset"}
DISTILLATION = {"pixelwise", "pairwise"}


Frame = tuple[Sequence[Sequence[float]], Sequence[int]]


class Output(NamedTuple):
    heatmap_logits: Tensor
    size: Tensor
    offset: Tensor
    features: Tensor


def output(seed: int, batch: int = 2, channels: int = 4) -> Output:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, 3, 8, 10), (batch, 2, 8, 10), (batch, 2, 8, 10), (batch, channels, 8, 10))
    maps = [torch.randn(shape, generator=generator) for shape in shapes]
    return Output(maps[0], maps[1], maps[2], maps[3].relu())


def targets(*frames: Frame, size: tuple[int, int] = (8, 10)) -> dict[str, Tensor]:
    """A batch of frames given as (boxes, labels)."""
    encoded = [
        codec.encode(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            num_classes=3,
            output_size=size,
            max_objects=4,
        )
        for boxes, labels in frames
    ]
    names = ("heatmap", "size", "offset", "index", "mask")
    return {name: torch.stack([torch.from_numpy(getattr(one, name)) for one in encoded]) for name in names}


CARS = ([[2, 2, 18, 18], [20, 8, 32, 28]], [0, 2])
WALKERS = ([[5, 5, 9, 25]], [1])
NOTHING: Frame = ([], [])


def test_terms() -> None:
    criterion = Criterion()
    assert set(criterion(output(0), targets(CARS, WALKERS))) == DETECTION
    terms = criterion(output(0), targets(CARS, WALKERS), output(1, channels=6))
    assert set(terms) == DETECTION | DISTILLATION
    assert all(term.ndim == 0 and term.dtype == torch.float32 for term in terms.values())


def test_weights_are_applied_once() -> None:
    criterion = Criterion()
    terms = {name: torch.tensor(float(i + 1)) for i, name in enumerate(PAPER_WEIGHTS)}
    assert criterion.total(terms).item() == pytest.approx(1 * 1 + 0.1 * 2 + 1 * 3 + 0.1 * 4 + 10 * 5)
    assert criterion.total({"heatmap": terms["heatmap"]}).item() == 1


def test_weights_must_be_complete_and_known() -> None:
    with pytest.raises(ValueError, match="expected weights for"):
        Criterion(weights={"heatmap": 1.0})
    with pytest.raises(ValueError, match="expected weights for"):
        Criterion(weights={**PAPER_WEIGHTS, "mask": 1.0})


def test_class_weights_reach_the_heatmap() -> None:
    batch = output(0), targets(CARS, WALKERS)
    even, twice = (Criterion(class_weights=[w] * 3)(*batch)["heatmap"] for w in (1.0, 2.0))
    torch.testing.assert_close(even, Criterion()(*batch)["heatmap"])
    torch.testing.assert_close(twice, 2 * even)


def test_class_weights_are_no_part_of_a_checkpoint() -> None:
    assert not Criterion(class_weights=[1, 2, 3]).state_dict()


def test_unlabelled_frame_contributes_nothing_but_distillation() -> None:
    student, teacher = output(0), output(1)
    logits = student.heatmap_logits.requires_grad_()
    batch = targets(CARS, NOTHING) | {"labelled": torch.tensor([True, False])}
    terms = Criterion()(student, batch, teacher)
    alone = Criterion()(Output(*(values[:1] for values in student)), targets(CARS))
    for name in DETECTION:
        torch.testing.assert_close(terms[name], alone[name])
    (of_heatmap,) = torch.autograd.grad(terms["heatmap"], logits)
    (of_pixelwise,) = torch.autograd.grad(terms["pixelwise"], logits)
    assert of_heatmap[0].any()
    assert not of_heatmap[1].any()
    assert of_pixelwise[1].any()


def test_batch_without_any_label_or_object() -> None:
    student = Output(*(values.requires_grad_() for values in output(0)))
    unlabelled = targets(NOTHING, NOTHING) | {"labelled": torch.tensor([False, False])}
    terms = Criterion()(student, unlabelled)
    assert all(term.item() == 0 for term in terms.values())
    # Every head still takes part: DDP waits for its gradients.
    for gradient in torch.autograd.grad(Criterion().total(terms), student[:3]):
        assert not gradient.any()

    empty = Criterion()(student, targets(NOTHING, NOTHING))
    assert empty["heatmap"] > 0
    assert empty["size"] == empty["offset"] == 0


@pytest.mark.parametrize("frames", [(CARS, WALKERS), (NOTHING, NOTHING)], ids=["objects", "no objects"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("extreme", [-60000.0, -100.0, 100.0, 60000.0])
@pytest.mark.parametrize("direction", ["student_teacher", "teacher_student"])
def test_saturated_outputs_stay_finite_under_autocast(
    frames: tuple[Frame, Frame], dtype: torch.dtype, extreme: float, direction: Direction
) -> None:
    """Student and teacher are sure of the opposite, in bf16 and fp16."""
    student, teacher = (
        Output(*(torch.full_like(values, sign * extreme, dtype=dtype) for values in output(0))) for sign in (1, -1)
    )
    student = Output(*(values.requires_grad_() for values in student))
    criterion = Criterion(class_weights=[1.0, 10.0, 3.0], kl_direction=direction)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = criterion(student, targets(*frames), teacher)
        total = criterion.total(terms)
    assert all(term.isfinite() and term >= 0 for term in terms.values())
    for gradient in torch.autograd.grad(total, student):
        assert gradient.isfinite().all()


def test_ignored_region_is_no_background() -> None:
    ignore = torch.zeros(2, 1, 8, 10, dtype=torch.bool)
    batch = targets(CARS, NOTHING)
    everything = Criterion()(output(0), batch | {"ignore": ignore})["heatmap"]
    torch.testing.assert_close(everything, Criterion()(output(0), batch)["heatmap"])
    ignore[1] = True
    alone = Criterion()(Output(*(values[:1] for values in output(0))), targets(CARS))
    torch.testing.assert_close(Criterion()(output(0), batch | {"ignore": ignore})["heatmap"], alone["heatmap"])


def test_student_like_its_teacher_has_nothing_to_learn() -> None:
    terms = Criterion()(output(0), targets(CARS, WALKERS), output(0))
    assert terms["pixelwise"].item() == 0
    assert terms["pairwise"].item() == pytest.approx(0, abs=1e-12)


def test_direction_reaches_the_pixelwise_term() -> None:
    there, back = (
        Criterion(kl_direction=direction)(output(0), targets(CARS, WALKERS), output(1))["pixelwise"]
        for direction in ("student_teacher", "teacher_student")
    )
    assert there.item() != pytest.approx(back.item())


@pytest.mark.parametrize("student", ["hrnet_w16_nano", "hrnet_w16_nano_wide"])
def test_small_students_learn_from_a_wider_teacher_in_every_parameter(student: str) -> None:
    torch.manual_seed(0)
    taught, teacher = build_model(student, 3).train(), build_model("hrnet_w32_lite", 3).eval()
    image = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    criterion = Criterion()
    with torch.no_grad():
        advice = teacher(image)
    terms = criterion(taught(image), targets(CARS, WALKERS, size=(8, 16)), advice)
    assert set(terms) == DETECTION | DISTILLATION
    (terms["pixelwise"] + terms["pairwise"] + terms["size"] + terms["offset"]).backward()
    unmoved = [name for name, value in taught.named_parameters() if value.grad is None or not value.grad.any()]
    assert not unmoved
