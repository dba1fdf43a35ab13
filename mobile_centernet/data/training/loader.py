"""From the prepared store to batches: what one training or validation sample is, and in which order they come."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mobile_centernet import codec
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.convert import CheckedBoxes
from mobile_centernet.data.store.prepared import PreparedSet, StoredFrame
from mobile_centernet.data.training import augment, balance

COPY = 2**20
"""Epoch offset per repeat: a frame drawn twice in one epoch is augmented differently each time."""
Sample = dict[str, Tensor]


class TrainingSamples(Dataset[Sample]):
    """Augmented frames with their CenterNet targets.

    A sample depends on (seed, epoch, frame) alone, not on the worker that makes it: index `epoch * len + i`.
    Labelled frames come first, then those that `pseudo_labels` (by frame name) turn into labelled ones: `labelled`
    counts both. All others would train as background: they are left out, or, with `unlabelled`, come last and say
    so in `labelled`.

    A sample: image uint8 [3, h, w] RGB; heatmap [C, H, W], size and offset [M, 2], index and mask [M] as
    `codec.encode` gives them; ignore bool [1, H, W]; with `unlabelled` also labelled, a bool scalar.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        *,
        input_size: tuple[int, int],
        augmentation: augment.Augmentation | None,
        seed: int,
        unlabelled: bool = False,
        pseudo_labels: Mapping[str, CheckedBoxes] | None = None,
    ) -> None:
        self.prepared = prepared
        self.input_size = input_size
        self.augmentation = augmentation
        self.seed = seed
        self.pseudo_labels = pseudo_labels or {}
        others = unlabelled_frames(prepared)
        pseudo = [i for i in others if prepared.frame(i).name in self.pseudo_labels]
        self.frames = labelled_frames(prepared) + pseudo
        self.labelled = len(self.frames)
        if unlabelled:
            self.frames += [i for i in others if prepared.frame(i).name not in self.pseudo_labels]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        epoch, position = divmod(index, len(self.frames))
        rng = np.random.default_rng([self.seed, epoch, position])
        frame = self._frame(self.frames[position])
        image = self.prepared.image(self.frames[position])
        view = augment.view_of((frame.height, frame.width), self.input_size, self.augmentation, rng)
        image = augment.warp_image(image, view, self.input_size)
        if self.augmentation is not None:
            image = augment.recolour(image, self.augmentation, rng)
        boxes, seen = augment.warp_boxes(frame.boxes, view, self.input_size)
        ignored, ignored_seen = augment.warp_boxes(frame.ignore_boxes, view, self.input_size)
        output_size = (self.input_size[0] // codec.STRIDE, self.input_size[1] // codec.STRIDE)
        targets = codec.encode(
            boxes[seen],
            frame.labels[seen],
            num_classes=len(self.prepared.classes),
            output_size=output_size,
        )
        sample = {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "heatmap": torch.from_numpy(targets.heatmap),
            "size": torch.from_numpy(targets.size),
            "offset": torch.from_numpy(targets.offset),
            "index": torch.from_numpy(targets.index),
            "mask": torch.from_numpy(targets.mask),
            "ignore": torch.from_numpy(augment.ignore_mask(ignored[ignored_seen], output_size, codec.STRIDE)),
        }
        if len(self.frames) > self.labelled:  # else all are, and the loss need not pick out the labelled ones
            sample["labelled"] = torch.tensor(position < self.labelled)
        return sample

    def labels(self) -> list[NDArray[np.int64]]:
        """The labels [N] of every labelled frame, pseudo-labelled ones included, in their order here."""
        return [self._frame(index).labels for index in self.frames[: self.labelled]]

    def _frame(self, index: int) -> StoredFrame:
        """The stored frame, with its pseudo-labels where it has some."""
        frame = self.prepared.frame(index)
        if frame.state is not FrameState.UNLABELLED or frame.name not in self.pseudo_labels:
            return frame
        found = self.pseudo_labels[frame.name]
        return replace(
            frame,
            state=found.state,
            boxes=found.boxes.astype(np.float32),
            labels=found.labels,
            ignore_boxes=np.concatenate([frame.ignore_boxes, found.ignore_boxes.astype(np.float32)]),
        )


def labelled_frames(prepared: PreparedSet) -> list[int]:
    """Positions of the frames whose objects are known, verified empty ones included."""
    return [i for i in range(len(prepared)) if prepared.frame(i).state is not FrameState.UNLABELLED]


def single_threaded(worker: int) -> None:
    """For DataLoader's `worker_init_fn`: OpenCV's own threads in every worker would take each other's cores."""
    cv2.setNumThreads(1)


def unlabelled_frames(prepared: PreparedSet) -> list[int]:
    """Positions of the frames about which nothing is known."""
    return [i for i in range(len(prepared)) if prepared.frame(i).state is FrameState.UNLABELLED]


class EpochBatches(Sampler[list[int]]):
    """Batches of indices `epoch * length + i` into TrainingSamples; Lightning calls `set_epoch`.

    Every epoch is a new permutation of the labelled frames. The last incomplete batch is left out unless it is the
    only one: batch norm needs company. In `unlabelled_epochs` (None: in all) unlabelled frames join
    these batches, spread evenly, at most as many as labelled ones; where there are more, every epoch draws others.
    So the labelled frames, their order and the number of steps are the same with and without them.
    Without any labelled frame the unlabelled ones make up the batches, in every epoch.

    With `old`, positions of labelled frames, an epoch is all others and a `replay` share (0..1, rounded up) of these,
    every epoch another one, and that much shorter.

    With `factors` [labelled] (`balance.repeat_factors`) an epoch is as many labelled frames as ever, but drawn in
    proportion to these: some come twice or more, each time augmented in another way, some not at all.

    Where several processes train together (torch.distributed) each takes its share of every batch: every n-th frame.
    """

    def __init__(
        self,
        labelled: int,
        unlabelled: int = 0,
        *,
        batch_size: int,
        seed: int,
        unlabelled_epochs: range | None = None,
        factors: NDArray[np.float64] | None = None,
        old: Sequence[int] = (),
        replay: float = 1.0,
    ) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled
        self.factors = factors
        self.old = np.array(old, np.int64)
        self.replayed = math.ceil(replay * len(old))
        self.batch_size = batch_size
        self.seed = seed
        self.unlabelled_epochs = unlabelled_epochs
        self.epoch = 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        labelled = self.labelled - len(self.old) + self.replayed
        return max(1, (labelled or self.unlabelled) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rank, processes = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        rng = np.random.default_rng([self.seed, self.epoch])
        drawn = np.arange(self.labelled or self.unlabelled)
        if self.replayed < len(self.old):
            left = rng.permutation(self.old)[self.replayed :]
            drawn = np.delete(drawn, left)
        if self.factors is None or not self.labelled:
            order = drawn[rng.permutation(len(drawn))]
        else:  # a repeat's position is one of a later epoch, for its augmentation's sake
            frames, copies = balance.draw(self.factors[drawn], rng)
            order = drawn[frames] + copies * COPY * (self.labelled + self.unlabelled)
        batches = order[: len(self) * self.batch_size].reshape(len(self), -1)
        joining = np.empty(0, np.int64)
        if self.labelled and (self.unlabelled_epochs is None or self.epoch in self.unlabelled_epochs):
            joining = self.labelled + rng.permutation(self.unlabelled)[: batches.size]
        shares = np.array_split(joining, len(self))
        start = self.epoch * (self.labelled + self.unlabelled)
        for batch, share in zip(batches, rng.permutation(len(self)).tolist(), strict=True):
            yield (start + np.concatenate([batch, shares[share]]))[rank::processes].tolist()
