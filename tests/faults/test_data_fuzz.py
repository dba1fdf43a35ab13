"""A thousand corrupted labels and images: each ends in a finding or a clean read, and no good frame is lost."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.data.annotations import Frame, FrameState, RawSet
from mobile_centernet.data.check.checks import PROBLEMS, CheckReport, check
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.bdd100k import read_bdd100k
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.readers.layouts import read_source
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import DataError

VICTIMS, NEIGHBOURS = 500, 50
SIZE = (36, 64)
BOXES = ((5, 5, 30, 25), (20.5, 10.25, 60, 35))
CLASS_MAP = ClassMap(("vehicle", "bicycle"), {"vehicle": "vehicle", "bicycle": "bicycle"})
JUNK = [
    b"nan",
    b"-1e999",
    b"9" * 400,
    b"null",
    b"[",
    b"{" * 50,
    b"<object>",
    b"&x;",
    b"\x00",
    b"\xff\xfe",
    b"\\ud800",
    b'"',
]


def corrupt(data: bytes, rng: np.random.Generator) -> bytes:
    """One of six ways in which files go bad."""
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 40)))
    match int(rng.integers(6)):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + data[stop:]
        case 2:
            return data[:start] + rng.bytes(stop - start) + data[stop:]
        case 3:
            return data[:start] + data[start:stop] * 3 + data[stop:]
        case 4:
            return data[:start] + JUNK[rng.integers(len(JUNK))] + data[stop:]
    flipped = bytearray(data)
    for place in rng.integers(len(data), size=5).tolist():
        flipped[place] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


def picture(number: int) -> bytes:
    """A gradient of its own for each number."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC))[1].tobytes()


def xml(name: str) -> bytes:
    objects = "".join(
        f"<object><name>{category}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for category, (x1, y1, x2, y2) in zip(("vehicle", "bicycle"), BOXES, strict=True)
    )
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    head = '<?xml version="1.0" encoding="utf-8"?>'
    return f"{head}<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>".encode()


def entry(name: str, *, old: bool = False) -> dict[str, object]:
    objects = [
        {"category": category, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)), "attributes": {}}
        for category, box in zip(("vehicle", "bicycle"), BOXES, strict=True)
    ]
    rest = {"frames": [{"timestamp": 1, "objects": objects}]} if old else {"labels": objects}
    return {"name": name, "attributes": {"weather": "clear"}, **rest}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def ivslab(root: Path, rng: np.random.Generator) -> tuple[set[str], set[str]]:
    """ivslab's layout, half of the victims with a corrupted image, half with a corrupted label: their names."""
    pictures, labels = set(), set()
    for number in range(VICTIMS + NEIGHBOURS):
        name = f"{number // 10}.mp4/{number // 10}.mp4_{number % 10:05d}"
        image, label = picture(number), xml(name)
        if number < VICTIMS // 2:
            image = corrupt(image, rng)
            pictures.add(name)
        elif number < VICTIMS:
            label = corrupt(label, rng)
            labels.add(name)
        write(root / f"ivslab_train/JPEGImages/All/{name}.jpg", image)
        write(root / f"ivslab_train/Annotations/All/{name}.xml", label)
    return pictures, labels


def bdd100k(root: Path, rng: np.random.Generator) -> tuple[set[str], set[str]]:
    """BDD100K with a label file for each image, in both shapes these have; what is corrupted as in `ivslab`."""
    pictures, labels = set(), set()
    for number in range(VICTIMS + NEIGHBOURS):
        name = f"{number:08x}-{number:08x}"
        image, label = picture(number), json.dumps(entry(name, old=number % 2 == 0)).encode()
        if number < VICTIMS // 2:
            image = corrupt(image, rng)
            pictures.add(name)
        elif number < VICTIMS:
            label = corrupt(label, rng)
            labels.add(name)
        write(root / f"images/100k/train/{name}.jpg", image)
        write(root / f"labels/100k/train/{name}.json", label)
    return pictures, labels


