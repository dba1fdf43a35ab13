"""A training sample depends on seed, epoch and frame alone; its targets belong to its pixels."""

import shutil
from collections.abc import Callable
from itertools import chain, combinations, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mobile_centernet.codec import decode
from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import CheckedBoxes, ClassMap, convert
from mobile_centernet.data.prepare import prepare as prepare_module
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store import prepared as store
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.augment import Augmentation
from mobile_centernet.data.training.loader import (
    COPY,
    EpochBatches,
    Sample,
    TrainingSamples,
    labelled_frames,
    unlabelled_frames,
)
from mobile_centernet.images.opencv import decode_image
from mobile_centernet.training.fit import TrainConfig
from mobile_centernet.training.module import Schedule

INPUT = (96, 160)
GOLDEN = [[[1, 4, 2], [3, 6, 5]], [[4, 2, 0], [6, 5, 3]]]
"""Two epochs of 7 frames, batches of 3, seed 5, as they were before frames could be drawn more often."""


@pytest.fixture
def prepared(tmp_path: Path, write_image: Callable[..., Path]) -> PreparedSet:
    frames = []
    for i, state in enumerate([FrameState.LABELLED] * 5 + [FrameState.UNLABELLED, FrameState.EMPTY]):
        boxes = (Box("car", (20.0 + i, 10.0, 80.0, 60.0)),) if state is FrameState.LABELLED else ()
        path = write_image(tmp_path / "raw" / f"{i}.jpg")
        frames.append(Frame(path, str(i), str(i), "train", state, boxes))
    raw = RawSet(tmp_path / "raw", tuple(frames), ())
    class_map = ClassMap(("vehicle",), {"car": "vehicle"})
    prepare(raw, frames, class_map, tmp_path / "prepared", max_size=(96, 160), workers=1, progress=False)
    return PreparedSet(tmp_path / "prepared", "train")


def samples(prepared: PreparedSet, augmentation: Augmentation | None = None, seed: int = 3) -> TrainingSamples:
    return TrainingSamples(prepared, input_size=INPUT, augmentation=augmentation, seed=seed)


def loader_of(found: TrainingSamples, workers: int, factors: np.ndarray | None = None) -> DataLoader[Sample]:
    batches = EpochBatches(found.labelled, batch_size=2, seed=1, factors=factors)
    return DataLoader(found, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0)


def test_unlabelled_frames_never_train_as_background_and_empty_ones_do(prepared: PreparedSet) -> None:
    assert labelled_frames(prepared) == [0, 1, 2, 3, 4, 6]
    assert unlabelled_frames(prepared) == [5]
    assert len(samples(prepared)) == 6
    assert "labelled" not in samples(prepared)[0]


def test_an_unlabelled_frame_that_joins_says_so_and_comes_last(prepared: PreparedSet) -> None:
    joined = TrainingSamples(prepared, input_size=INPUT, augmentation=Augmentation(), seed=3, unlabelled=True)
    assert (len(joined), joined.labelled) == (7, 6)
    assert [bool(joined[i]["labelled"]) for i in range(7)] == [True] * 6 + [False]
    assert not joined[6]["mask"].any()
    alone = samples(prepared, Augmentation())
    for name, value in alone[2 + len(alone)].items():  # the labelled frames are those of a set without it
        assert torch.equal(value, joined[2 + len(joined)][name]), name


def pseudo_label(xyxy: tuple[float, float, float, float], ignored: tuple[float, float, float, float]) -> CheckedBoxes:
    boxes = (Box("vehicle", xyxy), Box("vehicle", ignored, ignore=True))
    frame = Frame(Path("5.jpg"), "5", "5", "train", FrameState.LABELLED, boxes)
    return convert(frame, ClassMap(("vehicle",), {"vehicle": "vehicle"}), (36, 64))


