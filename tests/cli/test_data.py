"""`mobile-centernet data` as a user types it: verdicts and exit codes, pages, contact sheets, exports."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mobile_centernet.cli.data import check as check_command
from mobile_centernet.cli.data import export as export_command
from mobile_centernet.cli.main import main
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.readers.ivslab import read_ivslab
from mobile_centernet.data.readers.layouts import Layout
from mobile_centernet.data.similarity.perceptual import NEAR_BITS
from mobile_centernet.data.store.formats import ExportFormat
from tests.helpers.views import view


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six clean frames in ivslab's layout: two videos in train, one in test."""
    for number, name in enumerate(("train/a.mp4/1", "train/a.mp4/2", "train/b.mp4/1", "train/b.mp4/2", "test/c.mp4/1")):
        split, _, rest = name.partition("/")
        coarse = np.random.default_rng(number).integers(0, 256, (9, 16, 3)).astype(np.uint8)
        picture = tmp_path / f"raw/ivslab_{split}/JPEGImages/All/{rest}.jpg"
        label = tmp_path / f"raw/ivslab_{split}/Annotations/All/{rest}.xml"
        for path in (picture, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(picture), cv2.resize(coarse, (320, 180), interpolation=cv2.INTER_CUBIC))
        label.write_text(
            "<annotation><size><width>320</width><height>180</height></size><object><name>vehicle</name><bndbox>"
            "<xmin>50</xmin><ymin>40</ymin><xmax>150</xmax><ymax>140</ymax></bndbox></object></annotation>"
        )
    return tmp_path / "raw"


@pytest.fixture
def prepared(raw: Path) -> Path:
    source = read_ivslab(raw)
    class_map = ClassMap(("vehicle",), {"vehicle": "vehicle"})
    prepare(source, source.frames, class_map, raw.parent / "set", workers=1, progress=False)
    return raw.parent / "set"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", *(str(argument) for argument in arguments)], prog_name="mobile-centernet")


def refused(result: Result) -> str:
    """The one sentence on stderr of a command that could not do its work."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def soil(raw: Path) -> None:
    """A box outside, a broken image, a leak, and a double of another video."""
    label = raw / "ivslab_train/Annotations/All/a.mp4/1.xml"
    label.write_text(label.read_text().replace("<xmax>150<", "<xmax>400<"))
    pictures = raw / "ivslab_train/JPEGImages/All"
    (pictures / "b.mp4/2.jpg").write_bytes((pictures / "b.mp4/2.jpg").read_bytes()[:-300])
    (pictures / "b.mp4/1.jpg").write_bytes((pictures / "a.mp4/1.jpg").read_bytes())
    (raw / "ivslab_test/JPEGImages/All/c.mp4/1.jpg").write_bytes((pictures / "a.mp4/2.jpg").read_bytes())


def test_a_clean_set(raw: Path) -> None:
    result = run("check", raw)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == f"{raw}: clean (5 frames, layout ivslab)"
    assert re.search(r"^train +4 +2 +4 +0 +0$", result.stdout, re.M)
    assert re.search(r"^vehicle +5 +0 +0 +5 +0$", result.stdout, re.M)
    assert "problem" not in result.stdout


def test_a_dirty_set(raw: Path) -> None:
    soil(raw)
    result = run("check", raw)
    assert result.exit_code == 1
    assert "4 problems of 4 kinds" in result.stdout.splitlines()[0]
    rows = dict(
        re.findall(r"^(outside_box|unreadable_image|leaked_frame|duplicate_image) +(\d+) ", result.stdout, re.M)
    )
    assert rows == {"outside_box": "1", "unreadable_image": "1", "leaked_frame": "1", "duplicate_image": "1"}
    assert "a.mp4/1#0: expected inside 320x180, found 50, 40, 400, 140" in result.stdout


def test_json_holds_everything_and_nothing_else_is_printed(raw: Path) -> None:
    soil(raw)
    result = run("check", raw, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["clean"] is False and document["layout"] == "ivslab" and document["frames"] == 5
    assert sum(document["problems"].values()) == len(document["problem_list"]) == 4
    assert {row["kind"] for row in document["problem_list"]} == document["problems"].keys()
    clean = json.loads(run("check", raw, "--json", "--near", 0).stdout)
    assert clean["problems"] == document["problems"]  # these copies have the same bytes


class Page(HTMLParser):
    """Collects what a page shows and where it would fetch something from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found["src"] or "")
            assert found["alt"]
        elif found.get("src") or found.get("href"):
            self.links.append(found.get("src") or found.get("href") or "")


