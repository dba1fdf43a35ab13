"""The BDD100K reader: three layouts, one meaning."""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mobile_centernet.data.annotations import Frame, FrameState, RawSet
from mobile_centernet.data.readers import bdd100k
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.errors import DataError

ATTRIBUTES = {"weather": "rainy", "timeofday": "night", "scene": "highway"}
CAR = {"category": "car", "attributes": {}, "id": 0, "box2d": {"x1": 1.5, "y1": 2, "x2": 30.25, "y2": 20}}
LANE = {"category": "lane/road curb", "id": 1, "poly2d": [{"vertices": [[0, 0], [9, 9]], "types": "LL"}]}
MEN = {"category": " Traffic  Sign", "id": 2, "box2d": {"x1": 3, "y1": 4, "x2": 5, "y2": 9}}
CONTENT = {
    "0000f77c-6257be58": [CAR, LANE, MEN],
    "0000f77c-cb820c98": [LANE],
    "0004974f-05e1c285": [],
    "00054602-3bf57337": None,
}


def labels_2020(root: Path, write_json: Callable[[Path, object], Path]) -> None:
    entries = [{"name": f"{name}.jpg", "attributes": ATTRIBUTES, "labels": labels} for name, labels in CONTENT.items()]
    write_json(root / "labels/det_20/det_train.json", entries)


def labels_2018(root: Path, write_json: Callable[[Path, object], Path]) -> None:
    entries = [
        {"name": f"{name}.jpg", "attributes": ATTRIBUTES, "timestamp": 10000, "labels": labels}
        for name, labels in CONTENT.items()
    ]
    write_json(root / "labels/bdd100k_labels_images_train.json", entries)


def labels_per_file(root: Path, write_json: Callable[[Path, object], Path]) -> None:
    for name, labels in CONTENT.items():
        entry = {"name": name, "attributes": ATTRIBUTES, "frames": [{"timestamp": 10000, "objects": labels}]}
        write_json(root / f"labels/100k/train/{name}.json", entry)


def labels_per_file_2020_names(root: Path, write_json: Callable[[Path, object], Path]) -> None:
    for name, labels in CONTENT.items():
        entry = {"name": f"{name}.jpg", "attributes": ATTRIBUTES, "labels": labels}
        write_json(root / f"labels/100k/train/{name}.json", entry)


LAYOUTS = [labels_2020, labels_2018, labels_per_file, labels_per_file_2020_names]


@pytest.fixture
def root(tmp_path, write_image) -> Path:
    for name in CONTENT:
        write_image(tmp_path / f"images/100k/train/{name}.jpg")
    return tmp_path


def by_name(raw: RawSet) -> dict[str, Frame]:
    return {frame.name: frame for frame in raw.frames}


def kinds(raw: RawSet) -> Counter[str]:
    return Counter(finding.kind for finding in raw.findings)


@pytest.mark.parametrize("write_labels", LAYOUTS)
def test_every_layout_reads_as_the_same_frames(root, write_json, write_labels):
    write_labels(root, write_json)
    raw = read_bdd100k(root)
    assert raw.findings == ()
    frames = by_name(raw)
    assert frames.keys() == CONTENT.keys()
    first = frames["0000f77c-6257be58"]
    assert [(box.category, box.xyxy) for box in first.boxes] == [
        ("car", (1.5, 2, 30.25, 20)), ("traffic sign", (3, 4, 5, 9)),
    ]  # fmt: skip
    assert first.attributes == ATTRIBUTES
    assert (first.split, first.video) == ("train", "0000f77c")
    assert [frame.state for frame in frames.values()] == [
        FrameState.LABELLED, FrameState.EMPTY, FrameState.EMPTY, FrameState.UNLABELLED,
    ]  # fmt: skip


def test_the_newest_layout_wins_where_all_claim_a_picture(root, write_json):
    for write_labels in LAYOUTS[:3]:
        write_labels(root, write_json)
    newest = [{"name": "0000f77c-6257be58.jpg", "labels": [CAR]}]
    write_json(root / "labels/det_20/det_train.json", newest)
    raw = read_bdd100k(root)
    assert [box.category for box in by_name(raw)["0000f77c-6257be58"].boxes] == ["car"]
    assert kinds(raw) == {"duplicate_frame": 2 + 3}  # two older claims to this image, one older claim to the others
    assert len(raw.frames) == len(CONTENT)


def test_layouts_may_label_different_pictures(root, write_json, write_image):
    labels_per_file(root, write_json)
    write_image(root / "images/100k/val/new.jpg")
    write_json(root / "labels/det_20/det_val.json", [{"name": "new.jpg", "labels": [CAR]}])
    raw = read_bdd100k(root)
    assert raw.findings == ()
    assert (by_name(raw)["new"].split, by_name(raw)["new"].video) == ("val", "new")


def test_pictures_without_an_entry_are_unlabelled(root, write_json):
    write_json(root / "labels/det_20/det_train.json", [{"name": "0000f77c-6257be58.jpg", "labels": [CAR]}])
    assert Counter(frame.state for frame in read_bdd100k(root).frames) == {"labelled": 1, "unlabelled": 3}


