"""Frames from devices to a labelling tool and back."""

import json
from pathlib import Path
from typing import Any

import pytest

from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.cli.main import main
from mobile_centernet.data.annotations import FrameState
from mobile_centernet.data.readers.coco import read_coco
from tests.helpers.harvests import DAY, LIVE, NOON, found, frame, settings
from tests.helpers.programs import exit_code
from tests.helpers.tiny import tiny_detector

DOUBTFUL = found(("vehicle", 0.3, 40, 40, 80, 72))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Three frames of two days, as a device sends them."""
    config = settings(tmp_path)
    with Harvester(config, LIVE) as harvester:
        for seed, at in enumerate((NOON, NOON + 9, NOON + DAY)):
            harvester.offer(frame(seed), DOUBTFUL, at=at)
            harvester.flush()
    return config.paths.root / "field"


def exported(tmp_path: Path, inbox: Path | str, *options: str) -> dict[str, Any]:
    model = tiny_detector(tmp_path / "m.onnx")
    arguments = ["label", "export", str(inbox), "--model", str(model), "--out", str(tmp_path / "queue"), *options]
    assert exit_code(main, *arguments) == 0
    document: dict[str, Any] = json.loads((tmp_path / "queue/annotations/instances_field.json").read_text())
    return document


def imported(tmp_path: Path, document: object) -> int:
    (tmp_path / "reviewed.json").write_text(json.dumps(document))
    return exit_code(main, "label", "import", str(tmp_path / "queue"), str(tmp_path / "reviewed.json"), "--by", "Ada")


def test_the_export_is_a_coco_set_by_device_and_day_of_which_nothing_trains_yet(tmp_path: Path, inbox: Path) -> None:
    document = exported(tmp_path, inbox, "--threshold", "0")
    assert document["annotations"]
    raw = read_coco(tmp_path / "queue")
    assert len(raw.frames) == 3 and not raw.findings
    assert {each.state for each in raw.frames} == {FrameState.UNLABELLED}
    assert len({each.video for each in raw.frames}) == 2
    assert all(each.video.startswith("kiosk-07_camera_") for each in raw.frames)


def test_damaged_incomplete_and_known_frames_are_left_out_and_counted(
    tmp_path: Path, inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, _ = sorted(inbox.rglob("*.jpg"))
    first.write_bytes(first.read_bytes()[:-40])
    second.unlink()
    (inbox / "stranger.json").write_text("[" * 10_000)
    document = exported(tmp_path, inbox)
    assert len(document["images"]) == 1
    assert capsys.readouterr().out.startswith("1 frame, ")
    (tmp_path / "queue").rename(tmp_path / "before")
    arguments = ["label", "export", str(inbox), "--model", str(tmp_path / "m.onnx"), "--out", str(tmp_path / "queue")]
    assert exit_code(main, *arguments, "--against", str(tmp_path / "before")) == 2
    assert "expected frames to label, found 2 damaged, 1 near-copies, 1 not whole yet" in capsys.readouterr().err


def test_reviewed_frames_are_labelled_and_what_changed_is_told(
    tmp_path: Path, inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = exported(tmp_path, inbox)
    names = {each["name"]: each["id"] for each in document["categories"]}
    first, second, _ = document["images"]
    cls = next(iter(names.values()))
    rows = [[10, 10, 20, 20], [50, 10, 20, 20], [90, 10, 20, 20]]
    document["annotations"] = [
        {"id": number, "image_id": first["id"], "category_id": cls, "bbox": box, "iscrowd": 0}
        for number, box in enumerate(rows)
    ]
    queue = tmp_path / "queue/annotations/instances_field.json"
    queue.write_text(json.dumps(document))
    capsys.readouterr()
    moved = [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": box}
        for box in ([10, 10, 20, 20], [54, 10, 20, 20], [120, 60, 9, 9])
    ]
    reviewed = {  # a tool's own numbers, and folders cut off
        "categories": [{"id": 3, "name": next(iter(names))}],
        "images": [
            {"id": 7, "file_name": first["file_name"].rpartition("/")[2]},
            {"id": 8, "file_name": second["file_name"].replace("/", "\\")},
        ],
        "annotations": moved,
    }
    assert imported(tmp_path, reviewed) == 0
    assert capsys.readouterr().out == "2 frames reviewed by Ada; boxes: 1 added, 1 moved, 1 removed; 1 frame left\n"
    raw = {each.image.name: each for each in read_coco(tmp_path / "queue").frames}
    states = [raw[each["file_name"].rpartition("/")[2]].state for each in document["images"]]
    assert states == [FrameState.LABELLED, FrameState.EMPTY, FrameState.UNLABELLED]
    assert sorted(box.xyxy for box in raw[first["file_name"].rpartition("/")[2]].boxes) == [
        (10, 10, 30, 30),
        (54, 10, 74, 30),
        (120, 60, 129, 69),
    ]
    image = json.loads(queue.read_text())["images"][0]
    assert image["reviewed_by"] == "Ada" and image["reviewed_at"].endswith("Z")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": [{"id": 1, "file_name": "other.jpg"}]}, "expected images of"),
        ({"annotations": [{"image_id": 1, "category_id": 99, "bbox": [0, 0, 1, 1]}]}, "expected a box of one of its"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1]}]}, "expected a box of one of its"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, -1, 1]}]}, "expected a box of one of its"),
        ({"annotations": [{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "expected a box of one of its"),
        ({"images": 3}, "expected a COCO document with a list of images"),
    ],
)
def test_a_document_that_does_not_fit_changes_nothing(
    tmp_path: Path, inbox: Path, change: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = exported(tmp_path, inbox)
    before = (tmp_path / "queue/annotations/instances_field.json").read_bytes()
    assert imported(tmp_path, {**document, **change}) == 2
    assert sentence in capsys.readouterr().err
    assert (tmp_path / "queue/annotations/instances_field.json").read_bytes() == before


def test_an_inbox_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_detector(tmp_path / "m.onnx")
    for inbox in (str(tmp_path / "none"), "nonsense://x"):
        assert exit_code(main, "label", "export", inbox, "--model", str(model), "--out", str(tmp_path / "q")) == 2
        assert capsys.readouterr().err.startswith(f"error: {inbox}: expected")
    assert not (tmp_path / "q").exists()
