"""Sets as public bug reports describe them, each with what is right: the rows of a review that were wrong or unclear.

Every command reads the same: `data check`, `evaluate` and the pipeline's reader.
"""

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.data.readers.labelled import read_set
from mobile_centernet.data.readers.layouts import read_source
from mobile_centernet.data.readers.raw import Layout, read_raw
from mobile_centernet.errors import DataError

JPEG = cv2.imencode(".jpg", np.zeros((36, 64, 3), np.uint8))[1].tobytes()
CAR = {"category": "car", "box2d": {"x1": 10, "y1": 5, "x2": 40, "y2": 30}}
LANE = {"category": "lane/single white", "poly2d": [{"vertices": [[0, 1], [5, 9]]}]}
YOLO = b"0 0.5 0.5 0.3 0.4\n"
NAMES = b"names: [car]\n"
Files = dict[str, bytes]


@dataclass
class Case:
    """Files, and what they are: frames by split and state, how many videos, kinds of findings, what is not read."""

    files: Files
    states: dict[tuple[str, str], int]
    videos: int
    kinds: list[str] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)


def text(content: object, encoding: str = "utf-8") -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(encoding)


def entries(*names: str | int, labels: tuple[dict, ...] = (CAR,), **more: object) -> list[dict]:
    return [{"name": name, "labels": list(labels), **more} for name in names]


def images(*paths: str) -> Files:
    return dict.fromkeys(paths, JPEG)


def xml(category: str = "vehicle", encoding: str = "utf-8", width: int = 64, height: int = 36) -> bytes:
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    box = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
    body = f"<annotation>{size}<object><name>{category}</name>{box}</object></annotation>"
    return f'<?xml version="1.0" encoding="{encoding}"?>{body}'.encode(encoding)


def coco(*names: str, **row: object) -> dict:
    return {
        "images": [{"id": n, "file_name": name, "width": 64, "height": 36} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 5, 30, 25], "iscrowd": 0, **row}
            for n in range(len(names))
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "never used"}],
    }


def labelled(count: int, split: str = "train") -> dict[tuple[str, str], int]:
    return {(split, "labelled"): count}


def unlabelled(count: int, split: str = "train") -> dict[tuple[str, str], int]:
    return {(split, "unlabelled"): count}