def test_a_pseudo_labelled_frame_is_a_labelled_one(prepared: PreparedSet) -> None:
    pseudo = {"5": pseudo_label((16, 9, 48, 27), (0, 0, 8, 8)), "1": pseudo_label((0, 0, 4, 4), (0, 0, 8, 8))}
    labelled = TrainingSamples(prepared, input_size=INPUT, augmentation=None, seed=3, pseudo_labels=pseudo)
    assert (len(labelled), labelled.labelled) == (7, 7)
    sample = labelled[6]
    assert "labelled" not in sample
    assert sample["mask"].sum() == 1
    assert sample["size"][0].tolist() == [20, 12]  # half of the input's 160x96, in cells of 4
    assert sample["heatmap"].flatten().argmax() == 12 * 40 + 20
    assert sample["ignore"].nonzero().max(dim=0).values.tolist() == [0, 5, 4]
    real = samples(prepared)[1]  # labels win over pseudo-labels of the same name
    assert all(torch.equal(real[name], labelled[1][name]) for name in real)


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
        loader = loader_of(samples(prepared, Augmentation()), workers)
        loader.batch_sampler.set_epoch(4)  # type: ignore[union-attr]  # ours
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


def epochs(batches: EpochBatches, count: int) -> list[list[list[int]]]:
    """The batches of some epochs as positions."""
    length = batches.labelled + batches.unlabelled
    found = []
    for epoch in range(count):
        batches.set_epoch(epoch)
        found.append([[index - epoch * length for index in batch] for batch in batches])
        assert len(found[-1]) == len(batches)
    return found


def test_every_epoch_is_a_new_permutation() -> None:
    first, second = epochs(EpochBatches(10, batch_size=5, seed=0), 2)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second
    assert epochs(EpochBatches(10, batch_size=5, seed=0), 2) == [first, second]
    assert epochs(EpochBatches(10, batch_size=5, seed=1), 1) != [first]


def test_the_last_incomplete_batch_is_left_out_unless_it_is_the_only_one() -> None:
    assert [len(batch) for batch in epochs(EpochBatches(11, batch_size=4, seed=0), 1)[0]] == [4, 4]
    assert [len(batch) for batch in epochs(EpochBatches(3, batch_size=4, seed=0), 1)[0]] == [3]


def test_unlabelled_frames_join_the_teachers_epochs_and_leave_the_rest_as_it_was() -> None:
    without = epochs(EpochBatches(12, batch_size=3, seed=5), 3)
    joined = epochs(EpochBatches(12, 6, batch_size=3, seed=5, unlabelled_epochs=range(2)), 3)
    assert [[[i for i in batch if i < 12] for batch in epoch] for epoch in joined] == without
    for epoch in joined[:2]:
        assert sorted(i for batch in epoch for i in batch if i >= 12) == list(range(12, 18))
        assert sorted(len(batch) for batch in epoch) == [4, 4, 5, 5]
    assert joined[2] == without[2]
    in_all = epochs(EpochBatches(12, 6, batch_size=3, seed=5), 3)
    assert in_all[:2] == joined[:2]
    assert in_all[2] != without[2]


def test_of_many_unlabelled_frames_every_epoch_draws_as_many_as_labelled_ones() -> None:
    batches = epochs(EpochBatches(4, 100, batch_size=2, seed=0), 2)
    drawn = [{i for batch in epoch for i in batch if i >= 4} for epoch in batches]
    assert all(len(batch) == 4 for epoch in batches for batch in epoch)
    assert [len(some) for some in drawn] == [4, 4]
    assert drawn[0] != drawn[1]


def test_without_labelled_frames_the_unlabelled_ones_are_the_batches() -> None:
    first = epochs(EpochBatches(0, 9, batch_size=3, seed=0), 1)[0]
    assert [len(batch) for batch in first] == [3, 3, 3]
    assert sorted(chain(*first)) == list(range(9))


def test_without_rare_class_sampling_the_order_is_the_one_it_always_was() -> None:
    assert epochs(EpochBatches(7, batch_size=3, seed=5), 2) == GOLDEN
    assert epochs(EpochBatches(7, batch_size=3, seed=5, factors=None), 2) == GOLDEN
    assert TrainConfig(1, 1, Schedule(1e-3), seed=0).rare_classes == 0