def test_no_label_file_at_all(root):
    raw = read_bdd100k(root)
    assert {frame.state for frame in raw.frames} == {FrameState.UNLABELLED}
    assert raw.findings == ()


def test_labels_missing_from_the_entry_is_not_empty(root, write_json):
    write_json(root / "labels/det_20/det_train.json", [{"name": "0000f77c-6257be58.jpg", "attributes": ATTRIBUTES}])
    frame = by_name(read_bdd100k(root))["0000f77c-6257be58"]
    assert frame.state is FrameState.UNLABELLED
    assert frame.attributes == ATTRIBUTES


def test_an_entry_without_its_picture_is_a_finding(root, write_json):
    labels_2020(root, write_json)
    (root / "images/100k/train/0000f77c-6257be58.jpg").unlink()
    raw = read_bdd100k(root)
    assert len(raw.frames) == 3
    (finding,) = raw.findings
    assert finding.kind == "missing_image"
    assert (finding.item, finding.expected) == ("labels/det_20/det_train.json#0", "0000f77c-6257be58.jpg")


def test_crowds_and_categories_of_no_interest_are_ignore_boxes(root, write_json):
    crowd = CAR | {"attributes": {"crowd": True, "occluded": False}}
    labels = [CAR, crowd, CAR | {"category": "other person"}, CAR | {"category": "trailer"}]
    write_json(root / "labels/det_20/det_train.json", [{"name": "0000f77c-6257be58.jpg", "labels": labels}])
    frame = by_name(read_bdd100k(root))["0000f77c-6257be58"]
    assert [box.ignore for box in frame.boxes] == [False, True, True, True]


@pytest.mark.parametrize(
    "box2d",
    [None, {}, "none", {"x1": "left", "y1": 2, "x2": 3, "y2": 4}, {"x1": math.nan, "y1": 2, "x2": 3, "y2": 4}],
)
def test_a_box_without_numbers_keeps_its_place_as_nan(root, write_json, box2d):
    labels = [CAR, LANE, {"category": "bus", "box2d": box2d}]
    write_json(root / "labels/det_20/det_train.json", [{"name": "0000f77c-6257be58.jpg", "labels": labels}])
    frame = by_name(read_bdd100k(root))["0000f77c-6257be58"]
    assert [box.category for box in frame.boxes] == ["car", "bus"]
    assert math.isnan(frame.boxes[1].xyxy[0])


@pytest.mark.parametrize(
    "text", ["", "   ", "{", "[", "[1]", "hello", '{"name": "x", "labels": {"a": 1}}', "[]x", "\x00"]
)
def test_a_bad_label_file_is_one_finding_and_loses_no_picture(root, text):
    path = root / "labels/100k/train/0000f77c-6257be58.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    raw = read_bdd100k(root)
    assert len(raw.frames) == len(CONTENT)
    assert kinds(raw) == {"unreadable_label": 1}
    assert {frame.state for frame in raw.frames} == {FrameState.UNLABELLED}


def test_entries_before_the_damage_of_a_list_are_still_good(root, write_json):
    labels_2020(root, write_json)
    path = root / "labels/det_20/det_train.json"
    path.write_text(path.read_text()[:-60])
    raw = read_bdd100k(root)
    assert kinds(raw) == {"unreadable_label": 1}
    assert [frame.state for frame in raw.frames] == ["labelled", "empty", "empty", "unlabelled"]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 301])
def test_lists_read_piece_by_piece_are_the_same(root, write_json, monkeypatch, chunk):
    labels_2020(root, write_json)
    whole = read_bdd100k(root)
    monkeypatch.setattr(bdd100k, "CHUNK", chunk)
    assert read_bdd100k(root) == whole
    path = root / "labels/det_20/det_train.json"
    path.write_text(path.read_text()[:-60])
    damaged = read_bdd100k(root)
    monkeypatch.undo()
    assert damaged == read_bdd100k(root)
    assert re.search(r"in entry \d or behind it", damaged.findings[0].found)


def test_splits_are_the_folders_below_images(tmp_path, write_image):
    for path in (
        "bdd100k/images/100k/train/trainA/a.jpg", "bdd100k/images/100k/test/b.jpg", "images/unlabelled/c.jpg",
        "images/d.jpg", "plain/e.jpg",
    ):  # fmt: skip
        write_image(tmp_path / path)
    splits = {frame.name: frame.split for frame in read_bdd100k(tmp_path).frames}
    assert splits == {"a": "train", "b": "test", "c": "unlabelled", "d": "", "e": "plain"}


def test_pictures_of_10k_count_only_where_there_is_no_100k(tmp_path, write_image):
    write_image(tmp_path / "images/10k/train/a.jpg")
    assert [frame.name for frame in read_bdd100k(tmp_path).frames] == ["a"]
    write_image(tmp_path / "images/100k/train/b.jpg")
    assert [frame.name for frame in read_bdd100k(tmp_path).frames] == ["b"]


