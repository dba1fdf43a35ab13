"""From the prepared store to batches: what one training or validation sample is, and in which order they come."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mobile_centernet import codec
from mobile_centernet.data import augment
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store import PreparedSet

STRIDE = 4
Sample = dict[str, Tensor]


class TrainingSamples(Dataset[Sample]):
    """Augmented frames with their CenterNet targets.

    A sample depends on (seed, epoch, frame) alone, not on the worker that makes it: index `epoch * len + i`.
    Unlabelled frames are left out, since they would train as background.

    A sample: image uint8 [3, h, w] RGB; heatmap [C, H, W], size and offset [M, 2], index and mask [M] as
    `codec.encode` gives them; ignore bool [1, H, W].
    """

    def __init__(
        self,
        prepared: PreparedSet,
        *,
        input_size: tuple[int, int],
        augmentation: augment.Augmentation | None,
        seed: int,
    ) -> None:
        self.prepared = prepared
        self.input_size = input_size
        self.augmentation = augmentation
        self.seed = seed
        self.frames = labelled_frames(prepared)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        epoch, position = divmod(index, len(self.frames))
        rng = np.random.default_rng([self.seed, epoch, position])
        frame = self.prepared.frame(self.frames[position])
        image = self.prepared.image(self.frames[position])
        size = (frame.height, frame.width)
        if self.augmentation is None:
            view = augment.straight(size, self.input_size)
        else:
            view = augment.random_view(size, self.input_size, self.augmentation, rng)
        image = augment.warp_image(image, view, self.input_size)
        if self.augmentation is not None:
            image = augment.recolour(image, self.augmentation, rng)
        boxes, seen = augment.warp_boxes(frame.boxes, view, self.input_size)
        ignored, ignored_seen = augment.warp_boxes(frame.ignore_boxes, view, self.input_size)
        output_size = (self.input_size[0] // STRIDE, self.input_size[1] // STRIDE)
        targets = codec.encode(
            boxes[seen],
            frame.labels[seen],
            num_classes=len(self.prepared.classes),
            output_size=output_size,
            stride=STRIDE,
        )
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "heatmap": torch.from_numpy(targets.heatmap),
            "size": torch.from_numpy(targets.size),
            "offset": torch.from_numpy(targets.offset),
            "index": torch.from_numpy(targets.index),
            "mask": torch.from_numpy(targets.mask),
            "ignore": torch.from_numpy(augment.ignore_mask(ignored[ignored_seen], output_size, STRIDE)),
        }


def labelled_frames(prepared: PreparedSet) -> list[int]:
    """Positions of the frames whose objects are known, verified empty ones included."""
    return [i for i in range(len(prepared)) if prepared.frame(i).state is not FrameState.UNLABELLED]


class EpochSampler(Sampler[int]):
    """A new permutation every epoch, as indices `epoch * length + i`; Lightning calls `set_epoch`."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter((self.epoch * self.length + order).tolist())


def training_loader(samples: TrainingSamples, *, batch_size: int, seed: int, workers: int) -> DataLoader[Sample]:
    """Shuffled batches. The last incomplete batch is left out unless it is the only one: batch norm needs company."""
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=EpochSampler(len(samples), seed),
        num_workers=workers,
        drop_last=len(samples) >= batch_size,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