DRIVES = [f"drive{drive}{{}}_{number:05d}.jpg" for drive in range(3) for number in range(4)]
CASES: dict[str, Case] = {
    # 1. An image's label is that of its path.
    "one name in two splits": Case(
        images("images/100k/train/1.jpg", "images/100k/val/1.jpg")
        | {"labels/det_20/det_val.json": text(entries("1.jpg"))},
        unlabelled(1) | labelled(1, "val"),
        2,
    ),
    "names with the folder, as Windows writes it": Case(
        images("images/100k/train/1.jpg", "images/100k/val/1.jpg")
        | {"labels/all.json": text(entries(r"D:\bdd\100k\val\1.jpg"))},
        unlabelled(1) | labelled(1, "val"),
        2,
    ),
    "folders in another form of Unicode": Case(
        images(unicodedata.normalize("NFD", "images/train/Müll/1.jpg"), "images/val/Mull/1.jpg")
        | {"labels/all.json": text(entries("Müll/1.jpg"))},
        labelled(1) | unlabelled(1, "val"),
        2,
    ),
    "names as in addresses": Case(
        images("images/train/a b.jpg", "images/train/c(1).jpg", "images/train/50%25.jpg")
        | {"labels/det.json": text(entries("a%20b.jpg", "c%281%29.jpg", "50%25.jpg"))},
        labelled(3),
        3,
    ),
    # 2. No box found is not "no object there".
    "a list of which no entry has a box": Case(
        images("images/train/a.jpg", "images/train/b.jpg")
        | {"labels/det.json": text(entries("a.jpg", "b.jpg", labels=()))},
        unlabelled(2),
        2,
        ["no_objects", "no_labels"],
    ),
    "a list of lanes before one of boxes": Case(
        images("images/train/a.jpg")
        | {"labels/a.json": text(entries("a.jpg", labels=(LANE,))), "labels/b.json": text(entries("a.jpg"))},
        labelled(1),
        1,
        ["no_objects", "duplicate_frame"],
    ),
    "YOLO's files that are all empty": Case(
        images("images/train/a.jpg") | {"labels/train/a.txt": b"", "data.yaml": b"names: [car]"},
        unlabelled(1),
        1,
        ["no_objects", "no_labels"],
    ),
    "YOLO's classes by name": Case(
        images("images/train/a.jpg") | {"labels/train/a.txt": b"car 0.5 0.5 0.2 0.2", "data.yaml": b"names: [car]"},
        unlabelled(1),
        1,
        ["unreadable_label", "no_labels"],
    ),
    "lanes alone": Case(
        images("images/100k/train/a.jpg") | {"labels/lane_train.json": text(entries("a.jpg", labels=(LANE,)))},
        unlabelled(1),
        1,
        ["no_objects", "no_labels"],
    ),
    "areas alone, as drivable_train.json has them": Case(
        images("images/100k/train/a.jpg")
        | {"labels/x.json": text(entries("a.jpg", labels=({"category": "direct", "poly2d": LANE["poly2d"]},)))},
        unlabelled(1),
        1,
        ["no_objects", "no_labels"],
    ),
    "an outline of an object": Case(
        images("images/100k/train/a.jpg")
        | {
            "labels/ins_seg_train.json": text(
                entries("a.jpg", labels=({"category": "car", "poly2d": [{"vertices": [[4, 6], [14, 6], [14, 12]]}]},))
            )
        },
        labelled(1),
        1,
    ),
    "several frames in one file": Case(
        images("images/100k/train/a.jpg")
        | {"labels/100k/train/a.json": text({"name": "a", "frames": [{"objects": []}, {"objects": [CAR]}]})},
        unlabelled(1),
        1,
        ["unreadable_label", "no_labels"],
    ),
    "a COCO document without an annotation": Case(
        images("images/a.jpg") | {"annotations/instances_train.json": text(coco("a.jpg") | {"annotations": []})},
        unlabelled(1),
        1,
        ["no_objects", "no_labels"],
    ),
    "YOLO's lines that are none": Case(
        images("images/train/a.jpg", "images/train/b.jpg")
        | {"labels/train/a.txt": b"car 1 2 3 4\n", "labels/train/b.txt": YOLO, "data.yaml": b"names: [car]"},
        labelled(1) | unlabelled(1),
        2,
        ["unreadable_label"],
    ),
    # 3, 4. ivslab's folders, whatever they are called.
    "ivslab by another name, nested once too often": Case(
        images(*(f"set/taipei/taipei/JPEGImages/All/{name.format('.mp4')}" for name in DRIVES)), unlabelled(12), 3,
        ["no_labels"],
    ),
    "ivslab as the organisers call it": Case(
        {
            f"{name}/{name}/JPEGImages/All/{name}.mp4_1.jpg": JPEG
            for name in ("ivslab_train", "ivslab_test_public", "ivslab_test_private_fin", "ivslab-test2", "IVSLAB_val")
        },
        unlabelled(1) | unlabelled(3, "test") | unlabelled(1, "val"),
        5,
        ["no_labels"],
    ),
    "a set beside ivslab's that is called after no split": Case(
        images("ivslab_train/JPEGImages/All/a.jpg", "night/JPEGImages/All/b.jpg"),
        unlabelled(1) | unlabelled(1, "night"),
        2,
        ["unknown_split", "no_labels"],
    ),
    "Pascal VOC with trainval.txt": Case(
        images("VOC2012/JPEGImages/a.jpg", "VOC2012/JPEGImages/b.jpg")
        | {"VOC2012/Annotations/a.xml": xml(), "VOC2012/ImageSets/Main/trainval.txt": b"a\r\n"}
        | {"VOC2012/ImageSets/Main/test.txt": b"b\n", "VOC2012/ImageSets/Main/car_trainval.txt": b"a -1\n"},
        labelled(1) | unlabelled(1, "test"),
        2,
        unread={".txt": 1},
    ),
    "XML beside photos, as labelImg puts it, one named a.jpg.xml": Case(
        images("a.jpg", "b.jpg") | {"a.jpg.xml": xml(), "b.xml": xml()}, labelled(2), 2
    ),
    "labels and lists without the folder All": Case(
        images("ivslab_train/JPEGImages/All/a.jpg", "ivslab_train/JPEGImages/All/b.jpg")
        | {"ivslab_train/Annotations/a.xml": xml(), "ivslab_train/Annotations/b.xml": xml()}
        | {"ivslab_train/ImageSets/All.txt": b"a\nb\n"},
        labelled(2),
        2,
    ),
    "suffixes in capitals": Case(
        {"ivslab_train/JPEGImages/All/a.JPG": JPEG, "ivslab_train/Annotations/All/a.XML": xml()}
        | {"ivslab_train/ImageSets/All.txt": b"All\\a.JPG 1\r\n"},
        labelled(1),
        1,
    ),
    # 5. Frames of one video.
    **{
        f"flat frames of *{suffix}": Case(
            images(*(f"ivslab_train/JPEGImages/All/{name.format(suffix)}" for name in DRIVES)), unlabelled(12), 3,
            ["no_labels"],
        )
        for suffix in (".MP4", ".mov", ".Avi", ".MTS", ".insv.mp4")
    },
    "numbered frames without a suffix of a video": Case(
        images(*(f"images/{name.format('')}" for name in DRIVES)),
        unlabelled(12, ""),
        3,
        ["numbered_frames"] * 3 + ["no_labels"],
    ),
    "every tenth frame, in two splits": Case(
        images(*(f"images/{'train' if n < 5 else 'val'}/drive_{10 * n:06d}.jpg" for n in range(10))),
        unlabelled(5) | unlabelled(5, "val"),
        1,
        ["numbered_frames"] * 2 + ["no_labels"],
    ),
    "numbered frames in folders of cameras": Case(
        images(*(f"images/train/{camera}/frame_{n:04d}.jpg" for camera in ("front", "rear") for n in range(3))),
        unlabelled(6),
        2,
        ["numbered_frames"] * 2 + ["no_labels"],
    ),
    "photos that are counted are no video": Case(
        images(*(f"images/{prefix}{n:06d}.jpg" for prefix in ("IMG_", "2007_", "") for n in range(5))),
        unlabelled(15, ""),
        15,
        ["no_labels"],
    ),
    "numbers that grow by any step are no video": Case(
        images(*(f"images/COCO_val2014_{n:012d}.jpg" for n in (42, 73, 74, 133, 136, 139, 143, 164, 192))),
        unlabelled(9, ""),
        9,
        ["no_labels"],
    ),
    "Roboflow's copies of one frame": Case(
        images("train/images/drive_mp4-12_jpg.rf.0a1b.jpg", "train/images/drive_mp4-13_jpg.rf.77.jpg")
        | images("valid/images/photo_png.rf.1.jpg", "valid/images/photo_png.rf.2.jpg"),
        unlabelled(2) | unlabelled(2, "val"),
        2,
        ["no_labels"],
    ),
    "videoName": Case(
        images("images/100k/train/0000f77c-6257be58-0000001.jpg", "images/100k/train/b1c66a42-6f7d68ca-0000002.jpg")
        | {
            "labels/box_track.json": text(
                entries(
                    "0000f77c-6257be58-0000001.jpg", "b1c66a42-6f7d68ca-0000002.jpg", videoName="v", frameIndex=1
                )
            )
        },
        labelled(2),
        1,
    ),
    # 6. Words for splits.
    "words for splits": Case(
        images(*(f"{word}/{number}.jpg" for number, word in enumerate(("Train", "VALID", "testing", "evaluation")))),
        unlabelled(1) | unlabelled(2, "val") | unlabelled(1, "test"),
        4,
        ["no_labels"],
    ),
    "words for splits in other languages": Case(
        images(*(f"images/{word}/{n}.jpg" for n, word in enumerate(("Entraînement", "訓練集", "Trainingsdaten"))))
        | images("images/validación_1/3.jpg", unicodedata.normalize("NFD", "images/検証データ/4.jpg"))
        | images("images/테스트/5.jpg"),
        unlabelled(3) | unlabelled(2, "val") | unlabelled(1, "test"),
        6,
        ["no_labels"],
    ),
    "words that hold others are none": Case(
        images("train/a.jpg", "constraint/b.jpg", "contest/c.jpg"),
        unlabelled(1) | unlabelled(1, "constraint") | unlabelled(1, "contest"),
        3,
        ["unknown_split"] * 2 + ["no_labels"],
    ),
    "a folder beside splits that is none": Case(
        images("train/a.jpg", "val/b.jpg", "holdout/c.jpg"),
        unlabelled(1) | unlabelled(1, "val") | unlabelled(1, "holdout"),
        3,
        ["unknown_split", "no_labels"],
    ),
    "label files alone say the split": Case(
        images("images/a.jpg", "images/b.jpg")
        | {f"labels/det_{split}.json": text(entries(f"{name}.jpg")) for split, name in (("train", "a"), ("val", "b"))},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    "data.yaml says the split": Case(
        images("images/north/a.jpg", "images/south/b.jpg")
        | {"labels/north/a.txt": YOLO, "labels/south/b.txt": YOLO}
        | {"data.yaml": b"train: ../images/north\nval: [images/south]\nnames: [car]\n"},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    **{
        f"data.yaml of another machine: {start}": Case(
            images("images/north/a.jpg", "images/south/b.jpg")
            | {"labels/north/a.txt": YOLO, "labels/south/b.txt": YOLO}
            | {"data.yaml": f"train: {start}north\nval: {start}south{end}\nnames: {{0: car}}\n".encode()},
            labelled(1) | labelled(1, "val"),
            2,
        )
        for start, end in (("/a/images/", ""), ("../a/Images/", "/"), ("D:\\a\\images\\", ""), ("images/", "/*.jpg"))
    },
    "lists of images say the split": Case(
        images("images/a.jpg", "images/b.jpg")
        | {"labels/a.txt": YOLO, "labels/b.txt": YOLO, "data.yaml": b"train: train.txt\nnames: [car]\n"}
        | {"train.txt": b"./images/a.jpg\n", "valid.txt": b"C:\\set\\images\\b.jpg\r\n"},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    # 7. Label files wherever they are; what is no label file is named.
    "two roots, as on Kaggle": Case(
        images("bdd100k/bdd100k/images/100k/train/a.jpg")
        | {
            "bdd100k_labels_release/bdd100k/labels/bdd100k_labels_images_train.json": text(entries("a.jpg"))
        },
        labelled(1),
        1,
    ),
    "Scalabel's config and frames, in UTF-16": Case(
        images("images/100k/train/a.jpg")
        | {"labels/det_train.json": text({"config": {}, "frames": entries("a.jpg")}, "utf-16")},
        labelled(1),
        1,
    ),
    "Darknet's folder": Case(
        images("obj_train_data/a.jpg") | {"obj_train_data/a.txt": b"\xef\xbb\xbf" + YOLO, "obj.names": b"car\n"},
        labelled(1),
        1,
    ),
    "YOLO's labels in folders other than the images'": Case(
        images("images/train/a.jpg", "images/val/b.jpg", "images/val/c.jpg")
        | {"labels/a.txt": YOLO, "labels_yolo/val/b.txt": YOLO.decode().encode("utf-16"), "data.yml": b"names: [car]"}
        | {"labels/val/c.txt": b"0 0.2 0.2 0.6 0.2 0.6 0.8\r\n"},
        labelled(1) | labelled(2, "val"),
        3,
    ),
    "YOLO without names": Case(
        images("images/train/a.jpg") | {"labels/train/a.txt": YOLO}, unlabelled(1), 1, ["no_labels"], {".txt": 1}
    ),
    "label files of unknown kinds": Case(
        images("images/train/a.jpg") | {"labels.jsonl": b"{}", "labels.json.gz": b"\x1f\x8b"},
        unlabelled(1),
        1,
        ["no_labels"],
        {".jsonl": 1, ".gz": 1},
    ),
    "no label file": Case(images("images/100k/train/a.jpg"), unlabelled(1), 1, ["no_labels"]),
    "images of 10k beside 100k": Case(
        images("images/100k/train/a.jpg", "images/10k/train/b.jpg") | {"labels/det_train.json": text(entries("a.jpg"))},
        labelled(1),
        1,
        unread={"images of 10k beside 100k, which overlap": 1},
    ),
    "images in folders of other tasks": Case(
        images("images/100k/train/a.jpg", "images/100k/train/lane/b.jpg", "images/track/train/v/c.jpg")
        | {"labels/det_train.json": text(entries("a.jpg"))},
        labelled(1),
        1,
        unread={"images of other tasks": 2},
    ),
    "images of tracking alone": Case(
        images("images/track/train/v/v-0000001.jpg")
        | {"labels/box_track_20/train/v.json": text(entries("v-0000001.jpg"))},
        labelled(1),
        1,
    ),
    "images of every kind": Case(
        {
            f"images/train/{n}{suffix}": cv2.imencode(suffix.lower(), np.zeros((36, 64, 3), np.uint8))[1].tobytes()
            for n, suffix in enumerate((".webp", ".BMP", ".tiff", ".tif", ".PNG", ".jpeg"))
        }
        | {"labels/det.json": text(entries("0.webp", "1.bmp", "2.jpg", "3", "4.png", "5.JPG")), "x.heic": b"?"},
        labelled(6),
        6,
        unread={".heic": 1},
    ),
    # 9. What desktops leave.
    "litter": Case(
        images("images/train/a.jpg", "images/train/._a.jpg", "__MACOSX/images/._a.jpg", "images/.AppleDouble/a.jpg")
        | images("images/train/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", ".Trash-1000/files/b.jpg", "lost+found/c.jpg")
        | {"images/Thumbs.db": b"", "images/train/a.jpg:Zone.Identifier": b"", "labels/._det_train.json": b"\0\5"}
        | {"labels/det_train.json": text(entries("a.jpg"))},
        labelled(1),
        1,
        unread={"left by desktops": 9},
    ),
    "litter beside the frames of videos": Case(
        images(*(f"ivslab_train/JPEGImages/All/{n}drive{k}.mp4_00001.jpg" for k in range(3) for n in ("", "._"))),
        unlabelled(3),
        3,
        ["no_labels"],
        unread={"left by desktops": 3},
    ),
    # 12. COCO.
    "COCO by Roboflow": Case(
        {"valid/a.jpg": JPEG, "valid/_annotations.coco.json": text(coco("a.jpg")), "README.roboflow.txt": b"x"},
        labelled(1, "val"),
        1,
        unread={".txt": 1},
    ),
    "COCO by FiftyOne": Case({"data/a.jpg": JPEG, "labels.json": text(coco("a.jpg"))}, labelled(1, ""), 1),
    "COCO with paths of Windows, in UTF-16": Case(
        {"images/train/A.JPG": JPEG, "annotations/instances_train.json": text(coco(r"train\a.jpg"), "utf-16")},
        labelled(1),
        1,
    ),
    "COCO with ids of two kinds": Case(
        {"images/a.jpg": JPEG, "annotations/instances_val.json": text(coco("a.jpg", image_id="0"))},
        unlabelled(1, "val"),
        1,
        ["unreadable_label", "no_labels"],
    ),
    "COCO with ids of two kinds of number": Case(
        {"images/a.jpg": JPEG, "annotations/instances_val.json": text(coco("a.jpg", image_id=0.0, category_id=1.0))},
        labelled(1, "val"),
        1,
    ),
    **{
        f"COCO with an outline alone, {name}": Case(
            {"images/a.jpg": JPEG}
            | {"annotations/instances_val.json": text(coco("a.jpg", bbox=bbox, segmentation=outline))},
            labelled(1, "val"),
            1,
        )
        for name, bbox, outline in (
            ("in a list", None, [[10, 5, 40, 5, 40, 30]]),
            ("by itself", [], [10, 5, 40, 5, 40, 30]),
            ("a mask", [], {"size": [36, 64], "counts": [365, 20, 1919]}),
        )
    },
    "COCO with an image twice": Case(
        {"images/a.jpg": JPEG, "annotations/instances_val.json": text(coco("a.jpg", "a.jpg"))},
        labelled(1, "val"),
        1,
        ["duplicate_frame"],
    ),
    "COCO in a document for each split": Case(
        images("images/train/a.jpg", "images/val/a.jpg")
        | {f"annotations/instances_{split}2017.json": text(coco("a.jpg")) for split in ("train", "val")},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    "COCO beside a document of the same images without annotations": Case(
        {"images/a.jpg": JPEG, "annotations/boxes.json": text(coco("a.jpg"))}
        | {"annotations/all.json": text(coco("a.jpg") | {"annotations": []})},
        labelled(1, ""),
        1,
        ["no_objects", "duplicate_frame"],
    ),
    "COCO beside lists of classes": Case(
        {"data/a.jpg": JPEG, "labels.json": text(coco("../data/a.jpg")), "meta.json": text({"labels": ["car"]})},
        labelled(1, ""),
        1,
        unread={".json": 1},
    ),
    "COCO beside JPEGImages, as labelme2coco writes it": Case(
        {"JPEGImages/a.jpg": JPEG, "annotations.json": text(coco("JPEGImages/a.jpg"))}, labelled(1, ""), 1
    ),
    # Others of the same kinds.
    "YOLO below JPEGImages, as Darknet's script for Pascal VOC writes it": Case(
        {"VOC/JPEGImages/a.jpg": JPEG, "VOC/labels/a.txt": YOLO, "classes.txt": b"car\n"}, labelled(1, ""), 1
    ),
    "YOLO by Label Studio": Case(
        {"images/1-a.jpg": JPEG, "labels/1-a.txt": YOLO, "classes.txt": b"car\n"}
        | {"notes.json": text({"categories": [{"id": 0, "name": "car"}], "info": {}})},
        labelled(1, ""),
        1,
        unread={".json": 1},
    ),
    "YOLO by Roboflow for Darknet": Case(
        images("train/a.jpg", "valid/b.jpg")
        | {"train/a.txt": YOLO, "valid/b.txt": YOLO, "train/_darknet.labels": b"car", "valid/_darknet.labels": b"car"},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    "YOLO's labels in another form of Unicode and case, or with the image's suffix": Case(
        {unicodedata.normalize("NFD", "photos/Müll.JPG"): JPEG, "photos/b.png": JPEG, "txt/müll.txt": YOLO}
        | {"txt/b.png.txt": YOLO, "classes.txt": b"car\n"},
        labelled(2, ""),
        2,
    ),
    "YOLO's labels of images that are called notes and train": Case(
        images("images/notes.jpg", "images/train.jpg")
        | {"labels/notes.txt": YOLO, "labels/train.txt": YOLO, "data.yaml": b"names: [car]"},
        labelled(2, ""),
        2,
    ),
    "YOLO's splits in data.yaml, its classes in classes.txt": Case(
        images("images/north/a.jpg", "images/south/b.jpg")
        | {"labels/north/a.txt": YOLO, "labels/south/b.txt": YOLO, "classes.txt": b"car\n"}
        | {"data.yaml": b"train: images/north\nval: images/south\nnc: 1\n"},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    **{
        f"YOLO's lists of images called {first} and {second}": Case(
            images("images/a.jpg", "images/b.jpg")
            | {"labels/a.txt": YOLO, "labels/b.txt": YOLO, first: b"./images/a.jpg\n", second: b"images/b.jpg\r\n"}
            | {"data.yaml": f"names: [car]\ntrain: {first}\nval: [x/{second}]\n".encode() if declared else NAMES},
            labelled(1) | labelled(1, "val"),
            2,
        )
        for first, second, declared in (
            ("autosplit_train.txt", "autosplit_val.txt", False),
            ("2012_train.txt", "2012_val.txt", False),
            ("first.txt", "second.txt", True),
        )
    },
    "splits within JPEGImages": Case(
        images("V/JPEGImages/train/a.jpg", "V/JPEGImages/val/b.jpg")
        | {"V/Annotations/train/a.xml": xml(), "V/Annotations/val/b.xml": xml()},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    "splits of folders with XML alone": Case(
        images("V/JPEGImages/a.jpg", "V/JPEGImages/b.jpg")
        | {"V/Annotations/train/a.xml": xml(), "V/Annotations/val/b.xml": xml()},
        labelled(1) | labelled(1, "val"),
        2,
    ),
    **{
        f"Pascal VOC with {name}": Case(
            images("V/JPEGImages/a.jpg", "V/JPEGImages/b.jpg")
            | {"V/Annotations/a.xml": xml(), "V/Annotations/b.xml": xml()}
            | {f"V/ImageSets/Main/{name.format('train')}": b"a 1\n"}
            | {f"V/ImageSets/Main/{name.format('val')}": b"b -1\n"},
            labelled(1) | labelled(1, "val"),
            2,
        )
        for name in ("{}2017.txt", "car_{}.txt")
    },
    "Pascal VOC beside JSON of something else": Case(
        images("images/a.jpg") | {"annotations/a.xml": xml(), "class_names.json": text(["car", "bus"])},
        labelled(1),
        1,
        unread={".json": 1},
    ),
    **{
        f"splits further down: {train}": Case(
            images(f"{train}/a.jpg", f"{val}/b.jpg") | {"labels.json": text(entries("a.jpg", "b.jpg"))},
            labelled(1) | labelled(1, "val"),
            2,
        )
        for train, val in (
            ("set/Training Set", "set/Validation Set"),
            ("images/mine/train_2", "images/mine/val_2"),
            ("a/eğitim", "a/doğrulama"),
        )
    },
    "a drive that is called a test drive": Case(
        images("images/north/test_drive_3/a.jpg") | {"labels.json": text(entries("a.jpg"))},
        labelled(1, ""),
        1,
        ["no_split"],
    ),
    "splits in the names of images": Case(
        images("images/train_0001.jpg", "images/val_0001.jpg", "images/val_0002.jpg"),
        unlabelled(1) | unlabelled(2, "val"),
        3,
        ["no_labels"],
    ),
    **{
        f"frames of each video in a folder of its own: {path}": Case(
            images(*(path.format(video, n) for video in (11, 12) for n in range(1, 5))),
            unlabelled(8, split),
            2,
            [*notes, "numbered_frames", "numbered_frames", "no_labels"],
        )
        for path, split, notes in (
            ("images/train/{:04d}/{:06d}.jpg", "train", ()),
            ("train/MOT17-{}/img1/{:06d}.jpg", "train", ()),
            ("images/MVI_200{}/img{:05d}.jpg", "", ("no_split",) * 2),
        )
    },
    "photos that a camera counts again in each folder": Case(
        images(*(f"images/train/{n}CANON/IMG_{m:04d}.jpg" for n in (100, 101) for m in range(4))), unlabelled(8), 8,
        ["no_labels"],
    ),
    "photos that are counted in each split": Case(
        images(*(f"images/{split}/{m:06d}.jpg" for split in ("train", "val") for m in range(4))),
        unlabelled(4) | unlabelled(4, "val"),
        8,
        ["no_labels"],
    ),
    **{
        f"numbers that are not padded, or not last: {name}": Case(
            images(*(f"images/train/{name.format(n)}.jpg" for n in numbers)), unlabelled(len(numbers)), 1,
            ["numbered_frames", "no_labels"],
        )
        for name, numbers in (
            ("frame{}", range(12)),
            ("driveA_{}", (*range(1, 12), *range(95, 104))),
            ("drive7_{:06d}_left", range(4)),
            ("{:05d}-night", range(4)),
        )
    },
    "a name that is a number, and no category": Case(
        images("images/train/0.jpg", "images/train/12.jpg")
        | {"labels/det.json": text(entries(0, 12, labels=(CAR, {**CAR, "category": None})))},
        labelled(2),
        2,
    ),
    "LabelMe's files": Case(
        {"a.jpg": JPEG, "a.json": text({"version": "5", "shapes": [], "imagePath": "a.jpg"})},
        unlabelled(1, ""),
        1,
        ["unreadable_label", "no_labels"],
    ),
    "COCO with keypoints and captions beside": Case(
        {"images/val2017/a.jpg": JPEG, "annotations/instances_val2017.json": text(coco("a.jpg"))}
        | {"annotations/person_keypoints_val2017.json": text(coco("a.jpg"))}
        | {"annotations/captions_val2017.json": text(coco("a.jpg") | {"categories": None})},
        labelled(1, "val"),
        1,
        unread={".json": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_reported_case(tmp_path: Path, name: str) -> None:
    case, root = CASES[name], tmp_path / "set"
    for path, content in case.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    source = read_source(root)
    frames = [entry.frame for entry in source.entries]
    assert Counter((frame.split, str(frame.state)) for frame in frames) == case.states
    assert len({frame.video for frame in frames}) == case.videos
    assert [finding.kind for finding in (*source.findings, *source.no_labels())] == case.kinds
    assert source.unread == case.unread
    assert len(frames) + source.label_files + sum(source.unread.values()) == len(case.files)

    _, bare = read_raw(root, labels=False)  # as the pipeline does, to subsample
    assert [(frame.name, frame.split) for frame in bare.frames] == [(frame.name, frame.split) for frame in frames]
    _, raw = read_raw(root)  # as it does, to prepare
    assert [(frame.name, frame.boxes, frame.split) for frame in raw.frames] == [
        (frame.name, frame.boxes, frame.split) for frame in frames
    ]
    found = read_set(root, ("vehicle", "pedestrian"), None, None, {}, "drop")
    state_of = Counter(str(frame.annotate(frame.read().shape[:2])[0]) for frame in found.frames)
    expected = Counter(str(frame.state) for frame in frames)
    assert (state_of["labelled"], state_of["empty"]) == (expected["labelled"], expected["empty"])


BOX = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
VEHICLE = f"<name>vehicle</name>{BOX}"
INVERTED = VEHICLE.replace("10", "50").replace("40", "10").replace("50", "40")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ONE, TWO = [[10, 5, 30, 25]], [[10, 5, 30, 25]] * 2


def voc(body: str) -> tuple[str, bytes]:
    return "ivslab_train/Annotations/All/a.xml", f"<annotation>{body}</annotation>".encode()


def bdd(*objects: dict) -> tuple[str, bytes]:
    return "labels/det_train.json", text(entries("a.jpg", labels=objects))


def document(encoding: str = "utf-8", **more: object) -> tuple[str, bytes]:
    return "annotations/instances_train.json", text({**coco("a.jpg"), **more}, encoding)


ONE_IMAGE: dict[str, tuple[tuple[str, bytes], str, list[list[float]], list[str]]] = {
    "voc: parts with boxes of their own": (
        voc(f"<object><part><name>wheel</name>{BOX.replace('40', '12')}</part>{VEHICLE}</object>"),
        "labelled",
        ONE,
        [],
    ),
    "voc: an object within another": (
        voc(f"<object>{VEHICLE}<object>{VEHICLE}</object></object>"),
        "labelled",
        TWO,
        [],
    ),
    "voc: objects in a list": (voc(f"<objects><object>{VEHICLE}</object></objects>"), "labelled", ONE, []),
    "voc: the box before the name": (voc(f"<object>{BOX}<name>vehicle</name></object>"), "labelled", ONE, []),
    "voc: another file's name": (
        voc(f"<filename>b.png</filename><path>C:\\x\\b.png</path><object>{VEHICLE}</object>"),
        "labelled",
        ONE,
        [],
    ),
    "voc: two boxes in one object": (voc(f"<object>{VEHICLE}{BOX}</object>"), "unlabelled", [], ["nan_box"]),
    "voc: a rotated box": (
        voc("<object><name>vehicle</name><robndbox><cx>9</cx><cy>9</cy></robndbox></object>"),
        "unlabelled",
        [],
        ["nan_box"],
    ),
    "voc: a polygon": (
        voc("<object><name>vehicle</name><polygon><x1>1</x1><y1>2</y1></polygon></object>"),
        "unlabelled",
        [],
        ["nan_box"],
    ),
    "voc: an inverted box beside a whole one": (
        voc(f"<object>{VEHICLE}</object><object>{INVERTED}</object>"),
        "labelled",
        TWO,
        ["inverted_box"],
    ),
    "voc: no object": (voc(""), "empty", [], []),
    "voc: white space before, NUL behind": (
        (voc("")[0], b"\n <?xml version='1.0'?>" + voc(f"<object>{VEHICLE}</object>")[1] + b"\0\n"),
        "labelled",
        ONE,
        [],
    ),
    "voc: an & that is none of XML's": (
        (voc("")[0], voc(f"<folder>R&D</folder><object>{VEHICLE}</object>")[1]),
        "unlabelled",
        [],
        ["unreadable_label"],
    ),
    "voc: a DOCTYPE": (
        (voc("")[0], b"<!DOCTYPE annotation>" + voc(f"<object>{VEHICLE}</object>")[1]),
        "labelled",
        ONE,
        [],
    ),
    "voc: GBK that is not declared": (
        (voc("")[0], "<annotation><folder>台中</folder></annotation>".encode("gbk")),
        "unlabelled",
        [],
        ["unreadable_label"],
    ),
    "voc: a namespace": ((voc("")[0], b'<annotation xmlns="http://x"/>'), "unlabelled", [], ["unreadable_label"]),
    "bdd: a box in space": (bdd({"category": "car", "box3d": {"location": [1, 2, 3]}}), "unlabelled", [], ["nan_box"]),
    "bdd: a mask that is none": (
        bdd({"category": "car", "rle": {"counts": "?", "size": 3}}),
        "unlabelled",
        [],
        ["nan_box"],
    ),
    "bdd: numbers as text": (
        bdd({"category": "car", "box2d": {"x1": "10", "y1": "5.0", "x2": 40.0, "y2": "3e1"}}),
        "labelled",
        ONE,
        [],
    ),
    "bdd: a comma for a point": (
        bdd(CAR, {"category": "car", "box2d": {"x1": "10,5", "y1": 5, "x2": 40, "y2": 30}}),
        "labelled",
        ONE,
        ["nan_box"],
    ),
    "bdd: other case and spaces": (bdd({**CAR, "category": " CAR "}), "labelled", ONE, []),
    "bdd: labels of null": (("labels/det_train.json", text([{"name": "a.jpg", "labels": None}])), "unlabelled", [], []),
    "bdd: a pointer of Git LFS": (("labels/det_train.json", LFS), "unlabelled", [], ["unreadable_label"]),
    "coco: with a BOM": (document("utf-8-sig"), "labelled", ONE, []),
    "coco: a category named twice": (
        document(categories=[{"id": 1, "name": "car"}, {"id": 2, "name": "car"}]),
        "labelled",
        ONE,
        [],
    ),
    "coco: no number in a box": (
        document(annotations=[{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, None, 2, 3]}]),
        "unlabelled",
        [],
        ["nan_box"],
    ),
}


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_what_the_labels_of_one_image_say(tmp_path: Path, name: str) -> None:
    (path, content), state, boxes, kinds = ONE_IMAGE[name]
    image = "ivslab_train/JPEGImages/All/a.jpg" if path.endswith(".xml") else "images/train/a.jpg"
    for file, data in ((path, content), (image, JPEG)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(data)
    found = read_set(tmp_path, ("vehicle",), None, None, {}, "drop")
    (frame,) = found.frames
    said, rows = frame.annotate(frame.read().shape[:2])
    assert (str(said), [row["bbox"] for row in rows]) == (state, boxes)
    assert [finding.kind for finding in found.findings if finding.kind != "no_labels"] == kinds


@pytest.mark.parametrize("file", ["data.yaml", "classes.txt", "labels/x/classes.txt"])
def test_each_of_several_lists_of_classes_is_that_of_the_labels_below_it(tmp_path: Path, file: str) -> None:
    """Merged sets: the same number is another class in each."""
    for part, names in (("a", "car,bus"), ("b", "bus,car")):
        content = f"names: [{names}]" if file.endswith("yaml") else names.replace(",", "\n")
        put = {
            f"{part}/images/x/{part}.jpg": JPEG,
            f"{part}/labels/x/{part}.txt": YOLO,
            f"{part}/{file}": content.encode(),
        }
        for path, data in put.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(data)
    _, raw = read_raw(tmp_path)
    assert [[box.category for box in frame.boxes] for frame in raw.frames] == [["car"], ["bus"]]
    (tmp_path / "data.yaml").write_bytes(b"names: [bus, car, truck]")
    with pytest.raises(DataError, match=r"expected one list of YOLO's classes for the labels in a/labels/x, found .*"):
        read_raw(tmp_path)


@pytest.mark.parametrize(
    ("line", "yaml", "box"),
    [
        ("0 .5 .5 .25 .5 .9", "", (24, 9, 40, 27)),  # a score behind it
        ("0 .25 .25 .75 .25 .75 .5", "", (16, 9, 48, 18)),
        ("0 .25 .25 .75 .25 .75 .5 .1", "", None),  # half a corner
        ("0 .5 .5 .25 .5 .1 .1 2 .9 .9 1", "kpt_shape: [2, 3]", (24, 9, 40, 27)),
        ("0 .5 .5 .25 .5 .1 .1 .9 .9", "kpt_shape: [2, 2]", (24, 9, 40, 27)),
    ],
)
def test_lines_of_yolo_with_more_than_a_box(tmp_path: Path, line: str, yaml: str, box: tuple[int, ...] | None) -> None:
    for path, content in (
        ("a.jpg", JPEG),
        ("a.txt", line.encode()),
        ("data.yaml", f"names: {{car: 0}}\n{yaml}".encode()),
    ):
        (tmp_path / path).write_bytes(content)
    (found,) = read_raw(tmp_path)[1].frames[0].boxes
    assert found.category == "car"
    assert found.xyxy == box or (box is None and np.isnan(found.xyxy).all())


@pytest.mark.parametrize("names", ["names: car, bus", "names: [car", "nc: 2"])
def test_names_that_are_none_are_one_sentence(tmp_path: Path, names: str) -> None:
    for path, content in (("a.jpg", JPEG), ("a.txt", YOLO), ("data.yaml", names.encode())):
        (tmp_path / path).write_bytes(content)
    with pytest.raises(DataError, match=r"expected (names as a list|YAML|the names of YOLO's classes)"):
        read_raw(tmp_path, Layout.YOLO)


def test_two_categories_of_one_id_are_refused(tmp_path: Path) -> None:
    two = [{"id": 1, "name": "car"}, {"id": 1, "name": "bus"}]
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.json").write_bytes(text({**coco("a.jpg"), "categories": two}))
    with pytest.raises(DataError, match="expected every category id once, found 1 twice"):
        read_raw(tmp_path)


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "big5", "shift_jis", "utf-16", "euc-kr", "utf-8-sig"])
def test_xml_and_lists_in_the_encodings_of_other_systems(tmp_path: Path, encoding: str) -> None:
    name, word = {"euc-kr": ("서울", "차량")}.get(encoding, ("台中", "汽"))
    root = tmp_path / "ivslab_train"
    for path, content in (
        (f"JPEGImages/All/{name}.jpg", JPEG),
        (f"Annotations/All/{name}.xml", xml(word, encoding).replace(b"-sig", b"", 1)),
        ("ImageSets/All.txt", f"{name}.JPG\r\n".encode("utf-8" if encoding == "euc-kr" else encoding)),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    _, raw = read_raw(tmp_path)
    assert raw.findings == ()
    assert [box.category for box in raw.frames[0].boxes] == [word]


@pytest.mark.parametrize("size", [(128, 72), (36, 64)])
@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_labels_of_another_size_are_scaled_or_the_frame_is_unlabelled_for_every_command(
    tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    """Twice as large, or its sides swapped."""
    document = coco("a.jpg")
    document["images"][0] |= {"width": size[0], "height": size[1]}
    document["categories"][0]["name"] = "vehicle"
    label = ("Annotations/a.xml", xml(width=size[0], height=size[1]))
    label = label if kind == "voc" else ("annotations/instances_train.json", text(document))
    for path, content in (("JPEGImages/a.jpg" if kind == "voc" else "images/a.jpg", JPEG), label):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    found = read_set(tmp_path, ("vehicle",), None, None, {}, "refuse")
    state, rows = found.frames[0].annotate(found.frames[0].read().shape[:2])
    boxes = [row["bbox"] for row in rows]
    assert (str(state), boxes) == (("labelled", [[5, 2.5, 15, 12.5]]) if size == (128, 72) else ("unlabelled", []))
    assert [finding.kind for finding in found.findings] == ["size_mismatch"]


def test_links_to_files_are_read_once_where_a_set_has_them(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for path in ("all/a.jpg", "all/b.jpg", "images/train/c.jpg", "images/val/.keep"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(JPEG)
    (root / "images/train/a.jpg").symlink_to("../../all/a.jpg")
    (root / "images/val/b.jpg").symlink_to(root / "all/b.jpg")
    (root / "again.jpg").symlink_to("images/train/c.jpg")
    _, raw = read_raw(root)
    assert [(frame.name, frame.split) for frame in raw.frames] == [("a", "train"), ("c", "train"), ("b", "val")]
    assert raw.unread == {"by links to files that are read": 3, "without a suffix": 1}


def test_only_images_of_kinds_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").touch()
    with pytest.raises(DataError, match=r"expected BDD100K images .* found none below this folder, 1 \.heic"):
        read_source(tmp_path)
