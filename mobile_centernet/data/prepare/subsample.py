"""Fewer near-copies, and splits that share no video."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import itemgetter

from mobile_centernet.data.annotations import Frame
from mobile_centernet.data.readers.places import LEFT_TO_TRAIN
from mobile_centernet.data.similarity.perceptual import BITS, ImageHash, distance
from mobile_centernet.errors import DataError

logger = logging.getLogger(__name__)


def subsample(frames: Iterable[Frame], stride: int) -> list[Frame]:
    """Keep every `stride`-th frame of each video, in the order of their frame numbers, beginning with the first.

    Videos stay in the order in which they first appear. The paper takes one frame of ten, because neighbours are
    near-copies. Raises DataError where `stride` is less than 1.
    """
    if stride < 1:
        raise DataError(f"subsample: expected a stride of at least 1, found {stride}")
    return [frame for video in _videos(frames) for frame in video[::stride]]


def distinct(frames: Iterable[Frame], hashes: Mapping[str, ImageHash | None], min_distance: int) -> list[Frame]:
    """Keep the frames of each video that differ by `min_distance` bits or more from the last one kept before them.

    `hashes` are the perceptual hashes by frame name. A frame without one (its image cannot be read) is kept, so
    that it ends in the prepared set's report, and compared with none. Order as in `subsample`.
    Raises DataError where `min_distance` is not 0..256.
    """
    if not 0 <= min_distance <= BITS:
        raise DataError(f"subsample: expected a least distance of 0 to {BITS} bits, found {min_distance}")
    kept = []
    for video in _videos(frames):
        last: ImageHash | None = None
        for frame in video:
            own = hashes[frame.name]
            if own is None or last is None or distance(own, last) >= min_distance:
                kept.append(frame)
                last = last if own is None else own
    return kept


def _videos(frames: Iterable[Frame]) -> list[list[Frame]]:
    """The frames of each video in the order of their numbers; videos as they first appear."""
    videos: dict[tuple[str, str], list[tuple[list[tuple[int, str]], Frame]]] = {}
    for frame in frames:
        parts = re.split(r"(\d+)", frame.name)  # by the numbers in a name, frame 10 comes after frame 9
        order = [(int(part), part) if part.isdigit() else (-1, part) for part in parts]
        videos.setdefault((frame.split, frame.video), []).append((order, frame))
    return [[frame for _, frame in sorted(video, key=itemgetter(0))] for video in videos.values()]


def set_aside(frames: Iterable[Frame], fractions: Mapping[str, float], own_val: str, seed: int) -> list[Frame]:
    """The source's own splits stay (val under the name `own_val`); of the other videos, shares are set aside.

    `fractions` and `seed`: see `split_by_video`. A split for which there are too few videos is logged.
    """
    frames = [replace(frame, split=own_val) if frame.split == "val" else frame for frame in frames]
    own = [frame for frame in frames if frame.split not in LEFT_TO_TRAIN]
    rest = [frame for frame in frames if frame.split in LEFT_TO_TRAIN]
    shares = {name: share for name, share in fractions.items() if share > 0}
    of_video = split_by_video({frame.video for frame in rest}, shares, seed)
    for name in shares.keys() - of_video.values():
        message = "no video is set aside for %s: %d videos are too few for a share of %g"
        logger.warning(message, name, len(of_video), shares[name])
    return own + [replace(frame, split=of_video[frame.video]) for frame in rest]


def place_of(video: str, seed: int) -> float:
    """A video's place in 0..1, by a seeded hash of its name: whatever other videos there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{video}".encode()).digest()[:8], "big") / 2**64


def split_by_video(videos: Iterable[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assign each video to a split, so that near-copies never straddle two splits.

    A video's place in 0..1 is a seeded hash of its name, and its split is the one whose share covers that place. So it
    never depends on the other videos: new footage moves none. Only where a split would get no video at all, train
    above all, it takes the one whose place is nearest to its share from a split that has more.

    Args:
        videos: names; repetitions and their order do not matter.
        fractions: each split's share of the videos, `{"val": 0.15, "test": 0.2}`; the rest is `train`.
        seed: another one gives another assignment.

    Raises:
        DataError: shares are negative or leave nothing for `train`.
    """
    if any(share < 0 for share in fractions.values()) or sum(fractions.values()) >= 1 or "train" in fractions:
        raise DataError(
            f"split by video: expected shares beside train, from 0 and below 1 in sum, found {dict(fractions)}"
        )
    place = {video: place_of(video, seed) for video in sorted(set(videos))}
    shares: dict[str, tuple[float, float]] = {}
    begin = 0.0
    for split, share in fractions.items():
        if share > 0:
            shares[split] = (begin, begin + share)
            begin += share
    shares = {"train": (begin, 1.0), **shares}
    splits = {
        video: next((split for split, (low, high) in shares.items() if low <= where < high), "train")
        for video, where in place.items()
    }
    for split, (low, high) in shares.items():
        members = Counter(splits.values())
        spare = [video for video, own in splits.items() if members[own] > 1 or split == "train"]
        if not members[split] and spare:
            nearest = min(spare, key=lambda video: max(low - place[video], place[video] - high))
            splits[nearest] = split
    return splits
