"""Four properties of every reader, whatever files are called. Names are made up here, not drawn from the code."""

import json
import os
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobile_centernet.cli.main import main
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.raw import read_raw
from tests.helpers.tiny import tiny_detector

PICTURE = cv2.imencode(".jpg", np.zeros((36, 64, 3), np.uint8))[1].tobytes()
CAR = {"category": "car", "box2d": {"x1": 10, "y1": 5, "x2": 40, "y2": 30}}
STEMS = st.text("abcxyz019éü漢_-", min_size=1, max_size=6)
FOLDERS = st.lists(st.sampled_from(["cam1", "cam2", "müll", "Drive 3", "x.y"]), max_size=2).map("/".join)
CASES: tuple[Callable[[str], str], ...] = (str, str.upper, str.title)
FORMS = st.sampled_from(["NFC", "NFD"])
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def folder():
    """A new folder at each call; a fixture's own would be shared by all examples."""
    made = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp()))
        return made[-1] / "set"

    yield make
    for each in made:
        shutil.rmtree(each)


def put(path: Path, content: bytes = PICTURE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def xml(*names: str) -> bytes:
    boxes = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
    return (
        f"<annotation>{''.join(f'<object><name>{name}</name>{boxes}</object>' for name in names)}</annotation>".encode()
    )


@st.composite
def sets(draw: st.DrawFn) -> dict[str, bytes]:
    """Files of a set: images with a label of one of the four kinds each, in folders and spellings of any kind."""
    kind, fold = draw(st.sampled_from(["bdd100k", "ivslab", "coco", "yolo"])), draw(st.sampled_from(CASES))
    files: dict[str, bytes] = {}
    entries = []
    stems = draw(st.lists(st.tuples(FOLDERS, STEMS), min_size=1, max_size=6, unique_by=lambda each: str(each).lower()))
    for number, (folder, stem) in enumerate(stems):
        suffix = draw(st.sampled_from([".jpg", ".JPG", ".Jpeg"]))
        own = unicodedata.normalize(draw(FORMS), f"{folder}/{stem}".lstrip("/"))
        images = {"ivslab": "JPEGImages"}.get(kind, "images")
        files[f"{images}/train/{own}{suffix}" if kind != "ivslab" else f"{images}/{own}{suffix}"] = PICTURE
        named = unicodedata.normalize(draw(FORMS), f"{folder}/{stem}".lstrip("/"))
        if kind == "ivslab":
            files[f"Annotations/{named}{draw(st.sampled_from(['.xml', '.XML']))}"] = xml("vehicle")
        elif kind == "yolo":
            files[f"labels/train/{named}.txt"] = b"0 0.5 0.5 0.2 0.2\n"
        named = named.replace("/", draw(st.sampled_from("/\\")))
        entries.append({"id": number, "name": f"{named}.jpg", "file_name": f"{named}.jpg", "labels": [CAR]})
    if kind == "bdd100k":
        files["labels/det_train.json"] = json.dumps(entries).encode()
    elif kind == "coco":
        rows = [{"id": n, "image_id": n, "category_id": 1, "bbox": [10, 5, 30, 25]} for n in range(len(entries))]
        document = {"images": entries, "annotations": rows, "categories": [{"id": 1, "name": "car"}]}
        files["annotations/instances_train.json"] = json.dumps(document).encode()
    elif kind == "yolo":
        files["data.yaml"] = b"names: [car]\n"
    for stray in draw(
        st.lists(st.sampled_from(["notes", "a.pdf", "._b.jpg", "Thumbs.db", "c.xyz", "d.mp4"]), max_size=3)
    ):
        files[f"{draw(FOLDERS)}/{fold(stray)}".lstrip("/")] = b"?"
    return files


@quick
@given(files=sets(), nested=st.sampled_from(["", "more/", "more/more/"]), linked=st.booleans())
def test_no_file_is_unaccounted_for_and_all_labels_arrive(folder, files, nested, linked) -> None:
    root = folder()
    for path, content in files.items():
        put((root.parent / "elsewhere" if linked else root / nested) / path, content)
    if linked:
        root.mkdir(parents=True)
        (root / "link").symlink_to(root.parent / "elsewhere")
    _, raw = read_raw(root)
    there = sum(len(names) for _, _, names in os.walk(root, followlinks=True))
    assert len(raw.frames) + raw.label_files + sum(raw.unread.values()) == there
    # Where names are different, each image has its label; where not, the folders tell or nobody gets it.
    unlabelled = [frame.name for frame in raw.frames if not frame.boxes]
    assert not unlabelled or raw.findings, unlabelled


@quick
@given(
    stems=st.lists(STEMS, min_size=1, max_size=4, unique_by=str.lower),
    places=st.lists(st.sampled_from(["a/train", "b/train", "c/d", "e"]), min_size=1, max_size=3, unique=True),
    wanted=st.sampled_from(["a/train", "b/train", "c/d", "e", "z", ""]),
    separator=st.sampled_from("/\\"),
    fold=st.sampled_from(CASES),
    forms=st.tuples(FORMS, FORMS),
)
def test_no_label_is_on_an_image_whose_path_does_not_match(
    folder, stems, places, wanted, separator, fold, forms
) -> None:
    root = folder()
    stems = [unicodedata.normalize(forms[0], stem) for stem in stems]
    for place in places:
        for stem in stems:
            put(root / f"images/{place}/{stem}.jpg")
    names = [f"{wanted}/{stem}.jpg".lstrip("/") for stem in stems]
    spelt = [unicodedata.normalize(forms[1], fold(name).replace("/", separator)) for name in names]
    entries = [{"name": name, "labels": [CAR]} for name in spelt]
    put(root / "labels/some.json", json.dumps(entries).encode())
    _, raw = read_raw(root)
    labelled = {frame.image.relative_to(root / "images").as_posix() for frame in raw.frames if frame.boxes}
    if wanted in places:
        assert labelled == set(names)
    elif wanted == "" and len(places) == 1:
        assert labelled == {f"{places[0]}/{stem}.jpg" for stem in stems}
    else:
        assert labelled == set() and len(raw.findings) >= len(stems)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    tiny_detector(path)
    return path


def ask(*arguments: object) -> dict:
    """What a command answers in JSON."""
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code in (0, 1, 3), result.output
    return json.loads(result.stdout)


@settings(quick, max_examples=8)
@given(files=sets())
def test_check_prepare_evaluate_and_predict_read_the_same(folder, model: Path, files) -> None:
    root = folder()
    for path, content in files.items():
        put(root / path, content)
    _, raw = read_raw(root)
    checked = ask("data", "check", root, "--json")["splits"].values()
    states = Counter(str(frame.state) for frame in raw.frames)
    assert all(sum(split[state] for split in checked) == states[state] for state in ("labelled", "empty", "unlabelled"))
    classes = ClassMap(("vehicle",), {"car": "vehicle", "vehicle": "vehicle"})
    prepared = prepare(raw, [replace(frame, split="train") for frame in raw.frames], classes, root.parent / "out",
                       workers=1, progress=False)["splits"]["train"]  # fmt: skip
    assert prepared["frames"] == len(raw.frames) and prepared["videos"] == len({frame.video for frame in raw.frames})
    if prepared["boxes"]["vehicle"]:
        found = ask("evaluate", model, root, "--json", "--unmapped", "drop")
        assert found["frames"] == prepared["states"]["labelled"] + prepared["states"]["empty"]
        assert found["boxes"]["vehicle"] == prepared["boxes"]["vehicle"]
    CliRunner().invoke(
        main, ["predict", str(root), "--model", str(model), "--out", str(root.parent / "p"), "--no-drawing"]
    )
    looked_at = json.loads((root.parent / "p/detections.json").read_text())["images"]
    assert {each["file_name"] for each in looked_at} == {
        frame.image.relative_to(root).as_posix() for frame in raw.frames
    }


@quick
@given(
    videos=st.lists(STEMS, min_size=1, max_size=3, unique_by=lambda each: unicodedata.normalize("NFC", each).lower()),
    suffix=st.sampled_from([".mp4", ".MP4", ".Mov", ".avi", ".MKV"]),
    shape=st.sampled_from(["{v}/{v}_{n:05d}", "{v}_{n:05d}", "{v}-{n}", "{v}/{n}", "{v} frame {n}"]),
    forms=st.tuples(FORMS, FORMS),
)
def test_the_number_of_videos_is_right(folder, videos, suffix, shape, forms) -> None:
    root = folder()
    for video in videos:
        for number in range(4):
            name = unicodedata.normalize(forms[number % 2], shape.format(v=video + suffix, n=number))
            put(root / f"ivslab_train/JPEGImages/All/{name}.jpg")
    _, raw = read_raw(root)
    assert len(raw.frames) == 4 * len(videos)
    assert len({frame.video for frame in raw.frames}) == len(videos)
