"""Sets as other people and tools lay them out: read as they are meant, or a finding; never in silence."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from mobile_centernet.data.annotations import FrameState, RawSet
from mobile_centernet.data.check.checks import check
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.common import LEFT_BY_DESKTOPS, walk
from mobile_centernet.data.readers.layouts import read_source
from mobile_centernet.data.readers.raw import Layout, read_raw
from mobile_centernet.data.readers.regroup import regroup
from mobile_centernet.data.store.formats import ExportFormat, export_set
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError

CAR = {"category": "car", "box2d": {"x1": 10, "y1": 5, "x2": 40, "y2": 30}}
LANE = {"category": "lane", "poly2d": [{"vertices": [[0, 1], [5, 9]], "types": "LL", "closed": False}]}
GOOD = ("vehicle", 10, 5, 40, 30)


def states(raw: RawSet) -> Counter[tuple[str, str]]:
    return Counter((frame.split, str(frame.state)) for frame in raw.frames)


def kinds(raw: RawSet) -> list[str]:
    return [finding.kind for finding in raw.findings]


def entry(name: str, *labels: dict, **more: object) -> dict:
    return {"name": name, "labels": list(labels), **more}


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("images/100k/train", "train"), ("images/valid", "val"), ("Validation/data", "val"), ("dev/images", "val"),
        ("images/TRAIN", "train"), ("images/training", "train"), ("testing", "test"), ("images/val2017", "val"),
        ("valid/images", "val"), ("images/100k/trainA", "train"),
    ],
)  # fmt: skip
def test_words_for_splits(tmp_path: Path, write_image, folder: str, split: str) -> None:
    write_image(tmp_path / folder / "a.jpg")
    write_image(tmp_path / "images/100k/test/b.jpg")
    _, raw = read_raw(tmp_path)
    assert {frame.name: frame.split for frame in raw.frames} == {"a": split, "b": "test"}
    assert raw.findings == ()


def test_an_unknown_word_beside_splits_is_a_finding_and_a_split_of_its_own(tmp_path: Path, write_image) -> None:
    for folder in ("train", "holdout"):
        write_image(tmp_path / f"images/{folder}/{folder}.jpg")
    _, raw = read_raw(tmp_path)
    assert {frame.split for frame in raw.frames} == {"train", "holdout"}
    assert [(finding.kind, finding.item) for finding in raw.findings] == [("unknown_split", "holdout")]
    (tmp_path / "images/train/train.jpg").unlink()
    _, raw = read_raw(tmp_path)  # then folders have nothing to do with splits
    assert ([frame.split for frame in raw.frames], kinds(raw)) == ([""], ["no_split"])


def test_label_files_alone_say_which_split(tmp_path: Path, write_image, write_json) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / f"images/{split}-1.jpg")
        write_json(tmp_path / f"labels/det_20/det_{split}.json", [entry(f"{split}-1.jpg", CAR)])
    _, raw = read_raw(tmp_path)
    assert states(raw) == {("train", "labelled"): 1, ("val", "labelled"): 1}


def test_single_label_files_are_called_after_images_and_not_after_splits(
    tmp_path: Path, write_image, write_json
) -> None:
    write_image(tmp_path / "bdd/images/100k/val/train-0.jpg")
    write_json(tmp_path / "bdd/labels/100k/val/train-0.json", entry("train-0", CAR))
    assert states(read_raw(tmp_path / "bdd")[1]) == {("val", "labelled"): 1}
    # One split alone keeps its name.
    assert states(read_raw(tmp_path / "bdd/images/100k/val")[1]) == {("val", "unlabelled"): 1}


def test_images_of_one_name_in_two_splits_are_no_videos_of_one_name(tmp_path: Path, write_image, write_json) -> None:
    for number, split in enumerate(("train", "val")):
        write_image(tmp_path / f"images/100k/{split}/a.jpg", 36 + number)
    write_json(tmp_path / "labels/det_val.json", [entry("a.jpg", CAR)])
    problems = check(read_source(tmp_path), workers=1, progress=False).problems
    assert "same_video_name" not in {problem.finding.kind for problem in problems}


def test_lanes_alone_say_nothing_about_objects(tmp_path: Path, write_image, write_json) -> None:
    for name in "ab":
        write_image(tmp_path / f"images/100k/train/{name}.jpg")
    path = write_json(tmp_path / "labels/lane_train.json", [entry("a.jpg", LANE), entry("b.jpg", LANE)])
    _, raw = read_raw(tmp_path)
    assert (states(raw), kinds(raw)) == ({("train", "unlabelled"): 2}, ["no_objects"])
    write_json(path, [entry("a.jpg", LANE), entry("b.jpg", LANE, CAR)])
    _, raw = read_raw(tmp_path)  # somebody has looked for objects, and a has none
    assert (states(raw), kinds(raw)) == ({("train", "empty"): 1, ("train", "labelled"): 1}, [])


@pytest.mark.parametrize(
    ("outline", "box"),
    [
        ({"poly2d": [{"vertices": [[4, 6], [14, 6], [14, 12]], "types": "LLL", "closed": True}]}, (4, 6, 14, 12)),
        ({"poly2d": [[[4, 6, "L"], [14, 6, "L"], [14, 12, "L"]]]}, (4, 6, 14, 12)),
        ({"rle": {"counts": [4 * 10 + 6, 3, 7, 3], "size": [10, 20]}}, (4, 6, 6, 9)),
    ],
)
def test_an_outline_or_mask_of_an_object_gives_its_box(tmp_path, write_image, write_json, outline, box) -> None:
    write_image(tmp_path / "images/100k/train/a.jpg")
    write_json(tmp_path / "labels/ins_seg_train.json", [entry("a.jpg", {"category": "car", **outline}, LANE)])
    _, raw = read_raw(tmp_path)
    assert [tuple(each.xyxy) for each in raw.frames[0].boxes] == [box]


def test_a_compressed_mask_gives_the_box_that_pycocotools_finds(tmp_path: Path, write_image, write_json) -> None:
    import numpy as np
    from pycocotools import mask

    pixels = np.zeros((36, 64), np.uint8, order="F")
    pixels[7:20, 11:31] = pixels[25:30, 40:41] = 1
    encoded = mask.encode(pixels)
    x, y, width, height = mask.toBbox(encoded)
    rle = {"counts": encoded["counts"].decode(), "size": [36, 64]}
    write_image(tmp_path / "images/100k/train/a.jpg")
    write_json(tmp_path / "labels/x.json", [entry("a.jpg", {"category": "car", "rle": rle})])
    _, raw = read_raw(tmp_path)
    assert tuple(raw.frames[0].boxes[0].xyxy) == (x, y, x + width, y + height)


def test_scalabel_config_and_frames_and_names_of_videos(tmp_path: Path, write_image, write_json) -> None:
    names = [f"0000f77c-6257be58-{number:07d}.jpg" for number in (1, 2, 3)]
    for name in names:
        write_image(tmp_path / "images/100k/train" / name)
    frames = [entry(name, CAR, videoName="drive 1", frameIndex=n) for n, name in enumerate(names)]
    path = write_json(tmp_path / "labels/det_train.json", {"config": {"categories": []}, "frames": frames})
    _, raw = read_raw(tmp_path)
    assert (states(raw), {frame.video for frame in raw.frames}) == ({("train", "labelled"): 3}, {"drive 1"})
    path.unlink()
    assert {frame.video for frame in read_raw(tmp_path)[1].frames} == {"0000f77c"}


def test_several_frames_of_one_name_are_a_finding(tmp_path: Path, write_image, write_json) -> None:
    write_image(tmp_path / "images/100k/train/a.jpg")
    write_json(tmp_path / "labels/100k/train/a.json", {"name": "a", "frames": [{"objects": []}, {"objects": [CAR]}]})
    _, raw = read_raw(tmp_path)
    assert (states(raw), kinds(raw)) == ({("train", "unlabelled"): 1}, ["unreadable_label"])


@pytest.mark.parametrize("flag", [True, 1, "true", "True", "1"])
def test_flags_in_any_spelling(tmp_path: Path, write_image, write_json, flag: object) -> None:
    write_image(tmp_path / "images/100k/train/a.jpg")
    write_json(tmp_path / "labels/x.json", [entry("a.jpg", CAR | {"attributes": {"crowd": flag}}, CAR)])
    assert [box.ignore for box in read_raw(tmp_path)[1].frames[0].boxes] == [True, False]


def test_two_roots_as_on_kaggle_are_one_set_for_check_and_prepare(tmp_path: Path, write_image, write_json) -> None:
    write_image(tmp_path / "bdd100k/bdd100k/images/100k/train/a.jpg")
    labels = "bdd100k_labels_release/bdd100k/labels/bdd100k_labels_images_train.json"
    write_json(tmp_path / labels, [entry("a.jpg", CAR)])
    source, (_, raw) = read_source(tmp_path), read_raw(tmp_path)
    assert [each.frame for each in source.entries] == list(raw.frames)
    assert states(raw) == {("train", "labelled"): 1}


def test_litter_of_desktops_is_counted_and_nothing_else(tmp_path: Path, write_image, write_json) -> None:
    for path in ("images/100k/train/a.jpg", "images/100k/train/._a.jpg", "__MACOSX/images/100k/train/._a.jpg"):
        write_image(tmp_path / path)
    for path in ("images/Thumbs.db", "images/100k/.DS_Store", "labels/._det_train.json", "notes.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    write_json(tmp_path / "labels/det_train.json", [entry("a.jpg", CAR)])
    _, raw = read_raw(tmp_path)
    assert (states(raw), kinds(raw)) == ({("train", "labelled"): 1}, [])
    assert raw.unread == {LEFT_BY_DESKTOPS: 5, ".md": 1}


def test_a_pipe_is_never_read(tmp_path: Path, write_image) -> None:
    write_image(tmp_path / "set/images/a.jpg")
    os.mkfifo(tmp_path / "set/images/b.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "set/images/c.jpg").symlink_to(tmp_path / "pipe")
    listing = walk(tmp_path / "set")
    assert listing.images == ("images/a.jpg",)
    assert sorted((each.kind, each.item) for each in listing.findings) == [
        ("no_file", "images/b.jpg"),
        ("no_file", "images/c.jpg"),
    ]


def test_links_are_followed_once_each(tmp_path: Path, write_image) -> None:
    root = tmp_path / "set"
    write_image(tmp_path / "disk/b.jpg")
    write_image(root / "adisk/train/a.jpg")
    (root / "images/100k").mkdir(parents=True)
    (root / "images/100k/train").symlink_to(root / "adisk/train")  # inside, and where a set has its images
    (root / "images/100k/val").symlink_to(tmp_path / "disk")
    (root / "images/again").symlink_to(root / "images")  # a loop
    (root / "images/gone").symlink_to(tmp_path / "nothing")
    (root / "latest").symlink_to(root / "adisk")  # a second way
    listing = walk(root)
    assert listing.images == ("images/100k/train/a.jpg", "images/100k/val/b.jpg")
    assert [(finding.kind, finding.item) for finding in listing.findings] == [("broken_link", "images/gone")]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("ivslab_train", "ivslab_test_public"), {"train", "test"}),
        (("ivslab_train", "ivslab_test_private_final/ivslab_test_private_final"), {"train", "test"}),
        (("ivslab_train/ivslab_train", "ivslab_val"), {"train", "val"}),
        (("taipei_drives",), {"train"}),
        (("VOCdevkit/VOC2012",), {"train"}),
        (("ivslab_train", "taipei"), {"train", "taipei"}),
    ],
)
def test_folders_of_ivslab(tmp_path: Path, write_image, write_xml, folders, splits) -> None:
    for n, folder in enumerate(folders):
        write_image(tmp_path / f"raw/{folder}/JPEGImages/All/{n}.mp4/{n}.mp4_00001.jpg")
        write_xml(tmp_path / f"raw/{folder}/Annotations/All/{n}.mp4/{n}.mp4_00001.xml", GOOD)
    layout, raw = read_raw(tmp_path / "raw")
    assert (layout, {frame.split for frame in raw.frames}) == (Layout.IVSLAB, splits)
    assert {frame.state for frame in raw.frames} == {FrameState.LABELLED}
    assert kinds(raw) == (["unknown_split"] if "taipei" in splits else [])


def test_one_folder_of_ivslab_keeps_its_split(tmp_path: Path, write_image) -> None:
    write_image(tmp_path / "ivslab_test_public/JPEGImages/All/a.jpg")
    assert {frame.split for frame in read_raw(tmp_path / "ivslab_test_public")[1].frames} == {"test"}


def test_lists_of_pascal_voc_say_which_split(tmp_path: Path, write_image, write_xml) -> None:
    for name in "abcd":
        write_image(tmp_path / f"VOC/JPEGImages/{name}.jpg")
        write_xml(tmp_path / f"VOC/Annotations/{name}.xml", GOOD)
    lists = tmp_path / "VOC/ImageSets/Main"
    lists.mkdir(parents=True)
    for split, lines in (("train", "a\n"), ("val", "b  1\n"), ("test", "c\nghost\n"), ("car_train", "d  1\n")):
        (lists / f"{split}.txt").write_text(lines)
    _, raw = read_raw(tmp_path)
    assert {frame.name: frame.split for frame in raw.frames} == {"a": "train", "b": "val", "c": "test", "d": "unlisted"}
    assert kinds(raw) == ["missing_image", "unknown_split"]


def test_lists_in_any_spelling(tmp_path: Path, write_image, write_xml) -> None:
    train = tmp_path / "ivslab_train"
    for number, suffix in enumerate((".JPG", ".JPEG", ".PNG", ".jpg")):
        write_image(train / f"JPEGImages/All/v.mp4/v.mp4_{number:05d}{suffix}")
        write_xml(train / f"Annotations/All/v.mp4/v.mp4_{number:05d}.xml", GOOD)
    (train / "ImageSets").mkdir()
    lines = (
        "All/v.mp4/v.mp4_00000.JPG",
        r"All\v.mp4\v.mp4_00001.JPEG",
        "v.mp4/v.mp4_00002.PNG 1",
        "All/v.mp4/v.mp4_00003",
    )
    (train / "ImageSets/All.txt").write_text("\n".join(lines))
    _, raw = read_raw(tmp_path)
    assert (kinds(raw), states(raw)) == ([], {("train", "labelled"): 4})


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".mov", ".AVI", ".MTS"])
def test_flat_names_of_frames_name_their_video(tmp_path: Path, write_image, suffix: str) -> None:
    for video in range(3):
        for number in range(4):
            write_image(tmp_path / f"ivslab_train/JPEGImages/All/GH01{video}{suffix}_{number:05d}.jpg")
    assert len({frame.video for frame in read_raw(tmp_path)[1].frames}) == 3


def test_videos_and_splits_as_the_user_says(tmp_path: Path, write_image) -> None:
    for name in ("cam1_x_01", "cam1_x_02", "cam2_x_01"):
        write_image(tmp_path / f"images/{name}.jpg")
    (tmp_path / "splits.csv").write_text("name,split\ncam2_x_01.jpg,validation\nghost.jpg,test\n")
    _, raw = read_raw(tmp_path)
    own = regroup(raw, r"/(cam\d)_", "splits.csv")
    assert [(frame.video, frame.split) for frame in own.frames] == [("cam1", ""), ("cam1", ""), ("cam2", "val")]
    assert [(finding.kind, finding.item) for finding in own.findings] == [("missing_image", "splits.csv#3")]
    with pytest.raises(DataError, match=r"expected video_from .* found 1 without, first images/cam2_x_01.jpg"):
        regroup(raw, "(cam1)", None)
    (tmp_path / "splits.csv").write_text("cam1_x_01.jpg,hold\n")
    with pytest.raises(DataError, match=r"line 1, found 'cam1_x_01.jpg,hold'"):
        regroup(raw, None, "splits.csv")


def coco(
    path: Path, write_json, images: list[dict], annotations: list[dict], names: tuple[str, ...] = ("car",)
) -> None:
    categories = [{"id": 1, "name": "car"}]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def test_a_coco_document_that_does_not_fit_together(tmp_path: Path, write_image, write_json) -> None:
    write_image(tmp_path / "images/a.jpg")
    write_image(tmp_path / "images/b.jpg")
    images = [{"id": str(n), "file_name": f"{name}.jpg", "width": 64, "height": 36} for n, name in enumerate("ab")]
    row = {"id": 5, "image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 20]}
    file = tmp_path / "annotations/instances_val.json"
    coco(file, write_json, images, [row])
    _, raw = read_raw(tmp_path)
    assert states(raw) == {("val", "unlabelled"): 2}  # nobody knows which of them has that box
    assert "text among the images" in raw.findings[0].found
    coco(file, write_json, images, [row | {"image_id": "0", "bbox": [0.1, 0.2, 0.3, 0.4]}])
    _, raw = read_raw(tmp_path)
    assert "normalised" in raw.findings[0].found
    coco(file, write_json, [images[0], images[1] | {"id": "0"}], [])
    with pytest.raises(DataError, match="expected every image id once, found 1 twice"):
        read_raw(tmp_path)
    coco(file, write_json, images, [])
    assert (states(read_raw(tmp_path)[1]), kinds(read_raw(tmp_path)[1])) == ({("val", "unlabelled"): 2}, ["no_objects"])


@pytest.mark.parametrize("format", ExportFormat)
def test_our_own_exports_check_clean_and_prepare_to_the_same_set(
    tmp_path: Path, write_image, write_xml, format
) -> None:
    import cv2

    from tests.helpers.views import view

    for number, split in enumerate(("train", "train", "test")):
        name = f"{number}.mp4/{number}.mp4_00001"
        path = tmp_path / f"raw/ivslab_{split}/JPEGImages/All/{name}.jpg"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), view(10 * number))
        objects = (GOOD, ("bicycle", 3.5, 2.25, 30, 35)) if number != 1 else ()
        write_xml(tmp_path / f"raw/ivslab_{split}/Annotations/All/{name}.xml", *objects)
    classes = ClassMap(("vehicle", "bicycle"), {"vehicle": "vehicle", "bicycle": "bicycle"})
    _, raw = read_raw(tmp_path / "raw")
    prepare(raw, raw.frames, classes, tmp_path / "set", workers=1, progress=False)
    export_set(tmp_path / "set", format, tmp_path / "out")
    report = check(read_source(tmp_path / "out"), workers=1, progress=False)
    assert report.clean, [problem.finding for problem in report.problems]
    layout, again = read_raw(tmp_path / "out")
    assert layout == str(format)
    prepare(again, again.frames, classes, tmp_path / "again", workers=1, progress=False)
    for split in ("train", "test"):
        one, other = PreparedSet(tmp_path / "set", split), PreparedSet(tmp_path / "again", split)
        assert len(one) == len(other)
        for number in range(len(one)):
            a, b = one.frame(number), other.frame(number)
            assert (a.name, a.video, a.state, a.labels.tolist()) == (b.name, b.video, b.state, b.labels.tolist())
            assert abs(a.boxes - b.boxes).max(initial=0) < 2e-3


def test_a_set_without_a_label_is_a_problem_that_says_what_is_there(tmp_path: Path, write_image) -> None:
    write_image(tmp_path / "images/train/a.jpg")
    report = check(read_source(tmp_path), workers=1, progress=False)
    assert [(each.finding.kind, each.finding.found) for each in report.problems] == [
        ("no_labels", "none, and no label file")
    ]  # fmt: skip
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    report = check(read_source(tmp_path), workers=1, progress=False)
    assert report.problems[0].finding.found == "1 .txt files that are not read, which look like YOLO's"


def test_a_yolo_folder_by_its_names(tmp_path: Path, write_image) -> None:
    for name in "abc":
        write_image(tmp_path / f"images/train/{name}.jpg")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: {0: Car}\n")
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "labels/train/b.txt").write_text("")
    layout, raw = read_raw(tmp_path)
    assert layout is Layout.YOLO
    assert [str(frame.state) for frame in raw.frames] == ["labelled", "empty", "unlabelled"]
    assert [(box.category, box.xyxy) for box in raw.frames[0].boxes] == [("car", (24, 9, 40, 27))]
    (tmp_path / "labels/train/a.txt").write_text("0 320 180 100 50\n")
    assert json.dumps(read_raw(tmp_path)[1].frames[0].boxes[0].xyxy) == "[NaN, NaN, NaN, NaN]"


def test_a_folder_that_may_not_be_read_is_a_finding(tmp_path: Path, write_image, monkeypatch) -> None:
    write_image(tmp_path / "images/train/a.jpg")
    (tmp_path / "images/secret").mkdir()
    scandir = os.scandir

    def refuse(path):  # a superuser, as in most containers, may read everything
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [(each.kind, each.item) for each in walk(tmp_path).findings] == [("unreadable_folder", "images/secret")]
