"""What one training step costs: ours against a naive one, with a teacher against without.

Both targets of the project are for processors with bf16 instructions; where they are missed, the figures say so.
"""

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from mobile_centernet import codec
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet
from mobile_centernet.models.complexity import count
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.module import DetectorTraining, Schedule
from mobile_centernet.training.speed import ThreadTuner

pytestmark = pytest.mark.benchmark

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLASSES, BATCH = 4, 16 if DEVICE == "cuda" else 2  # a card wants work; on a processor ratios are what counts
SIZES = [(96, 192), (320, 576)]  # of params.yaml and of the paper
IDS = ["192x96", "576x320"]

Step = Callable[[], object]


def some_batch(height: int, width: int) -> dict[str, torch.Tensor]:
    """Random pixels, eight objects a frame."""
    rng = np.random.default_rng(0)
    cells = np.array((width, height)) // 4
    frames = []
    for _ in range(BATCH):
        centre, size = rng.uniform(0, cells, (8, 2)), rng.uniform(2, 12, (8, 2))
        boxes = 4 * np.hstack((centre - size / 2, centre + size / 2))
        output_size = (int(cells[1]), int(cells[0]))
        frames.append(codec.encode(boxes, rng.integers(0, CLASSES, 8), num_classes=CLASSES, output_size=output_size))
    names = ("heatmap", "size", "offset", "index", "mask")
    targets = {name: torch.stack([torch.from_numpy(getattr(frame, name)) for frame in frames]) for name in names}
    batch = targets | {"image": torch.randint(0, 256, (BATCH, 3, height, width), dtype=torch.uint8)}
    return {name: values.to(DEVICE) for name, values in batch.items()}


def ours(batch: dict[str, torch.Tensor], teacher: CenterNet | None = None, bf16: bool = False) -> Step:
    """The step that `fit` takes, without Lightning around it."""
    student = nn.utils.convert_conv2d_weight_memory_format(build_model("hrnet_w16", CLASSES), torch.channels_last)
    module = DetectorTraining(student, Criterion([1.0] * CLASSES), Schedule(1e-3), fingerprint="", teacher=teacher)
    module.to(DEVICE).on_fit_start()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*self.log.*")  # there is no trainer that could log
            loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()

    return step


def naive(batch: dict[str, torch.Tensor]) -> Step:
    """The same model and losses as one would write them down first: fp32, NCHW, Adam as it comes."""
    student, criterion = build_model("hrnet_w16", CLASSES).to(DEVICE), Criterion([1.0] * CLASSES).to(DEVICE)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        criterion.total(criterion(student(batch["image"]), batch)).backward()
        optimizer.step()

    return step


def share_of_roofline(seconds: float, size: tuple[int, int], bf16: bool) -> str:
    """Of what a large matrix product reaches in this precision here; a step costs three forward passes."""
    side = 8192 if DEVICE == "cuda" else 1024
    left, right = torch.rand(2, side, side, dtype=torch.bfloat16 if bf16 else torch.float32, device=DEVICE)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        product = left @ right
        float(product[0, 0])  # waits for a card
        taken.append(time.perf_counter() - start)
    macs = 3 * BATCH * count(build_model("hrnet_w16", CLASSES), size).conv_macs
    return f"{100 * (macs / seconds) / (side**3 / min(taken)):.0f} % of a matrix product's pace"


@pytest.mark.parametrize(("height", "width"), SIZES, ids=IDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_student_step(precision: str, height: int, width: int, side_by_side, row) -> None:
    batch, bf16 = some_batch(height, width), precision == "bf16"
    if bf16 and DEVICE == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bf16")
    seconds = side_by_side(
        {"naive": naive(batch), "ours": ours(batch, bf16=bf16)}, repetitions=30 if width < 300 else 7
    )
    row(
        f"student's step, {width}×{height}, batch {BATCH}, {precision}, {DEVICE}",
        f"naive {1e3 * seconds['naive']:.0f} ms",
        f"ours {1e3 * seconds['ours']:.0f} ms",
        f"{seconds['naive'] / seconds['ours']:.2f}× faster (target 1.3×)",
        f"{BATCH / seconds['ours']:.0f} images/s",
        share_of_roofline(seconds["ours"], (height, width), bf16),
    )


@pytest.mark.parametrize(("height", "width"), SIZES, ids=IDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_distillation_step(precision: str, height: int, width: int, side_by_side, row) -> None:
    batch, bf16 = some_batch(height, width), precision == "bf16"
    teacher = build_model("hrnet_w32", CLASSES)
    repetitions = 3 if bf16 or width > 300 else 20
    seconds = side_by_side({"plain": ours(batch, bf16=bf16), "KD": ours(batch, teacher, bf16)}, repetitions)
    emulated = bf16 and DEVICE == "cpu" and not torch.cpu._is_avx512_bf16_supported()
    row(
        f"step with a teacher, {width}×{height}, batch {BATCH}, {precision}{' (emulated)' * emulated}, {DEVICE}",
        f"plain {1e3 * seconds['plain']:.0f} ms",
        f"KD {1e3 * seconds['KD']:.0f} ms",
        f"{seconds['KD'] / seconds['plain']:.2f}× (target 1.6×, in bf16)",
        f"{BATCH / seconds['KD']:.0f} images/s",
    )


def spin(core: int) -> None:
    """A busy program on one core."""
    os.sched_setaffinity(0, {core})
    while True:
        pass


def test_training_beside_a_busy_program(row) -> None:
    """Wall time, so it takes an idle machine; with a busy program on one core at least 0.45 of that speed."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2 or DEVICE != "cpu":
        pytest.skip("takes two cores and no GPU")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    step = ours(some_batch(*SIZES[0]))

    def speed(tuner: ThreadTuner | None, steps: int) -> float:
        """Steps a second: of the last half, as a long training has them."""
        torch.set_num_threads(2)
        for i in range(steps):
            if i == steps // 2:
                half = time.perf_counter()
            start = time.perf_counter()
            step()
            if tuner:
                torch.set_num_threads(tuner.after(time.perf_counter() - start))
        return (steps - steps // 2) / (time.perf_counter() - half)

    busy = multiprocessing.get_context("spawn").Process(target=spin, args=(cores[1],), daemon=True)
    try:
        speed(None, 6)
        idle = speed(ThreadTuner(2, 2), 60)
        busy.start()
        time.sleep(15)  # it imports first
        fixed, tuned = speed(None, 12), speed(ThreadTuner(2, 2), 120)
    finally:
        busy.kill()
        os.sched_setaffinity(0, before)
    row(
        "training with a busy program on one of two cores",
        f"idle {idle:.2f} steps/s",
        f"two threads {fixed / idle:.2f} of it",
        f"threads adapted {tuned / idle:.2f} of it (target 0.45)",
    )
