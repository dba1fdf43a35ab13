"""The prepared set: what goes in comes out, in the same bytes whoever writes it."""

import contextlib
import io
import json
import multiprocessing
import pickle
import subprocess
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobile_centernet.data.annotations import Action, Box, Finding, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import fit, prepare
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.store import shards
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError
from mobile_centernet.images import read_image, resize

CLASSES = ClassMap(("vehicle", "scooter"), {"car": "vehicle", "motor": "scooter", "rider": None})
BOXES = {
    "a/1": (Box("car", (10, 20, 110, 80)), Box("motor", (40.5, 30.25, 60, 50)), Box("rider", (1, 1, 9, 9))),
    "a/2": (Box("rider", (1, 1, 9, 9)),),
    "b/1": (Box("car", (0, 0, 320, 180)), Box("car", (50, 50, 150, 100), ignore=True)),
    "c/1": (),
}


@pytest.fixture
def raw(tmp_path, write_image) -> RawSet:
    """Four frames of 320x180 in two splits; the last one is unlabelled."""
    frames = []
    for name, boxes in BOXES.items():
        image = write_image(tmp_path / f"raw/{name}.jpg", 180, 320)
        state = FrameState.LABELLED if boxes else FrameState.UNLABELLED
        split = "val" if name == "b/1" else "train"
        attributes = {"timeofday": "night"}
        frames.append(Frame(image, name, name[0], split, state, boxes, attributes=attributes))
    return RawSet(tmp_path / "raw", tuple(frames), ())


def write(raw: RawSet, out: Path, **options: object) -> dict:
    options = {"max_size": (90, 160), "workers": 1, "progress": False} | options
    return prepare(raw, raw.frames, CLASSES, out, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read_one(prepared: PreparedSet) -> np.ndarray:
    return prepared.image(1)


def test_what_goes_in_comes_out_at_half_size(raw, tmp_path):
    write(raw, tmp_path / "out")
    train = PreparedSet(tmp_path / "out", "train")
    assert train.classes == ("vehicle", "scooter")
    assert len(train) == 3
    first = train.frame(0)
    assert (first.id, first.name, first.video, first.state) == (1, "a/1", "a", FrameState.LABELLED)
    assert (first.height, first.width) == (90, 160)
    assert first.boxes.tolist() == [[5, 10, 55, 40], [20.25, 15.125, 30, 25]]
    assert first.boxes.dtype == np.float32
    assert first.labels.tolist() == [0, 1]
    assert first.labels.dtype == np.int64
    assert first.ignore_boxes.shape == (0, 4)
    assert first.attributes == {"timeofday": "night"}


def test_states(raw, tmp_path):
    write(raw, tmp_path / "out")
    train = PreparedSet(tmp_path / "out", "train")
    assert [train.frame(i).state for i in range(3)] == ["labelled", "empty", "unlabelled"]


def test_pictures_are_the_raw_ones_resized(raw, tmp_path):
    write(raw, tmp_path / "out")
    train = PreparedSet(tmp_path / "out", "train")
    originals = [frame for frame in raw.frames if frame.split == "train"]
    for i, frame in enumerate(originals):
        image = train.image(i)
        assert image.shape == (90, 160, 3)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - resize(read_image(frame.image), (90, 160))).mean() < 2


def test_an_ignore_region_comes_out_once_and_excuses_every_class(raw, tmp_path):
    write(raw, tmp_path / "out")
    val = PreparedSet(tmp_path / "out", "val")
    assert val.frame(0).ignore_boxes.tolist() == [[50, 50, 150, 100]]
    assert val.frame(0).boxes.tolist() == [[0, 0, 320, 180]]
    copies = [entry for entry in val.coco["annotations"] if entry["iscrowd"]]
    assert [entry["category_id"] for entry in copies] == [1, 2]
    assert {entry["ignore"] for entry in copies} == {1}


def test_pycocotools_reads_it_and_ignores_what_lies_in_an_ignore_region(raw, tmp_path):
    write(raw, tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "out/annotations_val.json"))
        found = truth.loadRes([
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 320, 180], "score": 0.8},
            {"image_id": 1, "category_id": 1, "bbox": [60, 60, 40, 20], "score": 0.9},
            {"image_id": 1, "category_id": 2, "bbox": [60, 60, 40, 20], "score": 0.9},
        ])  # fmt: skip
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[1] == pytest.approx(1)


def test_the_report_counts_everything(raw, tmp_path):
    report = write(
        replace(raw, findings=(Finding("missing_image", Action.QUARANTINED, "x.jpg", "a", "b"),)), tmp_path / "out"
    )
    assert report == json.loads((tmp_path / "out/report.json").read_text())
    assert report["splits"] == {
        "train": {
            "frames": 3, "videos": 2, "states": {"labelled": 1, "empty": 1, "unlabelled": 1},
            "boxes": {"vehicle": 1, "scooter": 1}, "ignore_boxes": 0, "dropped": {"rider": 2},
        },
        "val": {
            "frames": 1, "videos": 1, "states": {"labelled": 1, "empty": 0, "unlabelled": 0},
            "boxes": {"vehicle": 1, "scooter": 0}, "ignore_boxes": 1, "dropped": {},
        },
    }  # fmt: skip
    assert (report["quarantined"], report["repaired"], report["ignored"]) == ({"missing_image": 1}, {}, {})
    assert report["findings"] == [
        {"kind": "missing_image", "action": "quarantined", "item": "x.jpg", "expected": "a", "found": "b"}
    ]
    assert str(tmp_path) not in (tmp_path / "out/report.json").read_text()


