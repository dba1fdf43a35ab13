"""An unlabelled frame never trains as background: skipped, distilled or pseudo-labelled. Ignored regions likewise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import CheckedBoxes, ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import EpochBatches, TrainingSamples
from mobile_centernet.data.training.pseudo_labels import pseudo_document, read_pseudo_labels
from mobile_centernet.detections import Detections
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.evaluation.coco_eval import evaluate_map50
from mobile_centernet.files import write_json
from mobile_centernet.losses.criterion import Criterion
from mobile_centernet.models.centernet import CenterNet, CenterNetOutput
from mobile_centernet.models.variants import build_model
from mobile_centernet.training.fit import FitResult, TrainConfig, TrainingData, fit
from mobile_centernet.training.module import DetectorTraining, Schedule

INPUT = (64, 96)
CLASS_MAP = ClassMap(("car", "bus"), {"car": "car", "bus": "bus"})
TRAIN, UNLABELLED = 9, (6, 7, 8)
CONFIG = TrainConfig(1, 3, Schedule(1e-3), seed=0, workers=0, precision="fp32", distill_epochs=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """Eleven frames with one bright rectangle each, all labelled, the last two to score on."""
    root = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    frames = []
    for i in range(TRAIN + 2):
        image = np.full((*INPUT, 3), 60, np.uint8)
        x, y = int(rng.integers(4, 40)), int(rng.integers(4, 24))
        cv2.rectangle(image, (x, y), (x + 39, y + 29), (230, 230, 230), -1)
        cv2.imwrite(str(root / f"{i}.jpg"), image)
        split = "train" if i < TRAIN else "val"
        boxes = (Box("car", (x, y, x + 40, y + 30)),)
        frames.append(Frame(root / f"{i}.jpg", str(i), str(i), split, FrameState.LABELLED, boxes))
    return frames


def prepared(frames: Sequence[Frame], out: Path, unlabelled: Sequence[int] = ()) -> Path:
    """A prepared set of these frames, some of which nothing is known about."""
    frames = [
        replace(frame, state=FrameState.UNLABELLED, boxes=()) if i in unlabelled else frame
        for i, frame in enumerate(frames)
    ]
    raw = RawSet(frames[0].image.parent, tuple(frames), ())
    prepare(raw, frames, CLASS_MAP, out, max_size=INPUT, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def partly(pictures: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled frames and three unlabelled ones."""
    return prepared(pictures, tmp_path_factory.mktemp("partly") / "set", UNLABELLED)


def train(
    folder: Path,
    work: Path,
    config: TrainConfig = CONFIG,
    *,
    student: CenterNet | None = None,
    pseudo_labels: Any = None,
    **options: Any,
) -> tuple[dict[str, Tensor], FitResult]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    student = student or build_model("hrnet_w16_lite", 2)
    fitted = fit(
        student,
        Criterion([1.0, 1.0]),
        config,
        TrainingData(PreparedSet(folder, "train"), PreparedSet(folder, "val"), INPUT, None, pseudo_labels),
        work=work,
        fingerprint="a",
        **options,
    )
    return student.state_dict(), fitted


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def teacher() -> CenterNet:
    torch.manual_seed(7)
    return build_model("hrnet_w16_lite", 2)


def test_skipped_frames_leave_the_same_weights_as_a_set_without_them(
    partly: Path, pictures: list[Frame], tmp_path: Path
) -> None:
    skipped, _ = train(partly, tmp_path / "skip")
    without = prepared([frame for i, frame in enumerate(pictures) if i not in UNLABELLED], tmp_path / "set")
    expected, _ = train(without, tmp_path / "without")
    assert same(skipped, expected)
    background = prepared(
        [replace(frame, boxes=()) if i in UNLABELLED else frame for i, frame in enumerate(pictures)], tmp_path / "empty"
    )
    wrong, _ = train(background, tmp_path / "background")
    assert not same(skipped, wrong)


def test_pseudo_labels_that_are_right_leave_the_same_weights_as_real_ones(
    partly: Path, pictures: list[Frame], tmp_path: Path
) -> None:
    """Frame 8, on which the teacher finds nothing, stays out of it."""
    real = prepared(pictures, tmp_path / "set", unlabelled=(8,))
    expected, _ = train(real, tmp_path / "real")

    train_set, truth = PreparedSet(partly, "train"), PreparedSet(real, "train")
    found = [
        (train_set.frame(i), Detections(truth.frame(i).boxes, np.ones(1, np.float32)[: i < 8], truth.frame(i).labels))
        for i in UNLABELLED
    ]
    file = tmp_path / "pseudo.json"
    write_json(file, pseudo_document(found, train_set.classes, score_threshold=0.5, teacher={}))
    labels = read_pseudo_labels(file, train_set).frames
    assert set(labels) == {"6", "7"}
    weights, _ = train(partly, tmp_path / "pseudo", pseudo_labels=labels)
    assert same(weights, expected)


