"""Subsampling and splitting by video: near-copies neither crowd a set nor straddle two."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.data.annotations import Frame, FrameState
from mobile_centernet.data.prepare.subsample import distinct, split_by_video, subsample
from mobile_centernet.data.similarity.duplicates import near_duplicates
from mobile_centernet.data.similarity.perceptual import BITS, hash_image
from mobile_centernet.errors import DataError


def frame(video: str, number: object, split: str = "train") -> Frame:
    name = f"{video}/{video}_{number}"
    return Frame(Path(f"{name}.jpg"), name, video, split, FrameState.UNLABELLED)


def names(frames: list[Frame]) -> list[str]:
    return [each.name.rpartition("_")[2] for each in frames]


def test_every_third_frame_of_each_video_first_kept():
    frames = [frame("a.mp4", f"{n:05d}") for n in range(1, 8)] + [frame("b.mp4", f"{n:05d}") for n in range(1, 3)]
    assert names(subsample(frames, 3)) == ["00001", "00004", "00007", "00001"]


def test_frames_are_counted_in_the_order_of_their_numbers():
    frames = [frame("a.mp4", number) for number in (10, 9, 1, 2)]
    assert names(subsample(frames, 2)) == ["1", "9"]


def test_interleaved_videos_do_not_disturb_each_other():
    frames = [frame(video, f"{n:05d}") for n in range(4) for video in ("a.mp4", "b.mp4")]
    assert [each.name for each in subsample(frames, 2)] == [
        "a.mp4/a.mp4_00000", "a.mp4/a.mp4_00002", "b.mp4/b.mp4_00000", "b.mp4/b.mp4_00002",
    ]  # fmt: skip


def test_one_video_name_in_two_splits_is_two_videos():
    frames = [frame("a.mp4", "1", "train"), frame("a.mp4", "2", "test")]
    assert subsample(frames, 10) == frames


@pytest.mark.parametrize("stride", [0, -3])
def test_a_stride_below_one_is_refused(stride):
    with pytest.raises(DataError, match="stride of at least 1"):
        subsample([frame("a.mp4", 1)], stride)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 300)), unique=True), st.integers(1, 12))
def test_no_video_is_lost_and_none_keeps_more_than_its_share(pairs, stride):
    frames = [frame(video, number) for video, number in pairs]
    before, after = (Counter(each.video for each in some) for some in (frames, subsample(frames, stride)))
    assert after == {video: -(-count // stride) for video, count in before.items()}


def bits(count: int) -> np.ndarray:
    """A hash in which the first `count` bits are set: two of them differ by the difference of their counts."""
    return np.packbits(np.arange(BITS) < count)


def hashed(video: str, *counts: int | None) -> tuple[list[Frame], dict[str, np.ndarray | None]]:
    """Frames of one video with such hashes; None: the image cannot be read."""
    frames = [frame(video, f"{n:05d}") for n in range(len(counts))]
    own = (None if count is None else bits(count) for count in counts)
    return frames, {each.name: value for each, value in zip(frames, own, strict=True)}


def test_distinct_compares_with_the_last_kept_one_not_with_the_neighbour():
    frames, hashes = hashed("a.mp4", 0, 6, 12, 18, 20, 30, 0)
    assert names(distinct(frames, hashes, 10)) == ["00000", "00002", "00005", "00006"]


def test_distinct_goes_by_frame_numbers_and_keeps_the_first_of_every_video():
    first, hashes = hashed("a.mp4", 0, 0, 100)
    second, more = hashed("b.mp4", 0, 0)
    kept = distinct([*reversed(first), *second], hashes | more, 40)
    assert [each.name for each in kept] == [first[0].name, first[2].name, second[0].name]


def test_a_frame_that_cannot_be_read_is_kept_and_compared_with_none():
    frames, hashes = hashed("a.mp4", None, 0, None, 5, 50, None)
    assert names(distinct(frames, hashes, 40)) == ["00000", "00001", "00002", "00004", "00005"]


def test_near_copies_are_counted_against_all_earlier_frames_of_their_video():
    frames, hashes = hashed("a.mp4", 0, 100, 5, 200, None, 101)
    others, more = hashed("b.mp4", 0, 100)
    of_both = [*hashes.values(), *more.values()]
    assert [copy.frame for copy in near_duplicates([*frames, *others], of_both, 40)] == [2, 5]
    assert near_duplicates([*frames, *others], of_both, 0) == []


@given(st.lists(st.integers(0, BITS), max_size=30), st.integers(0, BITS))
def test_what_distinct_keeps_differs_and_what_it_drops_does_not(counts, least):
    frames, hashes = hashed("a.mp4", *counts)
    kept = distinct(frames, hashes, least)
    values = [counts[frames.index(each)] for each in kept]
    assert all(abs(one - two) >= least for one, two in pairwise(values))
    assert distinct(kept, hashes, least) == kept
    assert distinct(frames, hashes, 0) == frames


@pytest.mark.parametrize("least", [-1, BITS + 1])
def test_an_impossible_distance_is_refused(least):
    with pytest.raises(DataError, match="least distance of 0 to 256 bits"):
        distinct([], {}, least)


def test_of_a_clip_the_copies_go_and_the_turns_stay(drives, tmp_path):
    """A drive (a real one where it is), each frame twice: doubles go; the larger the distance, the fewer stay."""
    clip = cv2.VideoCapture(str(drives[-1]))
    frames = []
    for number in range(0, 40, 2):
        done, image = clip.read()
        if not done:
            break
        for copy in (number, number + 1):
            path = tmp_path / f"a.mp4_{copy:05d}.jpg"
            assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95 - copy % 2 * 20])
            frames.append(Frame(path, f"a.mp4/{path.stem}", "a.mp4", "train", FrameState.UNLABELLED))
    hashes = {frame.name: hash_image(frame) for frame in frames}
    sizes = [len(distinct(frames, hashes, least)) for least in (0, 8, 40, 120)]
    assert sizes[0] == len(frames) == 40
    assert sizes == sorted(sizes, reverse=True) and sizes[1] <= 20 and sizes[3] < 5
    kept = distinct(frames, hashes, 120)
    assert near_duplicates(kept, [hashes[frame.name] for frame in kept], 40) == []


VIDEOS = [f"{n}_40_00.mp4" for n in range(20)]
SHARES = {"val": 0.15, "test": 0.2}
FROZEN = {"a": "test", "b": "train", "c": "train", "d": "val", "e": "train", "f": "train", "g": "test", "h": "train"}


def test_shares_of_the_videos():
    found = Counter(split_by_video([f"{n}.mp4" for n in range(4000)], SHARES, 0).values())
    for split, share in {"train": 0.65, **SHARES}.items():
        assert found[split] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


def test_the_order_and_repetition_of_videos_do_not_matter():
    assert split_by_video(VIDEOS, SHARES, 5) == split_by_video(reversed(VIDEOS * 2), SHARES, 5)


def test_these_exact_videos_stay_where_they_are():
    # Frozen: an assignment that moves between versions would leak yesterday's test frames into today's training.
    assert split_by_video("abcdefgh", SHARES, 1) == FROZEN


def test_another_seed_gives_another_split():
    assert split_by_video(VIDEOS, SHARES, 0) != split_by_video(VIDEOS, SHARES, 1)


def test_three_videos_are_enough_for_three_splits():
    assert sorted(split_by_video("abc", {"val": 0.01, "test": 0.9}, 0).values()) == ["test", "train", "val"]


def test_too_few_videos_go_to_train_first():
    assert split_by_video(["a"], {"val": 0.5, "test": 0.4}, 0) == {"a": "train"}
    assert split_by_video([], SHARES, 0) == {}


def test_no_share_no_video():
    assert set(split_by_video(VIDEOS, {"val": 0.0, "test": 0.5}, 0).values()) == {"train", "test"}


@pytest.mark.parametrize("shares", [{"val": -0.1}, {"val": 0.5, "test": 0.5}, {"train": 0.5}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(DataError, match="expected shares beside train"):
        split_by_video(VIDEOS, shares, 0)


@given(st.sets(st.text(max_size=8), max_size=40), st.floats(0, 0.49), st.floats(0, 0.49), st.integers(0, 2**31))
def test_every_video_once_and_every_asked_split_served(videos, val, test, seed):
    splits = split_by_video(videos, {"val": val, "test": test}, seed)
    assert splits.keys() == videos
    asked = {"train"} | ({"val"} if val else set()) | ({"test"} if test else set())
    if len(videos) >= len(asked):
        assert set(splits.values()) == asked


@given(st.sets(st.text(max_size=8), max_size=40), st.integers(0, 2**31))
def test_new_videos_move_no_other(new, seed):
    videos = [f"{n}_40_00.mp4" for n in range(200)]  # so many that no share is empty
    before, after = (split_by_video(some, SHARES, seed) for some in (videos, [*videos, *new]))
    assert [after[video] for video in videos] == [before[video] for video in videos]


def test_a_larger_share_moves_nothing_out_of_it():
    less, more = (split_by_video(VIDEOS, {"val": share}, 3) for share in (0.2, 0.4))
    assert {video for video, split in less.items() if split == "val"} < {
        v for v, split in more.items() if split == "val"
    }