def test_the_page_shows_each_kind_and_fetches_nothing(raw: Path, tmp_path: Path) -> None:
    soil(raw)
    page = tmp_path / "check.html"
    assert run("check", raw, "--html", page).exit_code == 1
    text = page.read_text()
    found = Page(text)
    assert not found.links and not found.tags & {"script", "link", "iframe"}
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in found.pictures)
    assert len(found.pictures) == 1 + 2 + 2  # the box; two views each of the leak and the double; no broken image
    for kind in ("outside_box", "unreadable_image", "leaked_frame", "duplicate_image"):
        assert f'id="{kind}"' in text
    assert run("check", raw / "ivslab_test", "--html", page).exit_code == 0
    assert "Clean" in page.read_text()


def test_names_cannot_break_out_of_the_page(raw: Path, tmp_path: Path) -> None:
    label = raw / "ivslab_train/Annotations/All/a.mp4/1.xml"
    label.write_text(label.read_text().replace("vehicle", "&lt;script&gt;alert(1)&lt;/script&gt;"))
    run("check", raw, "--html", tmp_path / "check.html")
    text = (tmp_path / "check.html").read_text()
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text


def test_names_do_nothing_in_a_terminal_or_a_shell(raw: Path) -> None:
    """Neither a category that is to be typed again, nor a file's name that moves the cursor."""
    label = raw / "ivslab_train/Annotations/All/a.mp4/1.xml"
    label.write_text(label.read_text().replace("vehicle", "car; touch /x #"))
    images = raw / "ivslab_train/JPEGImages/All/b.mp4"
    (images / "\x1b[2J.jpg").write_bytes((images / "2.jpg").read_bytes()[:-300])
    said = run("check", raw).stdout
    assert "name all that are: --categories '...,car; touch /x #'" in said
    assert "\x1b" not in said and "x1b[2J" in said


def test_usage_errors(raw: Path, tmp_path: Path) -> None:
    assert "nothing there" in refused(run("check", tmp_path / "absent"))
    assert "expected ivslab frames" in refused(run("check", raw / "ivslab_test/JPEGImages", "--layout", "ivslab"))
    assert "existing folder" in refused(run("check", raw, "--html", tmp_path / "no/where.html"))
    assert "at least one category" in refused(run("check", raw, "--categories", " , "))
    assert run("check", raw, "--layout", "coco").exit_code == 2
    assert run("check", raw, "--near", 300).exit_code == 2
    (tmp_path / "folder.html").mkdir()
    result = run("check", raw, "--html", tmp_path / "folder.html")
    assert result.exit_code == 2 and "cannot be written" in result.stderr


def test_options_of_the_command_are_those_of_the_library() -> None:
    options = {option.name: option for option in check_command.params}
    assert options["near"].default == NEAR_BITS
    assert list(options["layout"].type.choices) == list(Layout)
    assert list(export_command.params[1].type.choices) == list(ExportFormat)


def test_categories_of_ones_own(raw: Path) -> None:
    result = run("check", raw, "--categories", "car, vehicles")
    assert result.exit_code == 1
    assert "vehicle (unknown)" in result.stdout and "did you mean vehicles?" in result.stdout
    assert run("check", raw, "--categories", "car,Vehicle").exit_code == 0