@pytest.mark.parametrize("factors", [None, np.ones(10)])
def test_an_epoch_is_all_new_frames_and_another_share_of_the_old_ones(factors: np.ndarray | None) -> None:
    old = [0, 2, 4, 6, 8, 9]
    batches = EpochBatches(
        10, 3, batch_size=2, seed=0, unlabelled_epochs=range(0), factors=factors, old=old, replay=0.4
    )
    drawn = []
    for epoch in epochs(batches, 8):
        frames = [frame for batch in epoch for frame in batch]
        assert len(epoch) == len(batches) == 3  # 4 new ones, and 3 of 6: two fifths, rounded up; the 7th waits
        assert len(set(frames)) == 6 and len(set(frames) & set(old)) <= 3
        drawn.append(frames)
    assert {frame for frames in drawn for frame in frames} == set(range(10))
    of_new = sum(frame not in old for frames in drawn for frame in frames)
    assert of_new >= 8 * 3 and max(frames.count(frame) for frames in drawn for frame in frames) == 1


def test_all_old_frames_replayed_are_an_epoch_as_ever() -> None:
    assert epochs(EpochBatches(7, batch_size=3, seed=5, old=[1, 2, 5], replay=1.0), 2) == GOLDEN


def test_rare_classes_come_more_often_and_each_copy_is_augmented_anew(prepared: PreparedSet) -> None:
    augmented = samples(prepared, Augmentation())
    batches = EpochBatches(6, batch_size=2, seed=0, factors=np.array([5.0, 1, 1, 1, 1, 1]))
    batches.set_epoch(3)
    indices = list(chain(*batches))
    assert len(indices) == len(set(indices)) == 6
    first = [index for index in indices if index % 6 == 0]
    assert len(first) == 3
    assert {index // 6 for index in first} == {3, 3 + COPY, 3 + 2 * COPY}
    one, two = (augmented[index] for index in first[:2])
    assert not torch.equal(one["image"], two["image"])
    assert [len(batch) for batch in batches] == [2, 2, 2]
    batches.set_epoch(4)
    assert sorted(chain(*batches)) != sorted(indices)


def test_rare_class_sampling_leaves_joining_unlabelled_frames_labelled_as_such() -> None:
    batches = EpochBatches(4, 2, batch_size=2, seed=0, factors=np.array([9.0, 1, 1, 1]))
    batches.set_epoch(1)
    positions = [index % 6 for index in chain(*batches)]
    assert sorted(position for position in positions if position >= 4) == [4, 5]
    assert len([position for position in positions if position < 4]) == 4


def test_many_workers_and_epochs_and_an_epoch_broken_off_give_the_same_batches(prepared: PreparedSet) -> None:
    """As after a kill: an epoch that is started anew does not depend on how far it had come, nor on who reads."""
    factors = np.array([3.0, 1, 1, 1, 1, 1])

    def epoch_of(loader: DataLoader[Sample], epoch: int, stop: int = 9) -> list[Sample]:
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]  # ours
        return list(islice(loader, stop))

    found = {}
    for workers in (0, 1, 2):
        loader = loader_of(samples(prepared, Augmentation()), workers, factors)
        epoch_of(loader, 1, stop=1)
        found[workers] = epoch_of(loader, 1) + epoch_of(loader, 2)
    assert len(found[0]) == 6
    for workers in (1, 2):
        for one, two in zip(found[0], found[workers], strict=True):
            assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one["image"], two["image"]) for one, two in combinations(found[0], 2))


def test_a_picture_is_decoded_once_small_and_never_again_from_the_original(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "raw")
    decoded = []

    def counting(data: bytes, name: str, reduce: int = 1) -> np.ndarray:
        image = decode_image(data, name, reduce)
        decoded.append(image.shape)
        return image

    monkeypatch.setattr(store, "decode_image", counting)
    loader = loader_of(samples(prepared, Augmentation()), 0)
    assert len(list(loader)) == 3
    assert decoded == [(36, 64, 3)] * 6


def test_preparing_decodes_a_large_jpeg_once_and_at_a_fraction(
    tmp_path: Path, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counting(data: bytes, name: str, reduce: int = 1) -> np.ndarray:
        image = decode_image(data, name, reduce)
        decoded.append(image.shape)
        return image

    monkeypatch.setattr(prepare_module, "decode_image", counting)
    frame = Frame(write_image(tmp_path / "raw/1.jpg", 720, 1280), "1", "1", "train", FrameState.EMPTY)
    class_map = ClassMap(("vehicle",), {"car": "vehicle"})
    raw = RawSet(tmp_path / "raw", (frame,), ())
    prepare(raw, [frame], class_map, tmp_path / "set", max_size=(360, 640), workers=1, progress=False)
    assert decoded == [(360, 640, 3)]