def test_two_pictures_of_one_name_are_two_frames_and_a_label_that_fits_both_goes_to_none(
    tmp_path, write_image, write_json
):
    for split in ("train", "val"):
        write_image(tmp_path / f"images/100k/{split}/a.jpg")
    write_json(tmp_path / "labels/all.json", [{"name": "a.jpg", "labels": [CAR]}])
    raw = read_bdd100k(tmp_path)
    assert {frame.name: frame.split for frame in raw.frames} == {"train/a": "train", "val/a": "val"}
    assert {frame.state for frame in raw.frames} == {FrameState.UNLABELLED}
    ((kind, found),) = [(finding.kind, finding.found) for finding in raw.findings]
    assert (kind, found) == ("ambiguous_label", "images/100k/train/a.jpg, images/100k/val/a.jpg")


@pytest.mark.parametrize("separator", ["/", "\\"])
@pytest.mark.parametrize(("file", "name"), [("det_val", "a.jpg"), ("all", "val/a.jpg"), ("all", "C:/set/Val/a.jpg")])
def test_a_label_goes_to_the_picture_whose_path_it_has(tmp_path, write_image, write_json, file, name, separator):
    for split in ("train", "val"):
        write_image(tmp_path / f"images/100k/{split}/a.jpg")
    entry = {"name": name.replace("/", separator), "labels": [CAR]}
    write_json(tmp_path / f"labels/{file}.json", [entry])
    raw = read_bdd100k(tmp_path)
    assert {frame.name: str(frame.state) for frame in raw.frames} == {"train/a": "unlabelled", "val/a": "labelled"}
    (tmp_path / "images/100k/val/a.jpg").unlink()
    raw = read_bdd100k(tmp_path)
    assert [str(frame.state) for frame in raw.frames] == ["unlabelled"]
    assert [finding.kind for finding in raw.findings] == ["missing_image"]


def test_files_of_other_tasks_are_left_alone(root, write_json, write_image):
    labels_2020(root, write_json)
    write_image(root / "labels/drivable/masks/train/0000f77c-6257be58.png")
    write_image(root / "labels/0000f77c-6257be58.png")
    write_json(root / "labels/lane/polygons/lane_train.json", [{"name": "0000f77c-6257be58.jpg", "labels": [LANE]}])
    write_json(root / "labels/box_track_20/train/b1c66a42-6f7d68ca.json", [{"name": "b1c66a42-1.jpg", "labels": [CAR]}])
    raw = read_bdd100k(root)
    assert raw.findings == ()
    assert len(raw.frames) == len(CONTENT)


def test_a_root_without_pictures_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"images/100k/train/\*\.jpg.* found none"):
        read_bdd100k(tmp_path)
    with pytest.raises(DataError, match="nothing there"):
        read_bdd100k(tmp_path / "absent")


def test_frames_drawn_and_real(bdd100k_sets):
    for root in bdd100k_sets:
        raw = read_bdd100k(root)
        assert raw.findings == ()
        labelled = [frame for frame in raw.frames if frame.state is FrameState.LABELLED]
        assert all(frame.attributes.keys() == {"weather", "timeofday", "scene"} for frame in labelled)
        assert Counter(box.category for frame in labelled for box in frame.boxes)["car"] > 5
    if len(bdd100k_sets) < 2:
        return
    assert Counter((frame.split, str(frame.state)) for frame in raw.frames) == {
        ("train", "labelled"): 10, ("unlabelled", "unlabelled"): 6,
    }  # fmt: skip
    assert Counter(box.category for frame in raw.frames for box in frame.boxes) == {
        "car": 65, "traffic sign": 20, "traffic light": 9, "pedestrian": 6, "bus": 1, "truck": 1,
    }  # fmt: skip
    assert by_name(raw)["0000f77c-6257be58"].attributes == {
        "weather": "clear", "timeofday": "daytime", "scene": "city street",
    }  # fmt: skip
    assert len({frame.video for frame in raw.frames if frame.split == "train"}) == 5


@pytest.mark.real_data
def test_the_real_street_photos(shared_data):
    raw = read_bdd100k(shared_data / "street/bdd100k")
    assert raw.findings == ()
    assert Counter(frame.split for frame in raw.frames) == {"train": 1213, "val": 349}
    assert Counter(box.category for frame in raw.frames if frame.split == "train" for box in frame.boxes) == {
        "car": 2297, "bus": 1458, "truck": 936, "motorcycle": 1014, "bicycle": 159, "rickshaw": 1533,
        "three-wheeler": 1278,
    }  # fmt: skip


@pytest.mark.benchmark
def test_reading_costs_little_more_than_parsing(tmp_path):
    entries = [{"name": f"{n:08x}-00000000.jpg", "attributes": ATTRIBUTES, "labels": [CAR] * 18} for n in range(3000)]
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "labels/det_train.json").write_text(json.dumps(entries))
    for entry in entries:
        (tmp_path / "images" / str(entry["name"])).touch()
    start = time.perf_counter()
    json.loads((tmp_path / "labels/det_train.json").read_text())
    parsed = time.perf_counter()
    raw = read_bdd100k(tmp_path)
    read = time.perf_counter()
    assert sum(len(frame.boxes) for frame in raw.frames) == 54_000
    assert read - parsed < 12 * (parsed - start)
