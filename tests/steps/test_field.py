"""Frames from the field in the pipeline: they train beside ivslab's, and those of some videos test both networks."""

import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import cv2
import pytest
import torch
import yaml

from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.intake import Views, collect
from mobile_centernet.mlops import paths
from mobile_centernet.mlops.params import Params
from mobile_centernet.mlops.refresh import refresh
from mobile_centernet.mlops.stages import ListedParams, listed_params
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.variants import build_model
from steps.__main__ import load_stage
from tests.helpers.call_counts import ROOT
from tests.helpers.harvests import DAY, LIVE, NOON, found, frame, settings

SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text())
LISTED = listed_params(ROOT / "dvc.yaml")
DAYS, BOX = 7, [40.0, 40.0, 40.0, 32.0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six labelled videos of ivslab, subsampled, and what a device sent: a frame a day."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    shutil.copytree(ROOT / "data/upstream", "data/upstream")
    images = [{"id": n, "file_name": f"v{n}.mp4/{n}.jpg", "width": 160, "height": 96} for n in range(6)]
    for image in images:
        path = Path("raw/images/train", str(image["file_name"]))
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), frame(100 + int(str(image["id"]))))
    rows = [{"id": n, "image_id": n, "category_id": 1, "bbox": BOX} for n in range(6)]
    write(Path("raw/annotations/instances_train.json"), images, rows)
    config = settings(tmp_path)
    with Harvester(config, LIVE) as harvester:
        for number in range(DAYS):
            harvester.offer(
                frame(number), found(("vehicle", 0.3, 40, 40, 80, 72)), at=NOON + number // 2 * DAY + number
            )
            harvester.flush()
    (config.paths.root / "field").rename(root / "inbox")
    with socket.socket() as listener:  # a tracking server that is not there: nothing here is about MLflow
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run({"source": "none"}, "fetch_ivslab", "subsample_ivslab")
    return root


def write(path: Path, images: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"categories": [{"id": 1, "name": "vehicle"}], "images": images, "annotations": rows}))


def run(field: Mapping[str, object], *stages: str) -> Params:
    """Stages, held to the params that dvc.yaml lists; these params."""
    tree = {**SHIPPED, "fetch_field": {**SHIPPED["fetch_field"], **field}}
    tree["fetch_ivslab"] = {**SHIPPED["fetch_ivslab"], "source": "folder", "path": "raw"}
    tree["prepare_ivslab"] = {**SHIPPED["prepare_ivslab"], "split": {"val": 0.25, "test": 0.25}}
    params = Params.model_validate(tree)
    for stage in stages:
        load_stage(stage)(cast(Params, ListedParams(params, stage, LISTED[stage])))
    return params


def review(days: int) -> None:
    """Somebody has reviewed the frames of the first days: each has one box."""
    shutil.rmtree("queues", ignore_errors=True)
    collect("inbox", Path("none"), Views(), Path("queues/1"))
    document = Path("queues/1/annotations/instances_field.json")
    images = sorted(json.loads(document.read_text())["images"], key=lambda image: image["file_name"])
    for image in images[:days]:
        image["state"] = "labelled"
    write(document, images, [{"id": n, "image_id": each["id"], "category_id": 1, "bbox": BOX}
                             for n, each in enumerate(images[: days])])  # fmt: skip


def splits() -> dict[str, dict[str, FrameState]]:
    """Frames of the prepared set, by split."""
    found = {}
    for path in paths.PREPARED.glob("ivslab/annotations_*.json"):
        split = path.stem.removeprefix("annotations_")
        prepared = PreparedSet(path.parent, split)
        frames = map(prepared.frame, range(len(prepared)))
        found[split] = {each.name: each.state for each in frames}
    return found


FOLDER: Mapping[str, object] = {"source": "folder", "path": "inbox", "reviewed": "queues", "test_share": 0.5}


def test_the_field_s_test_split_grows_with_what_is_reviewed_and_no_frame_changes_sides(project: Path) -> None:
    run({"source": "none"}, "fetch_field", "prepare_ivslab")
    without = splits()
    seen = []
    for days in (0, 3, DAYS):
        review(days)
        run(FOLDER, "fetch_field", "prepare_ivslab")
        seen.append(splits())
        assert {split: seen[-1][split] for split in ("val", "test")} == {
            split: without[split] for split in ("val", "test")
        }
    field, train = ([each.get(split, {}) for each in seen] for split in ("field", "train"))
    assert without.keys() == seen[0].keys() == {"train", "val", "test"}
    assert field[1] and field[0].keys() < field[1].keys() < field[2].keys()
    assert train[0].keys() == train[1].keys() == train[2].keys() > without["train"].keys()
    assert len(field[2]) + len(train[0]) - len(without["train"]) == DAYS
    new = train[0].keys() - without["train"].keys()
    assert [{each[name] for name in new} for each in (train[0], train[2])] == [
        {FrameState.UNLABELLED},
        {FrameState.LABELLED},
    ]
    assert set(field[2].values()) == {FrameState.LABELLED}


def test_both_networks_are_scored_on_reviewed_frames_apart(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, role in enumerate((paths.TEACHER, paths.STUDENT)):
        torch.manual_seed(seed)
        role.mkdir(parents=True)
        names, file = SHIPPED["classes"], role / paths.MODEL_FILE
        save_model(build_model("hrnet_w16_lite", 4), file, classes=names, input_size=(64, 96))
    run({"source": "none"}, "fetch_field", "prepare_ivslab")
    shutil.copytree("data/prepared/ivslab", "data/prepared/bdd100k")
    run({"source": "none"}, "evaluate")
    before = json.loads(paths.METRICS.read_text())
    assert "field" not in before and "no boxes on frames from the field were reviewed yet" in caplog.text
    review(DAYS)
    run(FOLDER, "fetch_field", "prepare_ivslab", "evaluate")
    after = json.loads(paths.METRICS.read_text())
    field = after.pop("field")
    assert after == before
    frames = len(splits()["field"])
    assert field["frames"] == frames and field["boxes"]["vehicle"] == frames
    assert {role: 0 <= field[role]["map50"] <= 1 for role in ("teacher", "student")} == {
        "teacher": True,
        "student": True,
    }


def test_a_bucket_is_fetched_again_once_another_frame_is_in_it(project: Path) -> None:
    import fsspec

    bucket, pin = fsspec.filesystem("memory"), Path("data/upstream/field.json")
    url = {"source": "url", "url": "memory://bucket/field", "path": str(pin)}
    paths_ = sorted(path for path in Path("inbox").rglob("*.*") if path.suffix in (".jpg", ".json"))
    try:
        for path in paths_[2:]:
            bucket.pipe(f"/bucket/field/{path.relative_to('inbox')}", path.read_bytes())
        params = run(url, "fetch_field")
        assert refresh(params) == ["memory://bucket/field"] and refresh(params) == []
        before = pin.read_bytes()
        for path in paths_[:2]:
            bucket.pipe(f"/bucket/field/{path.relative_to('inbox')}", path.read_bytes())
        assert refresh(params) == ["memory://bucket/field"] and pin.read_bytes() != before
        run(url, "fetch_field")
        assert json.loads(Path("data/raw/field/fetched.json").read_text()) == {"unlabelled": DAYS}
    finally:
        bucket.rm("/bucket", recursive=True)