def test_distilled_frames_join_while_the_teacher_takes_part_and_not_after(partly: Path, tmp_path: Path) -> None:
    batches: list[int] = []
    student = build_model("hrnet_w16_lite", 2)

    def count(module: torch.nn.Module, given: tuple[Tensor, ...], output: object) -> None:
        if module.training:
            batches.append(len(given[0]))

    student.register_forward_hook(count)
    guide = teacher()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    plan = replace(CONFIG, epochs=2, distill_epochs=1, distill_unlabelled=True)
    weights, fitted = train(partly, tmp_path / "distill", plan, student=student, teacher=guide)
    assert sorted(batches[:2]) == [4, 5]
    assert batches[2:] == [3, 3]
    assert same(before, guide.state_dict())
    assert all(np.isfinite(value) for record in fitted.history for value in record.values())
    assert fitted.history[0]["loss/pixelwise"] > 0

    skipped, _ = train(partly, tmp_path / "skip", replace(CONFIG, epochs=2, distill_epochs=1), teacher=teacher())
    assert not same(weights, skipped)


def test_a_set_without_labels_trains_by_distillation_alone(partly: Path, pictures: list[Frame], tmp_path: Path) -> None:
    folder = prepared(pictures, tmp_path / "set", unlabelled=range(TRAIN))
    plan = replace(CONFIG, distill_epochs=1, distill_unlabelled=True)
    _, fitted = train(folder, tmp_path / "work", plan, teacher=teacher())
    record = fitted.history[0]
    assert record["loss/heatmap"] == record["loss/size"] == record["loss/offset"] == 0
    assert record["loss"] == pytest.approx(0.1 * record["loss/pixelwise"] + 10 * record["loss/pairwise"])
    for wrong in (replace(plan, epochs=2), replace(plan, distill_unlabelled=False)):
        with pytest.raises(DataError, match="expected labelled frames in split 'train', found none"):
            train(folder, tmp_path / "never", wrong, teacher=teacher())


@pytest.mark.parametrize(("epochs", "taught"), [(0, True), (None, False)])
def test_to_distill_unlabelled_frames_takes_a_teacher(
    partly: Path, tmp_path: Path, epochs: int | None, taught: bool
) -> None:
    plan = replace(CONFIG, distill_epochs=epochs, distill_unlabelled=True)
    with pytest.raises(UserError, match="unlabelled frames learn from a teacher alone: expected epochs with one"):
        train(partly, tmp_path, plan, teacher=teacher() if taught else None)


def gradients(batch: Mapping[str, Tensor], guide: CenterNet | None) -> tuple[CenterNetOutput, DetectorTraining]:
    """One training step: the gradient of its loss on the student's maps, and the module with its gradients."""
    torch.manual_seed(0)
    student = build_model("hrnet_w16_lite", 2).train()
    maps: list[CenterNetOutput] = []

    def keep(module: torch.nn.Module, given: object, output: CenterNetOutput) -> None:
        for value in output:
            value.retain_grad()
        maps.append(output)

    student.register_forward_hook(keep)
    module = DetectorTraining(student, Criterion([1.0, 1.0]), CONFIG.schedule, fingerprint="a", teacher=guide)
    module.training_step(dict(batch), 0).backward()
    return CenterNetOutput(*(torch.zeros(1) if value.grad is None else value.grad for value in maps[0])), module


