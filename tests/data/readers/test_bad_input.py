"""Dirt, one kind at a time: one row in the report for each bad item, and never a good frame lost."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mobile_centernet.data.annotations import FINDING_KINDS
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.errors import DataError

CLASSES = ("vehicle", "pedestrian")
MAP = ClassMap(CLASSES, {"vehicle": "vehicle", "pedestrian": "pedestrian"})
GOOD = ("vehicle", 10, 5, 40, 30)
NAMES = [f"v.mp4/v.mp4_{number:05d}" for number in range(1, 5)]
VICTIM = NAMES[1]


@pytest.fixture
def root(tmp_path, write_image, write_xml) -> Path:
    """Four good frames with one vehicle each."""
    train = tmp_path / "raw/ivslab_train"
    for name in NAMES:
        write_image(train / f"JPEGImages/All/{name}.jpg")
        write_xml(train / f"Annotations/All/{name}.xml", GOOD)
    (train / "ImageSets").mkdir()
    (train / "ImageSets/All.txt").write_text("".join(f"All/{name}\n" for name in NAMES))
    return tmp_path / "raw"


def picture(root: Path) -> Path:
    return root / f"ivslab_train/JPEGImages/All/{VICTIM}.jpg"


def label(root: Path) -> Path:
    return root / f"ivslab_train/Annotations/All/{VICTIM}.xml"


def report_of(root: Path, out: Path) -> dict:
    raw = read_ivslab(root)
    report = prepare(raw, raw.frames, MAP, out, workers=1, progress=False)
    assert report == json.loads((out / "report.json").read_text())
    return report


def outcome(report: dict) -> tuple[int, Counter[str], list[tuple[str, str]]]:
    """Frames, their states, and the findings' kinds and actions."""
    train = report["splits"]["train"]
    states = Counter({state: count for state, count in train["states"].items() if count})
    return train["frames"], states, [(row["kind"], row["action"]) for row in report["findings"]]


def test_without_dirt_there_is_nothing_to_report(root, tmp_path):
    assert outcome(report_of(root, tmp_path / "out")) == (4, {"labelled": 4}, [])


@pytest.mark.parametrize(
    ("bad", "kind", "action"),
    [
        (("vehicle", "nan", 5, 40, 30), "nan_box", "quarantined"),
        (("vehicle", "left", 5, 40, 30), "nan_box", "quarantined"),
        (("vehicle", "inf", 5, 40, 30), "nan_box", "quarantined"),
        (("vehicle", 40, 5, 10, 30), "inverted_box", "repaired"),
        (("vehicle", -20, 5, 10, 30), "outside_box", "repaired"),
        (("vehicle", 70, 5, 99, 30), "outside_box", "quarantined"),
        (("vehicle", 10, 5, 10, 30), "tiny_box", "quarantined"),
        (("spaceship", 10, 5, 40, 30), "unknown_category", "ignored"),
    ],
)
def test_a_bad_box_is_one_row_and_its_neighbours_stay(root, tmp_path, write_xml, bad, kind, action):
    write_xml(label(root), GOOD, bad, GOOD)
    report = report_of(root, tmp_path / "out")
    assert outcome(report) == (4, {"labelled": 4}, [(kind, action)])
    assert report["findings"][0]["item"] == f"{VICTIM}#1"
    kept = 1 if action == "repaired" else 0
    assert report["splits"]["train"]["boxes"]["vehicle"] == 5 + kept
    assert kind in FINDING_KINDS


@pytest.mark.parametrize("content", ["", "<annotation>", "garbage"])
def test_a_bad_label_file(root, tmp_path, content):
    label(root).write_text(content)
    report = report_of(root, tmp_path / "out")
    assert outcome(report) == (4, {"labelled": 3, "unlabelled": 1}, [("unreadable_label", "quarantined")])
    assert report["findings"][0]["item"] == label(root).relative_to(root).as_posix()


def test_a_missing_label_file(root, tmp_path):
    label(root).unlink()
    expected = (4, {"labelled": 3, "unlabelled": 1}, [("missing_label", "quarantined")])
    assert outcome(report_of(root, tmp_path / "out")) == expected


def test_a_missing_picture(root, tmp_path):
    picture(root).unlink()
    assert outcome(report_of(root, tmp_path / "out")) == (3, {"labelled": 3}, [("missing_image", "quarantined")])


def test_a_picture_that_vanishes_after_reading(root, tmp_path):
    raw = read_ivslab(root)
    picture(root).unlink()
    report = prepare(raw, raw.frames, MAP, tmp_path / "out", workers=1, progress=False)
    assert outcome(report) == (3, {"labelled": 3}, [("missing_image", "quarantined")])


@pytest.mark.parametrize("kept", [0, 3, 100, -2, -100])
def test_a_truncated_picture(root, tmp_path, kept):
    picture(root).write_bytes(picture(root).read_bytes()[:kept])
    report = report_of(root, tmp_path / "out")
    assert outcome(report) == (3, {"labelled": 3}, [("unreadable_image", "quarantined")])
    assert report["findings"][0]["item"] == picture(root).relative_to(root).as_posix()
    assert str(tmp_path) not in json.dumps(report)