LAYOUTS = {"ivslab": (ivslab, read_ivslab), "bdd100k": (bdd100k, read_bdd100k)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_of_a_thousand_ends_in_a_finding_or_a_clean_read(tmp_path: Path, layout: str) -> None:
    make, read = LAYOUTS[layout]
    broken_pictures, broken_labels = make(tmp_path / "raw", np.random.default_rng(20200706))
    raw: RawSet = read(tmp_path / "raw")
    assert len(raw.frames) == VICTIMS + NEIGHBOURS  # every image is a frame, whatever its label

    report = prepare(raw, raw.frames, CLASS_MAP, tmp_path / "out", max_size=SIZE, workers=1, progress=False)
    prepared = PreparedSet(tmp_path / "out", "train")
    stored = {prepared.frame(number).name: prepared.frame(number) for number in range(len(prepared))}
    findings = Counter(row["item"].rpartition("#")[0] or row["item"] for row in report["findings"])

    named = {Path(item).stem for item in findings}
    for frame in raw.frames:
        assert frame.name in stored or Path(frame.name).name in named, f"{frame.name} is nowhere"
    for name in broken_labels:  # the image is whole, and so the frame stays
        assert name in stored
    for name in {frame.name for frame in raw.frames} - broken_pictures - broken_labels:
        assert stored[name].state is FrameState.LABELLED
        np.testing.assert_allclose(stored[name].boxes, BOXES, atol=2e-3)
        assert stored[name].labels.tolist() == [0, 1]
    # The corruption did something: most victims are noticed.
    assert sum(name not in stored for name in broken_pictures) > VICTIMS // 20
    assert sum(stored[name].state is not FrameState.LABELLED for name in broken_labels) > VICTIMS // 20

    checked = check(read_source(tmp_path / "raw"), ("vehicle", "bicycle"), workers=1, progress=False)
    assert_consistent(checked, len(raw.frames))
    missing = {name for name in broken_pictures if name not in stored}
    unreadable = {each.finding.item for each in checked.problems if each.finding.kind == "unreadable_image"}
    assert unreadable == missing
    json.dumps(checked.to_dict()).encode()


def assert_consistent(report: CheckReport, frames: int) -> None:
    """Every frame is counted and every finding is of a known kind."""
    assert sum(row["frames"] for row in report.splits().values()) == frames == len(report.frames)
    assert {problem.finding.kind for problem in report.problems} <= PROBLEMS.keys()


def test_a_hundred_corrupted_lists_lose_no_frame(tmp_path: Path) -> None:
    names = [f"{number:08x}-{number:08x}" for number in range(8)]
    for number, name in enumerate(names):
        write(tmp_path / f"images/100k/train/{name}.jpg", picture(number))
    whole = json.dumps([entry(f"{name}.jpg") for name in names]).encode()
    rng = np.random.default_rng(7)
    for _ in range(100):
        write(tmp_path / "labels/det_20/det_train.json", corrupt(whole, rng))
        raw = read_bdd100k(tmp_path)
        assert [frame.name for frame in raw.frames] == names
        assert all(is_known(frame) for frame in raw.frames)


def is_known(frame: Frame) -> bool:
    """Labelled frames have boxes, others have none."""
    return (frame.state is FrameState.LABELLED) == bool(frame.boxes)


def test_a_hundred_corrupted_prepared_sets_are_reported(tmp_path: Path) -> None:
    for number in range(4):
        name = f"a.mp4/a.mp4_{number:05d}"
        write(tmp_path / f"raw/ivslab_train/JPEGImages/All/{name}.jpg", picture(number))
        write(tmp_path / f"raw/ivslab_train/Annotations/All/{name}.xml", xml(name))
    raw = read_ivslab(tmp_path / "raw")
    out = tmp_path / "out"
    prepare(raw, raw.frames, CLASS_MAP, out, max_size=SIZE, workers=1, progress=False)
    assert check(read_source(out), workers=1, progress=False).clean
    rng = np.random.default_rng(11)
    outcomes: Counter[str] = Counter()
    for _ in range(100):
        victim = out / ("annotations_train.json" if rng.random() < 0.7 else "images-00000.tar")
        whole = victim.read_bytes()
        victim.write_bytes(corrupt(whole, rng))
        try:
            report = check(read_source(out), workers=1, progress=False)
            assert_consistent(report, len(report.frames))
            outcomes["clean" if report.clean else "problems"] += 1
        except DataError:
            outcomes["refused"] += 1
        victim.write_bytes(whole)
    assert outcomes["problems"] > 5 and outcomes["refused"] > 5, outcomes
