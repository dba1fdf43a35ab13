"""A training sample depends on seed, epoch and frame alone; its targets belong to its pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mobile_centernet.codec import decode
from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.augment import Augmentation
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.loader import EpochSampler, TrainingSamples, labelled_frames, training_loader
from mobile_centernet.data.prepare import prepare
from mobile_centernet.data.store import PreparedSet

INPUT = (96, 160)


@pytest.fixture
def prepared(tmp_path: Path, write_picture: Callable[..., Path]) -> PreparedSet:
    frames = []
    for i, state in enumerate([FrameState.LABELLED] * 5 + [FrameState.UNLABELLED, FrameState.EMPTY]):
        boxes = (Box("car", (20.0 + i, 10.0, 80.0, 60.0)),) if state is FrameState.LABELLED else ()
        path = write_picture(tmp_path / "raw" / f"{i}.jpg")
        frames.append(Frame(path, str(i), str(i), "train", state, boxes))
    raw = RawSet(tmp_path / "raw", tuple(frames), ())
    class_map = ClassMap(("vehicle",), {"car": "vehicle"})
    prepare(raw, frames, class_map, tmp_path / "prepared", max_size=(96, 160), workers=1, progress=False)
    return PreparedSet(tmp_path / "prepared", "train")


def samples(prepared: PreparedSet, augmentation: Augmentation | None = None, seed: int = 3) -> TrainingSamples:
    return TrainingSamples(prepared, input_size=INPUT, augmentation=augmentation, seed=seed)


def test_unlabelled_frames_never_train_as_background_and_empty_ones_do(prepared: PreparedSet) -> None:
    assert labelled_frames(prepared) == [0, 1, 2, 3, 4, 6]
    assert len(samples(prepared)) == 6


def test_the_targets_decode_to_the_boxes(prepared: PreparedSet) -> None:
    sample = samples(prepared)[2]
    frame = prepared.frame(2)
    height, width = INPUT[0] // 4, INPUT[1] // 4
    size, offset = torch.zeros(2, height * width), torch.zeros(2, height * width)
    size[:, sample["index"][:1]] = sample["size"][:1].T
    offset[:, sample["index"][:1]] = sample["offset"][:1].T
    found = decode(sample["heatmap"][None], size.view(1, 2, height, width), offset.view(1, 2, height, width), k=1)
    expected = frame.boxes * np.array([INPUT[1] / frame.width, INPUT[0] / frame.height] * 2)
    np.testing.assert_allclose(found.boxes[0].numpy(), expected, atol=1e-3)


def test_the_same_whatever_the_number_of_workers(prepared: PreparedSet) -> None:
    runs = []
    for workers in (0, 2):
        loader = training_loader(samples(prepared, Augmentation()), batch_size=2, seed=1, workers=workers)
        loader.sampler.set_epoch(4)  # type: ignore[attr-defined]  # ours
        runs.append(list(loader))
    assert len(runs[0]) == 3
    for one, two in zip(*runs, strict=True):
        for name in one:
            assert torch.equal(one[name], two[name]), name


def test_epochs_and_seeds_differ(prepared: PreparedSet) -> None:
    augmented = samples(prepared, Augmentation())
    first, next_epoch = augmented[1], augmented[1 + len(augmented)]
    assert not torch.equal(first["image"], next_epoch["image"])
    assert not torch.equal(first["image"], samples(prepared, Augmentation(), seed=4)[1]["image"])
    assert torch.equal(first["image"], augmented[1]["image"])


def test_every_epoch_is_a_new_permutation() -> None:
    sampler = EpochSampler(10, seed=0)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append([index - 10 * epoch for index in sampler])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
