"""Frames that are there twice: as the same bytes, as nearly the same view, or as one video in two splits (leakage)."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import Frame
from mobile_centernet.data.similarity.perceptual import BITS, Hashes, ImageHash, earlier, nearest

SPLIT_ORDER = ("train", "val", "test")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Frame number `frame` repeats frame number `of`; `distance` in bits of the perceptual hash, None: same bytes."""

    frame: int
    of: int
    distance: int | None


def by_key(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """The positions of each key, keys in the order of their first appearance."""
    positions = defaultdict(list)
    for position, key in enumerate(keys):
        positions[key].append(position)
    return dict(positions)


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """train, val, test, then all others by name: what is in two splits is charged to the later one."""
    names = set(splits)
    return [split for split in SPLIT_ORDER if split in names] + sorted(names.difference(SPLIT_ORDER))


def leakage(
    frames: Sequence[Frame], hashes: Sequence[ImageHash | None], digests: Sequence[bytes | None], closer_than: int
) -> list[Duplicate]:
    """Frames that an earlier split has too, as the same bytes or closer than `closer_than` bits."""
    splits = by_key(frame.split for frame in frames)
    leaks: dict[int, Duplicate] = {}
    before: list[int] = []
    for split in ordered_splits(splits):
        own, own_hashes = _hashed(splits[split], hashes)
        others, other_hashes = _hashed(before, hashes)
        distances, rows = nearest(own_hashes, other_hashes)
        leaks |= {copy.frame: copy for copy in _closer(own, others, distances, rows, closer_than)}
        same = {digests[position]: position for position in reversed(before)}
        exact = [(each, same[digests[each]]) for each in splits[split] if digests[each] and digests[each] in same]
        leaks |= {each: Duplicate(each, of, None) for each, of in exact}
        before += splits[split]
    return list(leaks.values())


def near_duplicates(
    frames: Sequence[Frame], hashes: Sequence[ImageHash | None], closer_than: int, *, of_other_videos: bool = False
) -> list[Duplicate]:
    """Frames closer than `closer_than` bits to an earlier frame of their video.

    With `of_other_videos`: to an earlier frame of another video of their split.
    """
    copies: list[Duplicate] = []
    for group in by_key((frame.split, "" if of_other_videos else frame.video) for frame in frames).values():
        if len(group) == 1:
            continue
        members, own = _hashed(group, hashes)
        _, videos = np.unique([frames[each].video for each in members], return_inverse=True)

        def allowed(rows: slice, columns: slice, videos: NDArray[np.intp] = videos) -> NDArray[np.bool_]:
            others: NDArray[np.bool_] = videos[rows, None] != videos[None, columns]
            return earlier(rows, columns) & others

        wanted = allowed if of_other_videos else earlier
        copies += _closer(members, members, *nearest(own, own, wanted), closer_than)
    return copies


def videos_in_two_splits(frames: Sequence[Frame]) -> list[tuple[str, list[int]]]:
    """Videos of which frames are in more than one split, with one frame of each of these."""
    return frames_in_several(frames, lambda frame: frame.video, lambda frame: frame.split)


def frames_in_several(
    frames: Sequence[Frame], name: Callable[[Frame], str], kind: Callable[[Frame], str]
) -> list[tuple[str, list[int]]]:
    """Names that come in more than one kind, each with the number of the first frame of every kind."""
    first: dict[str, dict[str, int]] = defaultdict(dict)
    for position, frame in enumerate(frames):
        first[name(frame)].setdefault(kind(frame), position)
    return [(each, list(kinds.values())) for each, kinds in first.items() if len(kinds) > 1]


def _hashed(positions: Sequence[int], hashes: Sequence[ImageHash | None]) -> tuple[list[int], Hashes]:
    """The positions that have a hash, and these hashes [N, BITS / 8]."""
    found = [(position, own) for position in positions if (own := hashes[position]) is not None]
    packed = np.array([own for _, own in found], np.uint8).reshape(-1, BITS // 8)
    return [position for position, _ in found], packed


def _closer(
    own: Sequence[int],
    others: Sequence[int],
    distances: NDArray[np.int64],
    rows: NDArray[np.int64],
    closer_than: int,
) -> Iterator[Duplicate]:
    for at in np.flatnonzero(distances < closer_than).tolist():
        yield Duplicate(own[at], others[rows[at]], int(distances[at]))