def test_labels_of_another_picture(root, tmp_path, write_xml):
    write_xml(label(root), GOOD, size=(64, 36))
    expected = (4, {"labelled": 3, "unlabelled": 1}, [("size_mismatch", "quarantined")])
    assert outcome(report_of(root, tmp_path / "out")) == expected


def test_labels_of_a_larger_copy_are_scaled(root, tmp_path, write_xml):
    write_xml(label(root), GOOD, size=(72, 128))
    assert outcome(report_of(root, tmp_path / "out")) == (4, {"labelled": 4}, [("size_mismatch", "repaired")])


def test_all_dirt_at_once_is_all_reported(root, tmp_path, write_xml, write_image):
    write_xml(label(root), ("vehicle", "nan", 1, 2, 3), ("spaceship", 1, 1, 9, 9), ("vehicle", 30, 5, 10, 20))
    (root / f"ivslab_train/Annotations/All/{NAMES[2]}.xml").write_text("")
    broken = root / f"ivslab_train/JPEGImages/All/{NAMES[3]}.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with (root / "ivslab_train/ImageSets/All.txt").open("a") as listing:
        listing.write("All/ghost.mp4/ghost.mp4_00001\n")
    report = report_of(root, tmp_path / "out")
    assert report["quarantined"] == {
        "missing_image": 1, "nan_box": 1, "unreadable_image": 1, "unreadable_label": 1,
    }  # fmt: skip
    assert (report["repaired"], report["ignored"]) == ({"inverted_box": 1}, {"unknown_category": 1})
    assert report["splits"]["train"]["states"] == {"labelled": 2, "empty": 0, "unlabelled": 1}


def test_bdd100k_dirt(tmp_path, write_image, write_json):
    for name in "abc":
        write_image(tmp_path / f"raw/images/100k/train/{name}.jpg")
    car = {"category": "vehicle", "box2d": {"x1": 10, "y1": 5, "x2": 40, "y2": 30}}
    entries = [
        {"name": "a.jpg", "labels": [car, {"category": "vehicle"}, car | {"category": "alien"}]},
        {"name": "a.jpg", "labels": []},
        {"name": "b.jpg", "labels": "many"},
        {"name": "ghost.jpg", "labels": [car]},
    ]
    write_json(tmp_path / "raw/labels/det_20/det_train.json", entries)
    (tmp_path / "raw/labels/det_20/det_val.json").touch()
    raw = read_bdd100k(tmp_path / "raw")
    report = prepare(raw, raw.frames, MAP, tmp_path / "out", workers=1, progress=False)
    assert report["quarantined"] == {
        "duplicate_frame": 1, "missing_image": 1, "nan_box": 1, "unreadable_label": 2,
    }  # fmt: skip
    assert report["ignored"] == {"unknown_category": 1}
    assert report["splits"]["train"]["states"] == {"labelled": 1, "empty": 0, "unlabelled": 2}


@pytest.mark.parametrize("read", [read_bdd100k, read_ivslab])
def test_a_source_that_is_not_there_is_one_clear_error(tmp_path, read):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"absent: expected a folder .*found nothing there"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="found a file"):
        read(tmp_path / "file")


@pytest.mark.parametrize("classes", [("vehicle",), ("vehicle", "pedestrian", "tram"), ("vehicle", "vehicle")])
def test_a_wrong_class_list_is_one_clear_error(classes):
    with pytest.raises(DataError, match="class map: expected"):
        ClassMap(classes, {"vehicle": "vehicle", "pedestrian": "pedestrian"})


@pytest.mark.parametrize("out", ["file/out", "file", "/proc/out", "/proc/self/no/out"])
def test_an_output_that_cannot_be_written_is_one_clear_error(root, tmp_path, out):
    # Not by permissions: a superuser, as in most containers, may write anywhere that is a real folder.
    (tmp_path / "file").touch()
    raw = read_ivslab(root)
    with pytest.raises(DataError, match=r"expected a (new )?folder"):
        prepare(raw, raw.frames, MAP, tmp_path / out, workers=1, progress=False)
    assert (tmp_path / "file").read_bytes() == b""


def test_nothing_to_prepare_is_one_clear_error(root, tmp_path):
    raw = read_ivslab(root)
    with pytest.raises(DataError, match="expected frames, found none"):
        prepare(raw, [], MAP, tmp_path / "out", workers=1, progress=False)
    for frame in raw.frames:
        frame.image.write_bytes(b"no picture")
    with pytest.raises(DataError, match="expected readable images, found none in 4 frames"):
        prepare(raw, raw.frames, MAP, tmp_path / "out", workers=1, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_frame_without_a_split_or_named_twice_is_one_clear_error(tmp_path, root, write_image):
    write_image(tmp_path / "plain/a.jpg")
    plain = read_bdd100k(tmp_path / "plain")
    with pytest.raises(DataError, match="a: expected a split such as train, val or test, found ''"):
        prepare(plain, plain.frames, MAP, tmp_path / "out", workers=1, progress=False)
    raw = read_ivslab(root)
    with pytest.raises(DataError, match=f"found {NAMES[0]} twice"):
        prepare(raw, [*raw.frames, raw.frames[0]], MAP, tmp_path / "out", workers=1, progress=False)