@pytest.fixture(scope="module")
def batch(partly: Path) -> dict[str, Tensor]:
    """Three labelled and three unlabelled frames, as the loader gives them."""
    samples = TrainingSamples(
        PreparedSet(partly, "train"), input_size=INPUT, augmentation=None, seed=0, unlabelled=True
    )
    batches = EpochBatches(samples.labelled, len(samples) - samples.labelled, batch_size=6, seed=0)
    return next(iter(DataLoader(samples, batch_sampler=batches)))


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_no_detection_term_reaches_an_unlabelled_frames_maps(batch: dict[str, Tensor]) -> None:
    labelled = batch["labelled"]
    assert sorted(labelled.tolist()) == [False] * 3 + [True] * 6
    found, _ = gradients(batch, None)
    for name in ("heatmap_logits", "size", "offset"):
        gradient = getattr(found, name)
        assert all(frame.any() for frame in gradient[labelled]), name
        assert not gradient[~labelled].any(), name
    as_background, _ = gradients({name: value for name, value in batch.items() if name != "labelled"}, None)
    assert as_background.heatmap_logits[~labelled].any()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_the_teacher_reaches_an_unlabelled_frames_maps(batch: dict[str, Tensor]) -> None:
    labelled = batch["labelled"]
    found, _ = gradients(batch, teacher())
    assert all(frame.any() for frame in found.heatmap_logits[~labelled])
    assert all(frame.any() for frame in found.features[~labelled])
    assert not found.size[~labelled].any() and not found.offset[~labelled].any()
    alone, _ = gradients(batch, None)
    torch.testing.assert_close(found.size, alone.size)  # the detection terms' normaliser counts labelled frames only
    empty = {name: value[~labelled] for name, value in batch.items()}
    terms_only, module = gradients(empty, teacher())
    assert terms_only.heatmap_logits.any()
    assert not terms_only.size.any()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in module.student.parameters())


@pytest.fixture(scope="module")
def three(pictures: list[Frame]) -> list[Frame]:
    """Two cars and a bus."""
    bus = Box("bus", pictures[2].boxes[0].xyxy)
    return [*pictures[:2], replace(pictures[2], boxes=(bus,))]


@pytest.fixture(scope="module")
def with_region(three: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """The same, and a region at the top right of each is to be ignored."""
    frames = [replace(frame, boxes=(*frame.boxes, Box("crowd", (84, 0, 96, 10), ignore=True))) for frame in three]
    return PreparedSet(prepared(frames, tmp_path_factory.mktemp("region") / "set"), "train")


def test_what_is_said_inside_an_ignored_region_does_not_change_the_loss(with_region: PreparedSet) -> None:
    samples = TrainingSamples(with_region, input_size=INPUT, augmentation=None, seed=0)
    batch = next(iter(DataLoader(samples, batch_sampler=EpochBatches(samples.labelled, batch_size=3, seed=0))))
    region = batch["ignore"].expand(-1, 2, -1, -1)
    assert region[0, 0].nonzero().tolist() == [[y, x] for y in range(3) for x in range(21, 24)]

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch["heatmap"].shape, generator=generator).requires_grad_()
    maps = torch.zeros(3, 2, *logits.shape[2:])

    def loss(values: Tensor) -> Tensor:
        return Criterion([1.0, 1.0])(CenterNetOutput(values, maps, maps, maps), batch)["heatmap"]

    before = loss(logits)
    (gradient,) = torch.autograd.grad(before, logits)
    assert not gradient[region].any()
    assert gradient[~region].all()
    assert loss(torch.where(region, 8.0, logits)).item() == before.item()
    outside = region.roll(1, dims=2)
    assert loss(torch.where(outside & ~region, 8.0, logits)) > before + 1


def test_a_detection_inside_an_ignored_region_is_no_false_alarm(
    with_region: PreparedSet, three: list[Frame], tmp_path: Path
) -> None:
    without = PreparedSet(prepared(three, tmp_path / "set"), "train")
    results: list[Any] = []
    for annotation in without.coco["annotations"]:
        image = annotation["image_id"]
        results.append({key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5})
        results += [
            {"image_id": image, "category_id": category, "bbox": [85.0, 1.0, 5.0, 5.0], "score": 0.9}
            for category in (1, 2)
        ]
    assert evaluate_map50(with_region.coco, results, with_region.classes).map50 == pytest.approx(1.0)
    measured = evaluate_map50(without.coco, results, without.classes)
    assert measured.ap50 == {"car": pytest.approx(2 / 5), "bus": pytest.approx(1 / 4)}  # behind three false alarms


def test_pseudo_labels_keep_the_frames_own_ignored_regions(pictures: list[Frame], tmp_path: Path) -> None:
    region = Box("crowd", (84, 0, 96, 10), ignore=True)
    frames = [replace(pictures[0], state=FrameState.UNLABELLED, boxes=(region,)), *pictures[1:3]]
    folder = prepared(frames, tmp_path / "set")
    label = CheckedBoxes(
        FrameState.LABELLED, np.array([[4.0, 4, 44, 34]]), np.array([0]), np.array([[0.0, 0, 8, 8]]), (), {}  # type: ignore[arg-type]
    )  # fmt: skip
    samples = TrainingSamples(
        PreparedSet(folder, "train"), input_size=INPUT, augmentation=None, seed=0, pseudo_labels={"0": label}
    )
    ignored = samples[2]["ignore"][0]
    assert ignored[0, 0] and ignored[0, 23] and not ignored[0, 10]
