"""What devices sent becomes a set that every reader reads, with what people reviewed."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mobile_centernet.agent.harvest import Harvester
from mobile_centernet.cli.main import main
from mobile_centernet.data.annotations import Frame, FrameState
from mobile_centernet.data.readers.coco import read_coco
from mobile_centernet.data.similarity.perceptual import perceptual_hash
from mobile_centernet.errors import DataError, UserError
from mobile_centernet.intake import Collected, Views, collect
from tests.helpers.harvests import DAY, LIVE, NOON, found, frame, settings
from tests.helpers.programs import exit_code
from tests.helpers.tiny import tiny_detector

CAR = ("vehicle", 0.3, 40, 40, 80, 72)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Four frames of two days, as a device sends them."""
    config = settings(tmp_path)
    with Harvester(config, LIVE) as harvester:
        for seed, at in enumerate((NOON, NOON + 9, NOON + 18, NOON + DAY)):
            harvester.offer(frame(seed), found(CAR), at=at)
            harvester.flush()
    return config.paths.root / "field"


def review(tmp_path: Path, inbox: Path, name: str, boxes: list[list[list[float]]]) -> list[str]:
    """Export a queue, import boxes for as many of its frames; returns these images' names."""
    queue, model = tmp_path / "queues" / name, tiny_detector(tmp_path / "m.onnx")
    arguments = ["--model", str(model), "--out", str(queue), "--threshold", "0"]
    assert exit_code(main, "label", "export", str(inbox), *arguments) == 0
    document: dict[str, Any] = json.loads((queue / "annotations/instances_field.json").read_text())
    document["images"] = document["images"][: len(boxes)]
    document["annotations"] = [
        {"image_id": image["id"], "category_id": 1, "bbox": box}
        for image, each in zip(document["images"], boxes, strict=True)
        for box in each
    ]
    (tmp_path / "reviewed.json").write_text(json.dumps(document))
    assert exit_code(main, "label", "import", str(queue), str(tmp_path / "reviewed.json"), "--by", "Ada") == 0
    return [image["file_name"].rpartition("/")[2] for image in document["images"]]


def frames_of(tmp_path: Path, inbox: Path | str, known: Views | None = None) -> tuple[Collected, dict[str, Frame]]:
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    done = collect(str(inbox), tmp_path / "queues", known or Views(), tmp_path / "set")
    return done, {each.image.name: each for each in read_coco(tmp_path / "set").frames}


def test_frames_are_unlabelled_videos_by_device_camera_and_day_with_their_own_bytes(
    tmp_path: Path, inbox: Path
) -> None:
    done, frames = frames_of(tmp_path, inbox)
    assert done.fates == {"unlabelled": 4} and not done.findings
    assert {each.state for each in frames.values()} == {FrameState.UNLABELLED}
    assert sorted(done.files.values()) == sorted(path.stem for path in inbox.rglob("*.jpg"))
    videos = [each.video for each in frames.values()]
    assert sorted(map(videos.count, set(videos))) == [1, 3]
    assert all(video.startswith("kiosk-07_camera_") for video in videos)
    again = tmp_path / "again"
    collect(str(inbox), tmp_path / "queues", Views(), again)
    for path in filter(Path.is_file, (tmp_path / "set").rglob("*")):
        assert path.read_bytes() == (again / path.relative_to(tmp_path / "set")).read_bytes()


def test_reviewed_frames_are_labelled_even_where_the_inbox_was_cleared_and_the_last_folder_counts(
    tmp_path: Path, inbox: Path
) -> None:
    first, second = review(tmp_path, inbox, "1", [[[10, 10, 20, 20]], []])
    review(tmp_path, inbox, "2", [[[30, 30, 9, 9], [60, 10, 20, 12]]])
    record = next(path for path in inbox.rglob("*.json") if path.stem.startswith(Path(first).stem[-12:]))
    record.unlink()
    done, frames = frames_of(tmp_path, inbox)
    assert done.fates == {"labelled": 1, "empty": 1, "unlabelled": 2}
    assert [box.xyxy for box in frames[first].boxes] == [(30, 30, 39, 39), (60, 10, 80, 22)]
    assert frames[second].state is FrameState.EMPTY
    assert {box.category for box in frames[first].boxes} == {"vehicle"}


