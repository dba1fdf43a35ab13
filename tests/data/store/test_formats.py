"""A prepared set in other tools' files: the same images and boxes, and no unlabelled frame as background."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from pycocotools.coco import COCO

from mobile_centernet.cli.main import main
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.store.formats import Exported, ExportFormat, export_set
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError

CLASSES = ("vehicle", "bicycle")
BOXES = [("vehicle", 10.5, 5, 40, 30), ("bicycle", 3, 2, 60.25, 35), ("bus", 20, 20, 30, 30)]


@pytest.fixture
def root(tmp_path, write_image, write_xml) -> Path:
    """Train: one frame with two boxes and an ignore region, one empty, one unlabelled. Test: one with one box."""
    for split, names in (("train", ("a.mp4/full", "a.mp4/empty", "a.mp4/bare")), ("test", ("b.mp4/full",))):
        for name in names:
            write_image(tmp_path / f"raw/ivslab_{split}/JPEGImages/All/{name}.jpg")
    train = tmp_path / "raw/ivslab_train/Annotations/All/a.mp4"
    write_xml(train / "full.xml", *BOXES)
    write_xml(train / "empty.xml")
    write_xml(tmp_path / "raw/ivslab_test/Annotations/All/b.mp4/full.xml", BOXES[0])
    raw = read_ivslab(tmp_path / "raw")
    class_map = ClassMap(CLASSES, {"vehicle": "vehicle", "bicycle": "bicycle", "bus": None}, "ignore")
    prepare(raw, raw.frames, class_map, tmp_path / "set", max_size=(18, 32), workers=1, progress=False)
    return tmp_path / "set"


def export(root: Path, format: ExportFormat) -> tuple[Path, Exported]:
    out = root.parent / str(format)
    return out, export_set(root, format, out)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_coco_reads_back_in_pycocotools(root, capsys):
    out, _ = export(root, ExportFormat.COCO)
    assert files(out) == [
        "annotations/instances_test.json",
        "annotations/instances_train.json",
        "images/test/b.mp4__full.jpg",
        "images/train/a.mp4__empty.jpg",
        "images/train/a.mp4__full.jpg",
    ]
    coco, prepared = COCO(str(out / "annotations/instances_train.json")), PreparedSet(root, "train")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    by_name = {image["file_name"]: image for image in coco.dataset["images"]}
    for number in range(len(prepared)):
        frame = prepared.frame(number)
        if frame.state == "unlabelled":
            assert frame.name == "a.mp4/bare"
            continue
        image = by_name.pop(frame.name.replace("/", "__") + ".jpg")
        objects = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=False))
        xywh = np.array([each["bbox"] for each in objects], np.float64).reshape(-1, 4)
        xywh[:, 2:] += xywh[:, :2]
        np.testing.assert_allclose(xywh, frame.boxes, atol=1e-4)
        assert [each["category_id"] - 1 for each in objects] == frame.labels.tolist()
        regions = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=True))
        assert len(regions) == len(CLASSES) * len(frame.ignore_boxes)
        picture = cv2.imread(str(out / "images/train" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3) == (18, 32, 3)
        np.testing.assert_array_equal(picture[..., ::-1], prepared.image(number))
    assert not by_name
    capsys.readouterr()


def test_yolo_parses_back_to_the_same_boxes(root):
    out, result = export(root, ExportFormat.YOLO)
    assert files(out) == [
        "data.yaml",
        "images/test/b.mp4__full.jpg",
        "images/train/a.mp4__empty.jpg",
        "images/train/a.mp4__full.jpg",
        "labels/test/b.mp4__full.txt",
        "labels/train/a.mp4__empty.txt",
        "labels/train/a.mp4__full.txt",
    ]
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content == {"train": "images/train", "test": "images/test", "names": {0: "vehicle", 1: "bicycle"}}
    prepared = PreparedSet(root, "train")
    compared = 0
    for number in range(len(prepared)):
        frame = prepared.frame(number)
        # What Ultralytics does: the last `images` becomes `labels`, the last suffix `.txt`.
        path = str(out / "images/train" / f"{frame.name.replace('/', '__')}.jpg")
        label = Path("/labels/".join(path.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")
        if frame.state == "unlabelled":
            assert not label.exists() and not Path(path).exists()
            continue
        rows = np.array([line.split() for line in label.read_text().splitlines()], np.float64).reshape(-1, 5)
        assert rows[:, 0].astype(int).tolist() == frame.labels.tolist()
        centre, size = rows[:, 1:3] * (32, 18), rows[:, 3:] * (32, 18)
        np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), frame.boxes, atol=1e-4)
        assert (rows[:, 1:] >= 0).all() and (rows[:, 1:] <= 1).all()
        compared += len(rows)
    assert compared == 2
    assert result.splits["train"].ignore_regions == 1
    assert result.splits["train"].unlabelled == 1
    command = ["data", "export", str(root), "--format", "yolo", "--out", str(out.with_name("again"))]
    assert CliRunner().invoke(main, command).stdout.splitlines()[2:-1] == [
        "left out: 1 unlabelled frames, which would train as background",
        "left out: 1 ignore regions, which YOLO cannot express",
        "Ultralytics trains only with both a train and a val split in data.yaml",
    ]


def test_a_split_without_a_labelled_frame_is_left_out_of_data_yaml_and_said(root, tmp_path):
    document = json.loads((root / "annotations_test.json").read_text())
    for image in document["images"]:
        image["state"] = "unlabelled"
    (root / "annotations_test.json").write_text(json.dumps(document | {"annotations": []}))
    command = ["data", "export", str(root), "--format", "yolo", "--out", str(tmp_path / "out")]
    lines = CliRunner().invoke(main, command).stdout.splitlines()
    assert "left out of data.yaml: test, of which no frame is labelled" in lines
    content = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert content == {"train": "images/train", "names": {0: "vehicle", 1: "bicycle"}}


@pytest.mark.parametrize("format", ExportFormat)
def test_a_damaged_picture_is_left_out_and_named(root, format):
    path = root / "annotations_train.json"
    document = json.loads(path.read_text())
    document["images"][-1]["offset"] += 77
    path.write_text(json.dumps(document))
    damaged = document["images"][-1]["file_name"]
    out, result = export(root, format)
    assert result.damaged == [f"train: {damaged}"]
    assert not list((out / "images/train").glob(f"*{damaged.rpartition('/')[2]}"))
    assert result.splits["train"].frames == 1


def test_what_is_there_is_never_overwritten(root):
    out = root.parent / "coco"
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match="expected a new or empty folder"):
        export_set(root, ExportFormat.COCO, out)
    assert files(out) == ["mine.txt"]


def test_no_prepared_set_no_output(tmp_path):
    with pytest.raises(DataError, match="expected a prepared set"):
        export_set(tmp_path, ExportFormat.YOLO, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_two_frames_under_one_name_are_refused(root):
    path = root / "annotations_train.json"
    text = path.read_text()
    path.write_text(text.replace('"a.mp4/full.jpg"', '"a__full.jpg"').replace('"a.mp4/empty.jpg"', '"a/full.jpg"'))
    with pytest.raises(DataError, match=r"two that become a__full\.jpg"):
        export_set(root, ExportFormat.COCO, root.parent / "out")
    assert not (root.parent / "out").exists() and not (root.parent / ".out.partial").exists()