def test_the_bytes_do_not_depend_on_the_number_of_workers(raw, tmp_path):
    write(raw, tmp_path / "one")
    write(raw, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_shards_are_plain_tar_archives_of_limited_length(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_FRAMES", 2)
    write(raw, tmp_path / "out")
    names = [
        subprocess.run(["tar", "tf", shard], check=True, capture_output=True, text=True).stdout.split()
        for shard in sorted((tmp_path / "out").glob("*.tar"))
    ]
    assert names == [["a/1.jpg", "a/2.jpg"], ["c/1.jpg", "b/1.jpg"]]
    assert PreparedSet(tmp_path / "out", "train").image(0).shape == (90, 160, 3)


def test_frames_that_are_scored_keep_the_bytes_of_their_files(raw, tmp_path, write_image):
    png = write_image(tmp_path / "raw/d/1.png", 180, 320)
    frames = (*raw.frames, Frame(png, "d/1", "d", "test", FrameState.EMPTY, ()))
    write(replace(raw, frames=frames), tmp_path / "out")
    stored = {}
    for shard in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(shard) as archive:
            for name in archive.getnames():
                member = archive.extractfile(name)
                assert member is not None
                stored[name] = member.read()
    assert stored["b/1.jpg"] == (tmp_path / "raw/b/1.jpg").read_bytes()
    assert stored["d/1.png"] == png.read_bytes()
    assert len(stored["a/1.jpg"]) < (tmp_path / "raw/a/1.jpg").stat().st_size
    scored = PreparedSet(tmp_path / "out", "test")
    assert scored.frame(0).name == "d/1" and (scored.image(0) == read_image(png)).all()


def test_a_new_shard_begins_where_one_is_large(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_BYTES", 1)
    write(raw, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("images-0000?.tar"))) == 4
    assert [PreparedSet(tmp_path / "out", "train").image(i).shape for i in range(3)] == [(90, 160, 3)] * 3


@given(st.lists(st.tuples(st.text("ab/é_.", min_size=1, max_size=150), st.binary(max_size=3000)), max_size=8))
def test_any_bytes_under_any_name_come_back(tmp_path_factory, members):
    folder = tmp_path_factory.mktemp("shards")
    with shards.ShardWriter(folder) as writer:
        places = [writer.add(name, data) for name, data in members]
    reader = shards.ShardReader(folder)
    assert [reader.read(place) for place in reversed(places)] == [data for _, data in reversed(members)]


def test_it_travels_to_other_processes_by_pickle_and_by_fork(raw, tmp_path):
    write(raw, tmp_path / "out")
    prepared = PreparedSet(tmp_path / "out", "train")
    expected = prepared.image(1)  # opens the shard here first
    assert np.array_equal(pickle.loads(pickle.dumps(prepared)).image(1), expected)  # noqa: S301 our own bytes
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert np.array_equal(pool.apply(PreparedSet.image, (prepared, 1)), expected)


def test_a_newer_set_replaces_the_older_one(raw, tmp_path):
    write(raw, tmp_path / "out")
    only_val = replace(raw, frames=tuple(frame for frame in raw.frames if frame.split == "val"))
    write(only_val, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["annotations_val.json", "images-00000.tar", "report.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_failure_leaves_the_older_set_untouched_and_nothing_beside_it(raw, tmp_path, monkeypatch):
    write(raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    calls = Counter()

    def full_disk(self: shards.ShardWriter, name: str, data: bytes) -> shards.ShardRef:
        calls["add"] += 1
        if calls["add"] == 3:
            raise OSError(28, "No space left on device")
        return shards.ShardRef("images-00000.tar", 0, len(data))

    monkeypatch.setattr(shards.ShardWriter, "add", full_disk)
    with pytest.raises(DataError, match="No space left"):
        write(raw, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_another_folder_is_never_overwritten(raw, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="found something else"):
        write(raw, tmp_path / "home")
    assert (tmp_path / "home/thesis.txt").read_text() == "years of work"


def test_an_absent_split_says_which_are_there(raw, tmp_path):
    write(raw, tmp_path / "out")
    with pytest.raises(DataError, match=r"'test'; found annotations_train\.json, annotations_val\.json"):
        PreparedSet(tmp_path / "out", "test")
    with pytest.raises(DataError, match="found none"):
        PreparedSet(tmp_path / "absent", "train")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"images": []}', '{"images": [{"id": 1}], "annotations": [], "categories": []}']
)
def test_another_document_is_refused(raw, tmp_path, text):
    write(raw, tmp_path / "out")
    (tmp_path / "out/annotations_train.json").write_text(text)
    with pytest.raises(DataError, match=r"annotations_train\.json: expected"):
        PreparedSet(tmp_path / "out", "train")


def test_a_damaged_or_missing_shard_is_named(raw, tmp_path):
    write(raw, tmp_path / "out")
    shard = tmp_path / "out/images-00000.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"images-00000\.tar: c/1\.jpg"):
        PreparedSet(tmp_path / "out", "train").image(2)
    shard.unlink()
    with pytest.raises(DataError, match=r"images-00000\.tar: expected a shard"):
        PreparedSet(tmp_path / "out", "train").image(0)


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((720, 1280), (360, 640)), ((1080, 1920), (360, 640)), ((360, 640), (360, 640)), ((100, 200), (100, 200)),
        ((1280, 720), (640, 360)), ((1000, 1000), (500, 500)), ((100, 6400), (10, 640)), ((1, 100_000), (1, 100_000)),
    ],
)  # fmt: skip
def test_images_shrink_by_whole_factors_and_never_grow(size, fitted):
    assert fit(size, (360, 640)) == fitted
    assert fit(size, (640, 360)) == fitted


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((1080, 1920), (180, 320)),  # the shape of max_size: 320/192 = 1.67 pixels for each of the input's
        ((1080, 1440), (270, 360)),  # by 6 it would be 240 wide, 1.25 for each
        ((640, 417), (640, 417)), ((1280, 834), (640, 417)),
    ],
)  # fmt: skip
def test_another_shape_keeps_as_many_pixels_for_each_of_the_inputs(size, fitted):
    assert fit(size, (180, 320), (96, 192)) == fitted


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([(1, 1), (96, 192), (320, 576)]))
def test_a_fitted_image_keeps_its_aspect_within_a_pixel_and_the_inputs_sides(height, width, input_size):
    fitted = fit((height, width), (360, 640), input_size)
    assert fitted[0] >= min(height, input_size[0])
    assert fitted[1] >= min(width, input_size[1])
    if input_size == (1, 1):
        assert max(fitted) < 1280 or min(fitted) < 720
    assert abs(fitted[0] - fitted[1] * height / width) <= 1 + height / width