def test_what_is_damaged_or_seen_already_is_left_out_and_told(tmp_path: Path, inbox: Path) -> None:
    (first,) = review(tmp_path, inbox, "1", [[[10, 10, 20, 20]]])
    image = next((tmp_path / "queues").rglob(first))
    image.write_bytes(image.read_bytes()[:-40])  # then the inbox has it still, unlabelled
    images = sorted(path for path in inbox.rglob("*.jpg") if path.stem[:12] != image.stem[-12:])
    images[0].write_bytes(images[0].read_bytes()[:-40])
    images[1].unlink()
    known = cv2.cvtColor(cv2.imdecode(np.fromfile(images[2], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    brighter = np.clip(known.astype(int) + 9, 0, 255).astype(np.uint8)
    done, frames = frames_of(tmp_path, inbox, Views([perceptual_hash(brighter)]))
    assert done.fates == {"damaged": 2, "not whole yet": 1, "near-copies": 1, "unlabelled": 1}
    assert list(frames) == [first]
    assert sorted(Path(each.item).name for each in done.findings) == sorted([first, f"{images[0].stem}.json"])


def test_a_near_copy_of_a_reviewed_frame_gives_way_to_it(tmp_path: Path, inbox: Path) -> None:
    (first,) = review(tmp_path, inbox, "1", [[]])
    config = settings(tmp_path, device={"name": "kiosk-08"})
    sent = next(path for path in inbox.rglob("*.jpg") if path.stem[:12] == Path(first).stem[-12:])
    view = cv2.cvtColor(cv2.imread(str(sent)), cv2.COLOR_BGR2RGB)
    with Harvester(config, LIVE, name="rear") as harvester:
        harvester.offer(view, found(CAR), at=NOON)
        harvester.flush()
    done, frames = frames_of(tmp_path, inbox)
    assert done.fates == {"empty": 1, "unlabelled": 3, "near-copies": 1}
    assert frames[first].state is FrameState.EMPTY


def test_what_was_fetched_from_a_bucket_is_not_fetched_again(tmp_path: Path, inbox: Path) -> None:
    import fsspec

    bucket = fsspec.filesystem("memory")
    for path in inbox.rglob("*.*"):
        if path.suffix in (".jpg", ".json"):
            bucket.pipe(f"/field/{path.relative_to(inbox)}", path.read_bytes())
    try:
        first = collect("memory://field", tmp_path, Views(), tmp_path / "a", tmp_path / "keep")
        for name in bucket.find("/field"):
            if name.endswith(".jpg"):
                bucket.pipe(name, b"another file, which nobody asks for")
        second = collect("memory://field", tmp_path, Views(), tmp_path / "b", tmp_path / "keep")
    finally:
        bucket.rm("/field", recursive=True)
    assert first.files == second.files and len(first.files) == 4


def test_an_empty_inbox_is_no_set_and_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    assert collect(str(tmp_path / "inbox"), tmp_path / "queues", Views(), tmp_path / "set") == Collected()
    assert not (tmp_path / "set").exists()
    with pytest.raises(UserError, match="nonsense://x: expected a folder or bucket of frames"):
        collect("nonsense://x", tmp_path / "queues", Views(), tmp_path / "set")


def test_a_reviewed_box_of_no_number_is_an_error_that_names_the_image(tmp_path: Path, inbox: Path) -> None:
    (first,) = review(tmp_path, inbox, "1", [[[10, 10, 20, 20]]])
    path = tmp_path / "queues/1/annotations/instances_field.json"
    document = json.loads(path.read_text())
    next(row for row in document["annotations"] if row["bbox"][:2] == [10, 10])["bbox"][0] = float("nan")
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"{first}: expected boxes of finite numbers"):
        collect(str(inbox), tmp_path / "queues", Views(), tmp_path / "set")
