"""What prepare makes of splits: its own, those set aside, and what it says when one has no videos."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from mobile_centernet.data.annotations import Frame, FrameState
from mobile_centernet.data.prepare.subsample import set_aside
from mobile_centernet.mlops.params import Split, load_params
from steps.fetch import fetch_bdd100k
from steps.prepare import prepare_bdd100k
from tests.helpers.call_counts import ROOT


@pytest.mark.parametrize(("videos", "missing"), [(1, {"val", "test"}), (12, set())])
def test_a_share_for_which_there_are_too_few_videos_is_named(
    videos: int, missing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Frame(Path(f"{n}.jpg"), f"{n}", f"v{n}", "train", FrameState.UNLABELLED) for n in range(videos)]
    splits = {frame.split for frame in set_aside(frames, {"val": 0.15, "test": 0.25}, "val", 1)}
    assert splits == {"train", "val", "test"} - missing
    warnings = caplog.messages
    assert len(warnings) == len(missing)
    assert {line.split(":")[0].removeprefix("no video is set aside for ") for line in warnings} == missing
    assert all(f"{videos} videos are too few for a share of 0." in line for line in warnings)


def test_the_source_s_own_val_may_be_the_test_split_while_training_videos_choose_the_epoch() -> None:
    """By each name's hash: which ones are set aside does not depend on the others."""
    frames = [
        Frame(Path(f"{split}{n}.jpg"), f"{split}{n}", f"{split}{n}", split, FrameState.LABELLED)
        for split, count in (("train", 400), ("val", 50))
        for n in range(count)
    ]
    parts: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for frame in set_aside(frames, {"val": 0.1, "test": 0.0}, "test", 1):
        parts[frame.split].add(frame.name)
    assert parts["test"] == {f"val{n}" for n in range(50)}
    assert 25 <= len(parts["val"]) <= 55 and parts["val"] | parts["train"] == {f"train{n}" for n in range(400)}
    fewer = set_aside(frames[:200], {"val": 0.1, "test": 0.0}, "test", 1)
    assert {frame.name for frame in fewer if frame.split == "val"} <= parts["val"]


@pytest.mark.slow  # MLflow makes its database
def test_a_set_whose_categories_are_all_unknown_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["fetch_bdd100k"] |= {"source": "folder", "path": "raw"}
    (tmp_path / "raw/images/train").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "raw/images/train/a.jpg"), np.zeros((36, 64, 3), np.uint8))
    labels = [{"category": "Kraftwagen", "box2d": {"x1": 1, "y1": 2, "x2": 30, "y2": 20}}]
    (tmp_path / "raw/det.json").write_text(json.dumps([{"name": "a.jpg", "labels": labels}]))
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    params = load_params(Path("params.yaml"))
    fetch_bdd100k(params)
    prepare_bdd100k(params)
    assert "bdd100k: none of the boxes has a class (found 1 kraftwagen)" in caplog.text


def test_without_a_share_for_val_the_own_one_stays() -> None:
    with pytest.raises(ValidationError, match="own_val: test needs a share of training videos for val, found val: 0"):
        Split(val=0.0, test=0.1, own_val="test")
