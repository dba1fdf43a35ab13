"""The ivslab reader: nested and flat folders, with and without lists and labels."""

import math
from collections import Counter
from pathlib import Path

import pytest

from mobile_centernet.data.annotations import Frame, FrameState, RawSet
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.errors import DataError

VIDEO = "1_40_00.mp4"
FRAMES = [f"{VIDEO}/{VIDEO}_{number:05d}" for number in (7, 8, 9)]
OBJECTS = [("Vehicle", 1, 2, 30, 20), ("pedestrian", "3", "4.5", "9", "12")]


@pytest.fixture
def root(tmp_path, write_image, write_xml) -> Path:
    """Three listed training frames: labelled, empty, and once more labelled."""
    train = tmp_path / "ivslab_train"
    for name, objects in zip(FRAMES, (OBJECTS, [], OBJECTS[:1]), strict=True):
        write_image(train / f"JPEGImages/All/{name}.jpg")
        write_xml(train / f"Annotations/All/{name}.xml", *objects)
    (train / "ImageSets").mkdir()
    (train / "ImageSets/All.txt").write_text("".join(f"All/{name}\n" for name in FRAMES))
    return tmp_path


def by_name(raw: RawSet) -> dict[str, Frame]:
    return {frame.name: frame for frame in raw.frames}


def kinds(raw: RawSet) -> Counter[str]:
    return Counter(finding.kind for finding in raw.findings)


def xml(root: Path, frame: str = FRAMES[0]) -> Path:
    return root / f"ivslab_train/Annotations/All/{frame}.xml"


def test_the_layout_of_the_competition(root):
    raw = read_ivslab(root)
    assert raw.findings == ()
    assert [frame.name for frame in raw.frames] == FRAMES
    assert {(frame.split, frame.video) for frame in raw.frames} == {("train", VIDEO)}
    assert [str(frame.state) for frame in raw.frames] == ["labelled", "empty", "labelled"]
    first = raw.frames[0]
    assert [(box.category, box.xyxy) for box in first.boxes] == [
        ("vehicle", (1, 2, 30, 20)), ("pedestrian", (3, 4.5, 9, 12)),
    ]  # fmt: skip
    assert first.declared_size == (36, 64)


def test_the_root_may_be_the_split_itself(root):
    assert read_ivslab(root / "ivslab_train").frames == read_ivslab(root).frames


def test_a_listed_frame_without_picture_is_a_finding(root):
    (root / f"ivslab_train/JPEGImages/All/{FRAMES[1]}.jpg").unlink()
    raw = read_ivslab(root)
    assert list(by_name(raw)) == [FRAMES[0], FRAMES[2]]
    assert kinds(raw) == {"missing_image": 1}
    assert raw.findings[0].item == f"ivslab_train/JPEGImages/All/{FRAMES[1]}.jpg"


def test_a_label_without_picture_is_a_finding_without_a_list_too(root):
    (root / "ivslab_train/ImageSets/All.txt").unlink()
    (root / f"ivslab_train/JPEGImages/All/{FRAMES[1]}.jpg").unlink()
    assert kinds(read_ivslab(root)) == {"missing_image": 1}


def test_a_listed_frame_without_label_is_a_finding_and_unlabelled(root):
    xml(root).unlink()
    raw = read_ivslab(root)
    assert kinds(raw) == {"missing_label": 1}
    assert by_name(raw)[FRAMES[0]].state is FrameState.UNLABELLED


def test_a_picture_that_the_list_forgot_is_a_frame(root, write_image, write_xml):
    (root / "ivslab_train/ImageSets/All.txt").write_text(f"All/{FRAMES[0]}\n\n")
    raw = read_ivslab(root)
    assert len(raw.frames) == 3
    assert raw.findings == ()


def test_without_a_list_all_pictures_are_frames(root):
    before = read_ivslab(root).frames
    (root / "ivslab_train/ImageSets/All.txt").unlink()
    assert read_ivslab(root).frames == before


def test_a_flat_test_set_without_labels(root, write_image):
    names = ["2_00_10.mp4_00001", "2_00_10.mp4_00002", "9_11_12.mp4_00001", "street"]
    for name in names:
        write_image(root / f"ivslab_test/JPEGImages/All/{name}.jpg")
    raw = read_ivslab(root)
    assert raw.findings == ()
    test = {frame.name: frame for frame in raw.frames if frame.split == "test"}
    assert {frame.state for frame in test.values()} == {FrameState.UNLABELLED}
    assert [test[name].video for name in names] == ["2_00_10.mp4", "2_00_10.mp4", "9_11_12.mp4", "street"]


