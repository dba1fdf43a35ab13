"""The checks of a data set: planted dirt of every kind is found, counted exactly, and nothing else is."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mobile_centernet.data.check.checks import NOTES, PROBLEMS, CheckReport, check
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.readers.layouts import Layout, read_source
from mobile_centernet.data.similarity.perceptual import NEAR_BITS
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError
from mobile_centernet.images.opencv import decode_image
from sample import write_bdd100k, write_ivslab
from tests.helpers.views import view

GOOD = ("vehicle", 10, 5, 40, 30)
VEHICLES = ClassMap(("vehicle",), {"vehicle": "vehicle"})
CAR = {"category": "car", "box2d": {"x1": 10, "y1": 5, "x2": 40, "y2": 30}}


def save(path: Path, image: np.ndarray, quality: int = 95) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def run(root: Path, *categories: str, **options: object) -> CheckReport:
    return check(read_source(root), categories or None, workers=1, progress=False, **options)


def counts(report: CheckReport) -> dict[str, int]:
    document = report.to_dict()
    return document["problems"]


def items(report: CheckReport, kind: str) -> list[tuple[str, str]]:
    found = [each.finding for each in (*report.problems, *report.notes) if each.finding.kind == kind]
    return [(finding.item, finding.found) for finding in found]


@pytest.fixture
def ivslab(tmp_path: Path, write_xml: Callable[..., Path]) -> Path:
    """Clean: two videos of four frames in train, one of two in test."""
    root = tmp_path / "ivslab"
    for number, (split, video) in enumerate((("train", "a.mp4"), ("train", "b.mp4"), ("test", "c.mp4"))):
        for frame in range(4 if split == "train" else 2):
            name = f"ivslab_{split}/{{}}/All/{video}/{video}_{frame:05d}"
            save(root / f"{name.format('JPEGImages')}.jpg", view(10 * number + frame))
            write_xml(root / f"{name.format('Annotations')}.xml", GOOD)
    return root


@pytest.fixture
def bdd100k(tmp_path: Path, write_json: Callable[..., Path]) -> Path:
    """Clean: labels of 2020 for three train and two val frames; one more of each earlier layout."""
    root = tmp_path / "bdd"
    names = {split: [f"{split}{n}" for n in range(count)] for split, count in (("train", 5), ("val", 2))}
    frames = [(split, name) for split, several in names.items() for name in several]
    for number, (split, name) in enumerate(frames):
        save(root / f"images/100k/{split}/{name}.jpg", view(100 + number))
    entry = {name: {"name": f"{name}.jpg", "labels": [CAR]} for _, name in frames}
    write_json(root / "labels/det_20/det_train.json", [entry[name] for name in names["train"][:3]])
    write_json(root / "labels/det_20/det_val.json", [entry[name] for name in names["val"]])
    write_json(root / "labels/bdd100k_labels_images_train.json", [entry["train3"]])
    write_json(root / "labels/100k/train/train4.json", {"name": "train4", "frames": [{"objects": [CAR]}]})
    return root


def image(root: Path, name: str, split: str = "train") -> Path:
    return root / f"ivslab_{split}/JPEGImages/All/{name[:5]}/{name}.jpg"


def label(root: Path, name: str, split: str = "train") -> Path:
    return root / f"ivslab_{split}/Annotations/All/{name[:5]}/{name}.xml"


def test_clean_ivslab_is_clean(ivslab: Path) -> None:
    report = run(ivslab)
    assert report.clean and not report.notes
    assert report.splits() == {
        "train": {"frames": 8, "videos": 2, "labelled": 8, "empty": 0, "unlabelled": 0},
        "test": {"frames": 2, "videos": 1, "labelled": 2, "empty": 0, "unlabelled": 0},
    }
    row = {"boxes": 10, "small": 10, "medium": 0, "large": 0, "ignored": 0, "known": True}
    assert report.categories() == {"vehicle": row}


def test_clean_bdd100k_in_all_three_label_layouts_is_clean(bdd100k: Path) -> None:
    report = run(bdd100k)
    assert report.clean and not report.notes
    assert report.splits()["train"]["labelled"] == 5 and report.splits()["val"]["labelled"] == 2
    assert report.categories()["car"]["boxes"] == 7


def test_a_dirty_ivslab_is_counted_exactly(ivslab: Path, write_xml: Callable[..., Path]) -> None:
    name = "a.mp4_{:05d}".format
    boxes = [
        GOOD, ("vehicle", "nan", 1, 20, 20), ("vehicle", 40, 5, 10, 30), ("vehicle", 30, 5, 90, 30),
        ("vehicle", 70, 5, 90, 30), ("vehicle", 5, 5, 5, 30), ("spaceship", 5, 5, 20, 30), ("scoter", 5, 5, 20, 30),
    ]  # fmt: skip
    write_xml(label(ivslab, name(0)), *boxes)
    label(ivslab, name(1)).write_text("<annotation>")
    write_xml(label(ivslab, name(2)), GOOD, size=(64, 36))
    image(ivslab, name(3)).write_bytes(image(ivslab, name(3)).read_bytes()[:-200])
    lists = ivslab / "ivslab_train/ImageSets"
    lists.mkdir()
    (lists / "All.txt").write_text("All/a.mp4/a.mp4_00000\nAll/ghost.mp4/ghost.mp4_00001\n")
    report = run(ivslab)
    assert counts(report) == {
        "outside_box": 2, "unknown_category": 2, "nan_box": 1, "inverted_box": 1, "tiny_box": 1, "missing_image": 1,
        "unreadable_label": 1, "size_mismatch": 1, "unreadable_image": 1,
    }  # fmt: skip
    assert items(report, "unknown_category") == [
        ("a.mp4/a.mp4_00000#6", "spaceship"), ("a.mp4/a.mp4_00000#7", "scoter (did you mean scooter?)"),
    ]  # fmt: skip
    assert items(report, "nan_box") == [("a.mp4/a.mp4_00000#1", "nan, 1, 20, 20")]
    assert items(report, "unreadable_image")[0][0] == "a.mp4/a.mp4_00003"
    assert report.splits()["train"] == {"frames": 8, "videos": 2, "labelled": 7, "empty": 0, "unlabelled": 1}
    assert report.categories()["spaceship"]["known"] is False
    # Three of frame 0 can be used, two of them repaired; those of frames 2 and 3 cannot, frame 1 has lost its own.
    assert report.categories()["vehicle"] == {
        "boxes": 14, "small": 3 + 4 + 2, "medium": 0, "large": 0, "ignored": 0, "known": True
    }  # fmt: skip


def test_a_dirty_bdd100k_is_counted_exactly(bdd100k: Path, write_json: Callable[..., Path]) -> None:
    entries = json.loads((bdd100k / "labels/det_20/det_train.json").read_text())
    entries[0]["labels"] = [CAR, CAR | {"box2d": {"x1": 1, "y1": 1, "x2": 1, "y2": 9}}, {"category": "car"}]
    entries[0]["labels"] += [CAR | {"category": "trafic light"}, CAR | {"category": "trailer"}]
    entries[1]["labels"] = "many"
    entries += [entries[2], {"name": "ghost.jpg", "labels": []}]
    write_json(bdd100k / "labels/det_20/det_train.json", entries)
    (bdd100k / "images/100k/train/train4.jpg").write_bytes(b"")
    report = run(bdd100k)
    assert counts(report) == {
        "unreadable_label": 1, "duplicate_frame": 1, "missing_image": 1, "unreadable_image": 1, "tiny_box": 1,
        "nan_box": 1, "unknown_category": 1,
    }  # fmt: skip
    assert items(report, "unknown_category") == [("train0#3", "trafic light (did you mean traffic light?)")]
    assert report.categories()["trailer"] == {
        "boxes": 1, "small": 0, "medium": 0, "large": 0, "ignored": 1, "known": True
    }  # fmt: skip


def test_copies_and_leaks_are_counted_exactly(ivslab: Path) -> None:
    """Frames 1 of video a and 3 of b are one and the same file; so are 2 of a and 0 of c, which is in test."""
    image(ivslab, "b.mp4_00003").write_bytes(image(ivslab, "a.mp4_00001").read_bytes())
    image(ivslab, "c.mp4_00000", "test").write_bytes(image(ivslab, "a.mp4_00002").read_bytes())
    # Compressed anew and darker, a copy is another file of the same view.
    save(image(ivslab, "b.mp4_00002"), view(0) // 2, quality=60)
    save(image(ivslab, "c.mp4_00001", "test"), view(11), quality=50)
    # Neighbours in one video are expected to look alike, and only counted.
    save(image(ivslab, "a.mp4_00003"), view(2), quality=70)
    report = run(ivslab)
    assert counts(report) == {"leaked_frame": 2, "duplicate_image": 1, "near_duplicate": 1}
    assert items(report, "duplicate_image") == [("b.mp4/b.mp4_00003", "same bytes as a.mp4/a.mp4_00001")]
    assert items(report, "leaked_frame")[0] == ("c.mp4/c.mp4_00000", "same bytes as train: a.mp4/a.mp4_00002")
    assert [name for name, _ in items(report, "near_duplicate")] == ["b.mp4/b.mp4_00002"]
    assert [name for name, _ in items(report, "near_copy")] == ["a.mp4/a.mp4_00003"]


def test_one_video_in_two_splits_and_two_videos_of_one_name(ivslab: Path) -> None:
    for folder, number in (("ivslab_test/JPEGImages/All/a.mp4", 50), ("ivslab_train/JPEGImages/All/drive2/b.mp4", 51)):
        save(ivslab / folder / "other.jpg", view(number))
    report = run(ivslab)
    assert counts(report) == {"leaked_video": 1, "same_video_name": 1}
    assert items(report, "leaked_video") == [("a.mp4", "train, test")]
    assert items(report, "same_video_name") == [("b.mp4", "b.mp4, drive2/b.mp4")]


def test_a_file_of_several_images_is_its_first_and_noted(ivslab: Path) -> None:
    image(ivslab, "a.mp4_00000").unlink()
    first, second = (Image.fromarray(view(seed)[..., ::-1]) for seed in (77, 78))
    first.save(image(ivslab, "a.mp4_00000").with_suffix(".webp"), save_all=True, append_images=[second], lossless=True)
    report = run(ivslab)
    assert report.clean
    assert items(report, "converted_image") == [("a.mp4/a.mp4_00000", "2; the first is read")]


def test_pictures_of_other_kinds_are_read_and_noted(ivslab: Path, write_xml: Callable[..., Path]) -> None:
    picture = Image.fromarray(view(77)[..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(image(ivslab, "a.mp4_00000"), exif=exif, quality=95)
    picture.rotate(180).convert("L").save(image(ivslab, "a.mp4_00001"))
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("CMYK").save(image(ivslab, "a.mp4_00002"))
    grey16 = cv2.cvtColor(view(78), cv2.COLOR_BGR2GRAY).astype(np.uint16) * 257
    image(ivslab, "a.mp4_00003").unlink()
    assert cv2.imwrite(str(image(ivslab, "a.mp4_00003").with_suffix(".png")), grey16)
    report = run(ivslab)
    assert report.clean
    assert items(report, "rotated_image") == [("a.mp4/a.mp4_00000", "orientation 6")]
    assert [found for _, found in items(report, "converted_image")] == [
        "Pillow's mode L", "Pillow's mode CMYK", "Pillow's mode I;16"
    ]  # fmt: skip
    # A label tool that turned the image writes the turned size: its boxes are of other pixels, and both say why.
    write_xml(label(ivslab, "a.mp4_00000"), GOOD, size=(64, 36))
    report = run(ivslab)
    assert counts(report) == {"size_mismatch": 1}
    ((_, found),) = items(report, "size_mismatch")
    assert "as EXIF orientation 6 turns it" in found
    raw = read_ivslab(ivslab)
    prepared = prepare(
        raw,
        raw.frames,
        ClassMap(("vehicle",), {"vehicle": "vehicle"}),
        ivslab.parent / "out",
        workers=1,
        progress=False,
    )
    assert [finding["found"] for finding in prepared["findings"]] == [found]


def test_pictures_of_other_kinds_are_prepared_with_their_boxes(ivslab: Path) -> None:
    large = Image.fromarray(view(77, (720, 1280))[..., ::-1])  # shrunk while it is decoded
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(image(ivslab, "a.mp4_00000"), exif=exif, quality=95)
    large.convert("L").save(image(ivslab, "a.mp4_00001"), quality=95)
    large.convert("CMYK").save(image(ivslab, "a.mp4_00002"), quality=95)
    grey = cv2.cvtColor(view(77, (720, 1280)), cv2.COLOR_BGR2GRAY)
    image(ivslab, "a.mp4_00003").unlink()
    assert cv2.imwrite(str(image(ivslab, "a.mp4_00003").with_suffix(".png")), grey.astype(np.uint16) * 257)
    raw = read_ivslab(ivslab)
    report = prepare(raw, raw.frames, VEHICLES, ivslab.parent / "out", max_size=(90, 160), workers=1, progress=False)
    # Their labels say 64x36, and the aspect ratio is the same: boxes are scaled along.
    assert (report["quarantined"], report["repaired"]) == ({}, {"size_mismatch": 4})
    stored = PreparedSet(ivslab.parent / "out", "train")
    small = np.asarray(large.resize((160, 90), Image.Resampling.BOX), int)
    luma = np.repeat(np.asarray(large.convert("L").resize((160, 90), Image.Resampling.BOX), int)[..., None], 3, axis=2)
    for number, expected in enumerate((small, luma, small, luma)):
        np.testing.assert_allclose(stored.frame(number).boxes, [[25, 12.5, 100, 75]], atol=1e-3)
        assert np.abs(stored.image(number).astype(int) - expected).mean() < 4


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "LA", "1", "I;16"])
def test_every_kind_of_picture_decodes_to_the_colours_that_pillow_sees(mode: str) -> None:
    rgb = Image.fromarray(view(5, (72, 128)))
    if mode == "I;16":
        grey = np.asarray(rgb.convert("L"))
        converted, expected = Image.fromarray(grey.astype(np.uint16) * 257), np.stack([grey] * 3, axis=2)
    else:
        converted = rgb.convert(mode)
        expected = np.asarray(converted.convert("L" if mode == "LA" else mode).convert("RGB"))
    data = io.BytesIO()
    converted.save(
        data, "JPEG" if mode in ("L", "CMYK") else "PNG", **({"quality": 98} if mode in ("L", "CMYK") else {})
    )
    decoded = decode_image(data.getvalue(), mode)
    assert decoded.shape == (72, 128, 3)
    assert np.abs(decoded.astype(int) - expected).mean() < 2.5


def test_other_case_and_spaces_are_read_as_the_category_and_noted(ivslab: Path, write_xml: Callable[..., Path]) -> None:
    write_xml(label(ivslab, "a.mp4_00000"), ("Vehicle", 10, 5, 40, 30), (" vehicle ", 10, 5, 40, 30))
    write_xml(label(ivslab, "a.mp4_00001"), ("Vehicle", 10, 5, 40, 30))
    report = run(ivslab)
    assert report.clean
    assert items(report, "category_spelling") == [("' vehicle '", "1 boxes"), ("'Vehicle'", "2 boxes")]
    assert report.categories()["vehicle"]["boxes"] == 11
    # And conversion agrees with the check.
    raw = read_ivslab(ivslab)
    mapped = ClassMap(("vehicle",), {"VEHICLE ": "vehicle"})
    prepared = prepare(raw, raw.frames, mapped, ivslab.parent / "out", workers=1, progress=False)
    assert prepared["splits"]["train"]["boxes"] == {"vehicle": 9} and not prepared["findings"]


def test_ones_own_categories(bdd100k: Path) -> None:
    assert counts(run(bdd100k, "Bus ", "truck")) == {"unknown_category": 7}
    assert run(bdd100k, " CAR").clean
    with pytest.raises(DataError, match="at least one category"):
        check(read_source(bdd100k), [], workers=1, progress=False)


def test_bytes_that_the_decoder_stumbles_over(ivslab: Path) -> None:
    """libjpeg fills up with grey, returns success, and says so only on stderr."""
    path = save(image(ivslab, "a.mp4_00000"), view(3, (360, 640)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    label(ivslab, "a.mp4_00000").unlink()
    report = run(ivslab)
    assert counts(report) == {"damaged_image": 1}
    assert "Corrupt JPEG data" in items(report, "damaged_image")[0][1]
    raw = read_ivslab(ivslab)
    prepared = prepare(raw, raw.frames, VEHICLES, ivslab.parent / "out", workers=1, progress=False)
    assert (prepared["quarantined"], prepared["ignored"]) == ({}, {"damaged_image": 1})


def test_what_others_write_to_stderr_gets_through(ivslab: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before\n")
    run(ivslab)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_processes_find_the_same(ivslab: Path) -> None:
    image(ivslab, "a.mp4_00003").write_bytes(b"no picture")
    source = read_source(ivslab)
    alone, shared = (check(source, workers=workers, progress=False).to_dict() for workers in (1, 2))
    assert alone == shared


@pytest.fixture
def prepared(ivslab: Path) -> Path:
    """Both splits of the clean ivslab set, the category pedestrian being ignored."""
    raw = read_ivslab(ivslab)
    classes = ClassMap(("vehicle", "bicycle"), {"vehicle": "vehicle", "bicycle": "bicycle"})
    prepare(raw, raw.frames, classes, ivslab.parent / "prepared", workers=1, progress=False)
    return ivslab.parent / "prepared"


def test_a_prepared_set_is_a_source_too(prepared: Path) -> None:
    report = run(prepared)
    assert report.clean and report.source.layout is Layout.PREPARED
    assert report.splits()["train"]["frames"] == 8
    assert report.categories()["vehicle"]["boxes"] == 10


def test_a_dirty_prepared_set_is_counted_exactly(prepared: Path) -> None:
    path = prepared / "annotations_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [1, 2, "x", 4]
    document["annotations"][1]["image_id"] = 999
    document["annotations"][2]["category_id"] = 9
    document["images"][3]["width"] = 32
    document["images"][4]["offset"] += 100
    document["images"][5]["shard"] = "images-00009.tar"
    document["annotations"] += [
        {"id": 90 + n, "image_id": 1, "category_id": n, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 1, "region": 1}
        for n in (1, 2)
    ]
    path.write_text(json.dumps(document))
    report = run(prepared)
    assert counts(report) == {
        "missing_image": 2, "nan_box": 1, "unknown_category": 1, "size_mismatch": 1, "unreadable_image": 1
    }  # fmt: skip
    assert report.categories()["ignore region"]["ignored"] == 1
    path.write_text("{")
    report = run(prepared)
    assert counts(report) == {"unreadable_label": 1} and report.splits().keys() == {"test"}
    (prepared / "annotations_test.json").write_text('{"images": [{}], "annotations": [], "categories": []}')
    with pytest.raises(DataError, match="expected a prepared set"):
        run(prepared)


def test_the_prepare_stage_counts_the_same_copies(ivslab: Path) -> None:
    save(image(ivslab, "a.mp4_00003"), view(2), quality=70)
    save(image(ivslab, "c.mp4_00001", "test"), view(13), quality=50)
    save(ivslab / "ivslab_test/JPEGImages/All/a.mp4/other.jpg", view(50))
    raw = read_ivslab(ivslab)
    classes = ClassMap(("vehicle",), {"vehicle": "vehicle"})
    alike = prepare(raw, raw.frames, classes, ivslab.parent / "out", workers=1, progress=False)["alike"]
    assert alike == {
        "closer_than": NEAR_BITS,
        "near_copies": {"train": 1, "test": 0},
        "leaked_frames": {"train": 0, "test": 1},
        "leaked_videos": ["a.mp4"],
    }


def test_the_layout_is_seen_at_the_folders(ivslab: Path, bdd100k: Path, prepared: Path, tmp_path: Path) -> None:
    assert read_source(ivslab / "ivslab_train").layout is Layout.IVSLAB
    assert read_source(ivslab.parent / "bdd").layout is Layout.BDD100K
    (tmp_path / "new").mkdir()
    (tmp_path / "new/footage").symlink_to(ivslab)
    assert read_source(tmp_path / "new").root == tmp_path / "new/footage"
    with pytest.raises(DataError, match=r"found 4 \(bdd, ivslab, new/footage, prepared\): name one of them"):
        read_source(tmp_path)
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/set").symlink_to(ivslab)
    save(tmp_path / "plain/a.jpg", view(1))
    assert read_source(tmp_path / "plain").layout is Layout.BDD100K
    (tmp_path / "drives").mkdir()
    (tmp_path / "drives/a.MP4").touch()
    with pytest.raises(DataError, match=r"expected images, found videos: cut them .*source: videos"):
        read_source(tmp_path / "drives")
    with pytest.raises(DataError, match="expected ivslab frames"):
        read_source(bdd100k, Layout.IVSLAB)
    with pytest.raises(DataError, match="nothing there"):
        read_source(tmp_path / "absent")


def test_dirt_that_the_synthetic_generator_plants_is_found(tmp_path: Path) -> None:
    """Its exact number is known from the labels: one row for each."""
    write_ivslab(tmp_path / "i", seed=3, videos=8, frames_per_video=1, test_frames=1, size=(90, 160), workers=1)
    texts = [path.read_text() for path in sorted((tmp_path / "i").rglob("*.xml"))]
    report = run(tmp_path / "i")
    found = counts(report)
    assert found["nan_box"] == sum(text.count("nan") for text in texts) // 2 > 0
    assert found["unreadable_label"] == sum(not text for text in texts) == 1
    assert found["unreadable_image"] == 1
    listed = (tmp_path / "i/ivslab_train/ImageSets/All.txt").read_text().split()
    absent = [line for line in listed if not (tmp_path / f"i/ivslab_train/JPEGImages/{line}.jpg").is_file()]
    assert found["missing_image"] == len(absent) > 0
    write_bdd100k(tmp_path / "b", seed=3, train_frames=6, val_frames=1, size=(90, 160), workers=1)
    assert run(tmp_path / "b").clean


def test_every_kind_has_a_meaning() -> None:
    assert not PROBLEMS.keys() & NOTES.keys()
    assert all(PROBLEMS.values()) and all(NOTES.values())


def test_bdd100k_frames_are_clean(bdd100k_sets: list[Path]) -> None:
    for root in bdd100k_sets:
        report, raw = run(root), read_bdd100k(root)
        assert report.clean and not report.notes
        states = Counter(str(frame.state) for frame in raw.frames)
        for state in ("labelled", "unlabelled"):
            assert sum(split[state] for split in report.splits().values()) == states[state] > 0
        boxes = Counter(box.category for frame in raw.frames for box in frame.boxes)
        assert {name: row["boxes"] for name, row in report.categories().items()} == boxes


def test_copies_and_empty_boxes_are_found_and_no_leak(ivslab_sets: list[Path]) -> None:
    expected = (
        (2, "later.mp4/later.mp4_00001", "first.mp4/first.mp4_00001", 3),
        (10, "pias_08.mp4/pias_08.mp4_00201", "numan_01.mp4/numan_01.mp4_00037", 100),
    )
    for root, (empty, copy, original, frames) in zip(ivslab_sets, expected, strict=False):
        report = run(root)
        found = counts(report)
        assert found.keys() == {"near_duplicate", "tiny_box"} and found["tiny_box"] == empty
        assert dict(items(report, "near_duplicate"))[copy].endswith(f" bits from {original}")
        assert report.splits()["test"]["frames"] == frames
