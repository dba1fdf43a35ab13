"""What prepare says when a split that was asked for has no videos."""

from pathlib import Path

import pytest

from mobile_centernet.data.annotations import Frame, FrameState
from mobile_centernet.mlops.params import Split
from steps.prepare import _split


@pytest.mark.parametrize(("videos", "missing"), [(1, {"val", "test"}), (12, set())])
def test_a_share_for_which_there_are_too_few_videos_is_named(
    videos: int, missing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Frame(Path(f"{n}.jpg"), f"{n}", f"v{n}", "train", FrameState.UNLABELLED) for n in range(videos)]
    splits = {frame.split for frame in _split(frames, Split(val=0.15, test=0.25), seed=1)}
    assert splits == {"train", "val", "test"} - missing
    warnings = caplog.messages
    assert len(warnings) == len(missing)
    assert {line.split(":")[0].removeprefix("no video is set aside for ") for line in warnings} == missing
    assert all(f"{videos} videos are too few for a share of 0." in line for line in warnings)