def test_a_listed_test_set_without_any_label_is_no_dirt(root, write_image):
    write_image(root / "ivslab_test/JPEGImages/All/a.jpg")
    (root / "ivslab_test/ImageSets").mkdir()
    (root / "ivslab_test/ImageSets/All.txt").write_text("All/a\n")
    assert read_ivslab(root).findings == ()


def test_one_name_in_both_splits_is_two_frames_of_a_video_in_two_splits(root, write_image):
    write_image(root / f"ivslab_test/JPEGImages/All/{FRAMES[0]}.jpg")
    raw = read_ivslab(root)
    assert raw.findings == ()
    assert {frame.name for frame in raw.frames} == {
        f"ivslab_train/{FRAMES[0]}", f"ivslab_test/{FRAMES[0]}", *FRAMES[1:]
    }  # fmt: skip
    assert [str(frame.state) for frame in raw.frames] == ["labelled", "empty", "labelled", "unlabelled"]
    assert {frame.split for frame in raw.frames if frame.video == VIDEO} == {"train", "test"}


BILLION_LAUGHS = (
    '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation><object><name>&c;</name></object></annotation>'
)


@pytest.mark.parametrize("text", ["", "<annotation><object>", "no xml", "<html></html>", BILLION_LAUGHS, "\x00\x01"])
def test_a_bad_label_file_is_one_finding_and_an_unlabelled_frame(root, text):
    xml(root).write_text(text)
    raw = read_ivslab(root)
    assert kinds(raw) == {"unreadable_label": 1}
    assert raw.findings[0].item == f"ivslab_train/Annotations/All/{FRAMES[0]}.xml"
    assert [str(frame.state) for frame in raw.frames] == ["unlabelled", "empty", "labelled"]
    assert by_name(raw)[FRAMES[0]].boxes == ()


@pytest.mark.parametrize("value", ["nan", "NaN", "", "left", "12,5"])
def test_a_coordinate_that_is_no_number_keeps_its_place_as_nan(root, write_xml, value):
    write_xml(xml(root), OBJECTS[0], ("scooter", value, 2, 3, 4))
    boxes = by_name(read_ivslab(root))[FRAMES[0]].boxes
    assert [box.category for box in boxes] == ["vehicle", "scooter"]
    assert math.isnan(boxes[1].xyxy[0])
    assert boxes[1].xyxy[1:] == (2, 3, 4)


def test_an_object_without_bndbox_or_name_keeps_its_place(root):
    xml(root).write_text("<annotation><object><name>vehicle</name></object><object/></annotation>")
    frame = by_name(read_ivslab(root))[FRAMES[0]]
    assert [box.category for box in frame.boxes] == ["vehicle", ""]
    assert all(math.isnan(value) for box in frame.boxes for value in box.xyxy)


@pytest.mark.parametrize(
    ("size", "declared"), [(None, None), ((1080, 1920), (1080, 1920)), (("", "wide"), (0, 0)), ((0, 0), (0, 0))]
)
def test_declared_sizes(root, write_xml, size, declared):
    write_xml(xml(root), size=size)
    assert by_name(read_ivslab(root))[FRAMES[0]].declared_size == declared


def test_a_root_without_ivslab_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match="ivslab_train/JPEGImages"):
        read_ivslab(tmp_path)
    with pytest.raises(DataError, match="nothing there"):
        read_ivslab(tmp_path / "absent")


@pytest.mark.real_data
def test_the_real_street_photos(shared_data):
    raw = read_ivslab(shared_data / "street/ivslab")
    assert raw.findings == ()
    assert Counter(frame.split for frame in raw.frames) == {"train": 852, "test": 100}
    assert {box.category for frame in raw.frames for box in frame.boxes} == {"vehicle", "scooter", "bicycle"}
    assert not {f.video for f in raw.frames if f.split == "train"} & {f.video for f in raw.frames if f.split == "test"}
    assert FrameState.UNLABELLED not in {frame.state for frame in raw.frames}