def test_show_draws_boxes(prepared: Path, tmp_path: Path) -> None:
    result = run("show", prepared, "--out", tmp_path / "new/sheet.png", "--n", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"3 frames of 4 in split train → {tmp_path / 'new/sheet.png'}\n"
    sheet = cv2.imread(str(tmp_path / "new/sheet.png"))
    assert sheet.shape[1] > 3 * 480 and sheet.shape[0] > 270
    blue = (np.abs(sheet.astype(int) - (0xE9, 0xB4, 0x56)) < 12).all(axis=2)  # the first class's colour, #56B4E9
    assert blue.sum() > 500
    again = run("show", prepared, "--out", tmp_path / "again.png", "--n", 3)
    assert again.exit_code == 0 and (tmp_path / "again.png").read_bytes() == (tmp_path / "new/sheet.png").read_bytes()
    run("show", prepared, "--out", tmp_path / "other.png", "--n", 3, "--seed", 5)
    assert (tmp_path / "other.png").read_bytes() != (tmp_path / "again.png").read_bytes()


def test_show_says_what_it_cannot_show(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert "expected a file name that ends in .png" in refused(run("show", prepared, "--out", tmp_path / "sheet.jpg"))
    assert "expected a prepared set" in refused(run("show", tmp_path, "--out", out))
    assert "split 'val'; found annotations_test.json" in refused(run("show", prepared, "--split", "val", "--out", out))
    assert "cannot be written" in refused(run("show", prepared, "--out", prepared / "report.json/sheet.png"))
    document = json.loads((prepared / "annotations_train.json").read_text())
    document["images"][0]["offset"] += 99
    (prepared / "annotations_train.json").write_text(json.dumps(document))
    result = run("show", prepared, "--out", out)
    assert result.exit_code == 3 and "not shown: " in result.stderr and "3 frames of 4" in result.stdout
    document["images"] = []
    document["annotations"] = []
    (prepared / "annotations_train.json").write_text(json.dumps(document))
    assert "found none" in refused(run("show", prepared, "--out", out))


@pytest.mark.parametrize("format_", ["coco", "yolo"])
def test_export(prepared: Path, tmp_path: Path, format_: str) -> None:
    result = run("export", prepared, "--format", format_, "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "train: 4 frames, 4 boxes\n" in result.stdout and "test: 1 frame, 1 box\n" in result.stdout
    assert len(list((tmp_path / "out/images/train").iterdir())) == 4
    assert "expected a new or empty folder" in refused(run("export", prepared, "--format", format_, "--out", tmp_path))


def test_export_with_a_damaged_picture(prepared: Path, tmp_path: Path) -> None:
    document = json.loads((prepared / "annotations_test.json").read_text())
    document["images"][0]["nbytes"] = 20
    (prepared / "annotations_test.json").write_text(json.dumps(document))
    result = run("export", prepared, "--format", "yolo", "--out", tmp_path / "out")
    assert result.exit_code == 3 and "damaged: test: c.mp4/1.jpg" in result.stderr


def test_check_reads_a_pipeline_s_own_folder_as_the_pipeline_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [{"category": "tram", "box2d": {"x1": 10, "y1": 5, "x2": 40, "y2": 30}}]
    for number in range(12):
        path = tmp_path / f"mine/images/car{number % 6}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), view(10 * number))
    names = [path.name for path in sorted((tmp_path / "mine/images").iterdir())]
    (tmp_path / "mine/labels").mkdir()
    (tmp_path / "mine/labels/all.json").write_text(json.dumps([{"name": name, "labels": labels} for name in names]))
    params = {"fetch_bdd100k": {"path": "mine"}, "fetch_ivslab": {"path": "other"}, "seed": 1}
    section = {"class_map": {"tram": "vehicle"}, "video_from": "(car.)-", "split": {"val": 0.4, "test": 0.0}}
    params |= {"prepare_bdd100k": section, "prepare_ivslab": section}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["data", "check", "mine", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["categories"]["tram"]["known"] is True
    assert document["splits"].keys() == {"train", "val"}
    assert sum(row["videos"] for row in document["splits"].values()) == 6
    monkeypatch.chdir(tmp_path / "mine")  # no pipeline here
    document = json.loads(CliRunner().invoke(main, ["data", "check", ".", "--json"]).stdout)
    assert (document["splits"].keys(), document["problems"]) == ({""}, {"unknown_category": 12})