@pytest.mark.parametrize("size", [(721, 1283), (1081, 1925), (1445, 2563), (361, 641), (1283, 721), (50, 70)])
def test_boxes_keep_to_their_objects_at_awkward_sizes(tmp_path, size):
    height, width = size
    image = np.full((height, width, 3), 30, np.uint8)
    x1, y1, x2, y2 = width // 3, height // 4, 2 * width // 3, 3 * height // 4
    image[y1:y2, x1:x2] = 220
    (tmp_path / "raw").mkdir()
    cv2.imwrite(str(tmp_path / "raw/a.jpg"), image)
    frame = Frame(tmp_path / "raw/a.jpg", "a", "a", "train", FrameState.LABELLED, (Box("car", (x1, y1, x2, y2)),))
    write(RawSet(tmp_path / "raw", (frame,), ()), tmp_path / "out", max_size=(360, 640))
    prepared = PreparedSet(tmp_path / "out", "train")
    bright_rows, bright_columns = np.nonzero(prepared.image(0)[..., 0] > 125)
    seen = [bright_columns.min(), bright_rows.min(), bright_columns.max() + 1, bright_rows.max() + 1]
    assert np.abs(prepared.frame(0).boxes[0] - seen).max() <= 1
    assert (prepared.frame(0).height, prepared.frame(0).width) == fit(size, (360, 640))


def test_frames_of_bdd100k(bdd100k_sets, tmp_path):
    for number, root in enumerate(bdd100k_sets):
        raw, out = read_bdd100k(root), tmp_path / str(number)
        boxes = Counter(box.category for frame in raw.frames for box in frame.boxes)
        class_map = ClassMap(tuple(sorted(boxes)), {name: name for name in boxes})
        report = prepare(raw, raw.frames, class_map, out, workers=1, progress=False)
        assert report["splits"]["train"]["boxes"] == boxes
        states = {state: sum(split["states"][state] for split in report["splits"].values()) for state in FrameState}
        assert Counter(states) == Counter(frame.state for frame in raw.frames)
        assert report["findings"] == []
        assert PreparedSet(out, "train").image(7).shape == (360, 640, 3)


def test_frames_whose_boxes_all_vanish_are_kept_and_never_train_as_background(ivslab_sets, tmp_path):
    for number, root in enumerate(ivslab_sets):
        raw, names = read_ivslab(root), ("vehicle", "scooter", "bicycle")
        class_map = ClassMap(names, {name: name for name in names})
        report = prepare(raw, raw.frames, class_map, tmp_path / str(number), workers=1, progress=False)
        assert sum(split["frames"] for split in report["splits"].values()) == len(raw.frames)
        # Two frames whose boxes are all "0, 0, 0, 0": they show objects.
        zeros = [[box.xyxy == (0, 0, 0, 0) for box in frame.boxes] for frame in raw.frames]
        assert report["quarantined"] == {"tiny_box": sum(map(sum, zeros))}
        assert report["splits"]["train"]["states"]["unlabelled"] == sum(bool(all(each) and each) for each in zeros) == 2
