"""The page holds every section, says what was not measured, and needs nothing from outside."""

import base64
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.evaluation.bootstrap import MapDifference
from mobile_centernet.evaluation.error_analysis import AgreementRow, OperatingPoint
from mobile_centernet.evaluation.slices import Slice
from mobile_centernet.reports.page import Picture, percent, scale, score, signed, write_page
from mobile_centernet.reports.run_page import (
    ApRow,
    CheckedSet,
    ClassRow,
    DataSection,
    DistillationGain,
    DrawnFrame,
    FindingGroup,
    Gallery,
    Latency,
    LatencyRow,
    Lineage,
    ModelCard,
    ParamsDifference,
    ParityRow,
    ReportContent,
    Score,
    SliceGroup,
    SplitRow,
    group_findings,
    verdict,
    weak_spots,
)

SECTIONS = (
    "models ap ablation mistakes slices detections export latency data findings training card lineage".split()  # noqa: SIM905 (reads as a line)
)


def picture(alt: str, extension: str = ".png") -> Picture:
    return Picture(cv2.imencode(extension, np.full((4, 4, 3), 200, np.uint8))[1].tobytes(), alt, f"{alt} caption")


POINT = OperatingPoint(0.3, objects=200, reported=120, correct=90)
STUDENT = Score("student", "hrnet_w16", 0.4321, 1240, "ivslab test", True, 1_616_000, 5_600_000_000, 6_500_000, POINT)
TEACHER = replace(STUDENT, role="teacher", model="hrnet_w32", map50=0.5, params=None, conv_macs=None, file_bytes=None)
COMPARISON = DistillationGain(
    "taught",
    "plain",
    MapDifference(0.031, -0.002, 0.06, np.zeros(1)),
    3,
    {"Rows, on 1,240 frames": (["row", "gain"], [["taught", "+0.031"]])},
    "Mean over the seeds.",
)
FULL = ReportContent(
    title="Run seven",
    classes=("vehicle", "<script>alert(1)</script>"),
    scores=(TEACHER, STUDENT),
    data=DataSection(
        (SplitRow("ivslab", "train", 1000, 20, 3, 4567),),
        (ClassRow("vehicle", 4000, 1.0), ClassRow("<script>alert(1)</script>", 567, None)),
        picture("frequencies"),
        picture("contact sheet", ".jpg"),
    ),
    checked=(
        CheckedSet(
            "ivslab",
            (FindingGroup("nan_box", "a coordinate is not a finite number", "quarantined", 7, ("a.xml#3: nan",)),),
            {"tram": 12},
            leaked_frames=2,
            leaked_videos=1,
        ),
        CheckedSet("bdd100k", (), {}, 0, 0),
    ),
    average_precision=(ApRow("vehicle", 4000, 0.5, 0.4321), ApRow("<script>alert(1)</script>", 0, None, None)),
    agreement=(AgreementRow("vehicle", 31, 7, 3, 11),),
    slices=(SliceGroup("Time of day", (Slice("night", 12, 0, None),)),),
    distillation=COMPARISON,
    pr_curves=picture("precision and recall"),
    training_curves=(picture("teacher's training"), picture("student's training")),
    confusion=picture("confusion"),
    false_alarms=Gallery(30, (("double", "one more box", 30),), (picture("alarm", ".jpg"),)),
    misses=Gallery(4, (("not seen", "no box near", 4),), (picture("miss", ".jpg"),)),
    detections=(DrawnFrame("clip/frame", (picture("truth", ".jpg"), picture("found", ".jpg"))),),
    parity=(
        ParityRow("fp16", "model.fp16.onnx", 3_390_000, 0.43, 0.002, 0.005, True, {"boxes": 0.12}),
        ParityRow("int8", "model.int8.onnx", 1_980_000, None, None, None, False, {}, "withdrawn"),
    ),
    latency=Latency((LatencyRow("int8", "onnxruntime cpu", 12.3, 14, 15, 80, 99, {"network": 9.9}),), "on 2 cores"),
    engine_status="TensorRT engine not built: no CUDA device.",
    card=ModelCard((320, 576), ("bdd100k, synthetic clips: 9 labelled frames",), True, ("Weak on bicycle: 0.100",)),
    lineage=Lineage(
        "0123abc",
        "md5:1",
        {"data/prepared": "md5:2.dir"},
        {"torch": "2.13.0"},
        (ParamsDifference("input_size.width", "192", "576"),),
    ),
)


class Page(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"  # neighbouring cells have nothing between them


def written(tmp_path: Path, content: ReportContent) -> str:
    page = tmp_path / "report.html"
    write_page(page, "report.html.j2", content=content, verdict=verdict(content.scores))
    return page.read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", Page(html.split("</style>")[1]).text)


@pytest.mark.parametrize("content", [FULL, ReportContent("Empty")], ids=["full", "empty"])
def test_every_section_is_there_and_reached_from_the_top(tmp_path, content):
    page = Page(written(tmp_path, content))
    assert [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")] == SECTIONS
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert links == [f"#{section}" for section in SECTIONS]


def test_the_full_page_shows_what_it_was_given(tmp_path):
    html = written(tmp_path, FULL)
    text = text_of(html)
    for expected in (
        "0.500", "0.432", "1,240 frames of ivslab test synthetic", "1.62 M parameters", "5.6 GMAC a frame",
        "4,567", "nan box", "a.xml#3: nan", "−0.068", "Time of day", "3.39 MB", "boxes 0.12", "within limit",
        "past limit, withdrawn", "no CUDA device", "0123abc", "md5:2.dir", "2.13.0", "clip/frame",
        "of the objects found, at a score of 0.3 45%", "reported right, at the same score 75%", "6.5 MB of weights",
        "31 7 3 11", "False alarms 30", "Missed objects 4", "12.3 ms", "network 9.9", "tram 12", "nothing had to be",
        "1 videos stand in two", "576×320", "Measured on synthetic clips alone.", "Weak on bicycle",
        "input_size.width 192 576",
    ):  # fmt: skip
        assert expected in text, expected
    assert html.count("<img") == 10
    assert 'class="absent"' not in html


def test_the_empty_page_says_so_in_every_section(tmp_path):
    html = written(tmp_path, ReportContent("Empty"))
    for body in re.findall(r"<section.*?</section>", html, re.DOTALL):
        assert 'class="absent"' in body
    assert "<img" not in html


@pytest.mark.parametrize("part", [item.name for item in fields(ReportContent) if item.name not in ("title", "classes")])
def test_each_part_may_be_missing_alone(tmp_path, part):
    default = {item.name: item.default for item in fields(ReportContent)}[part]
    html = written(tmp_path, replace(FULL, **{part: default}))
    quiet = {"agreement"}  # a part of a section that has more
    assert ('class="absent"' in html) == (part not in quiet)


def test_checked_and_clean_is_told_from_not_checked(tmp_path):
    clean = replace(FULL, checked=(CheckedSet("ivslab", (), {}, 0, 0),))
    assert "nothing had to be dropped" in written(tmp_path, clean)
    assert "No view and no video is in two splits" in written(tmp_path, clean)
    assert "was not checked" in written(tmp_path, replace(FULL, checked=()))


def test_no_mistakes_is_told_from_not_looked(tmp_path):
    assert "<p>None.</p>" in written(tmp_path, replace(FULL, misses=Gallery(0, (), ())))
    assert "Missed objects were not looked for" in written(tmp_path, replace(FULL, misses=None))


def test_real_footage_is_not_called_synthetic(tmp_path):
    real = replace(FULL, scores=(replace(STUDENT, synthetic=False),), card=replace(FULL.card, synthetic=False))
    assert "synthetic clips, which" in written(tmp_path, FULL)
    text = text_of(written(tmp_path, real))
    assert "synthetic clips, which" not in text and "Measured on synthetic" not in text


def test_nothing_comes_from_outside_and_nothing_runs(tmp_path):
    html = written(tmp_path, FULL)
    page = Page(html)
    assert "script" not in page.tags
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster"):
            assert value.startswith(("data:image/", "#")), (tag, name, value)
        assert not name.startswith("on")
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import", html)


def test_names_are_escaped(tmp_path):
    html = written(tmp_path, FULL)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;b&gt;" in written(tmp_path, replace(FULL, title="<b>", engine_status='"><img src=x onerror=y>'))


def test_pictures_are_inline_and_survive(tmp_path):
    uris = re.findall(r'src="data:(image/\w+);base64,([^"]+)"', written(tmp_path, FULL))
    assert [mime for mime, _ in uris].count("image/jpeg") == 5
    assert base64.b64decode(uris[0][1]) == FULL.pr_curves.data
    with pytest.raises(ValueError, match="expected PNG or JPEG"):
        _ = Picture(b"<svg>", "drawing").uri


def test_the_same_content_gives_the_same_bytes_and_no_leftovers(tmp_path):
    assert written(tmp_path, FULL) == written(tmp_path, FULL)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    written(tmp_path, FULL)
    with pytest.raises(ValueError, match="expected PNG or JPEG"):
        written(tmp_path, replace(FULL, confusion=Picture(b"", "broken")))
    assert "Run seven" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_findings_are_counted_by_kind_and_action():
    def finding(kind: str, action: str, item: str) -> dict[str, str]:
        return {"kind": kind, "action": action, "item": item, "expected": "", "found": "x"}

    groups = group_findings(
        [finding("nan_box", "quarantined", "a"), finding("outside_box", "repaired", "b")]
        + [finding("outside_box", "repaired", str(i)) for i in range(4)]
        + [finding("outside_box", "ignored", "c")],
        examples=2,
    )
    assert [(row.kind, row.action, row.count) for row in groups] == [
        ("outside_box", "repaired", 5),
        ("nan_box", "quarantined", 1),
        ("outside_box", "ignored", 1),
    ]
    assert groups[0].examples == ("b: x", "0: x")
    assert groups[0].meaning == "the box reaches outside the image"


UNMEASURED = "; what distillation brought is not measured in this run: make ablation does that."


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((STUDENT,), "The student reaches 0.432 mAP@0.5 on 1,240 synthetic frames of ivslab test"),
        (
            (TEACHER, STUDENT),
            "The student reaches 0.432 mAP@0.5, its teacher 0.500, on 1,240 synthetic frames of ivslab test",
        ),
        (
            (replace(TEACHER, frames=10), replace(STUDENT, synthetic=False)),
            "The student reaches 0.432 mAP@0.5 on 1,240 real frames of ivslab test",
        ),
    ],
)
def test_verdict_names_both_where_they_were_measured_on_the_same_frames_and_what_was_not_measured(scores, expected):
    assert verdict(scores) == expected + UNMEASURED


def test_verdict_tells_what_distillation_brought_where_an_ablation_measured_it():
    assert verdict((TEACHER, STUDENT), COMPARISON) == (
        "The student reaches 0.432 mAP@0.5, its teacher 0.500, on 1,240 synthetic frames of ivslab test; in the "
        "ablation on these frames distillation brought +0.031 (95 %: −0.002 to +0.060, 3 seeds)."
    )


def test_verdict_without_a_student_says_so():
    assert verdict((TEACHER,)) == "The student has not been measured."


def test_weak_spots_are_named_with_what_they_were_measured_on():
    rows = (ApRow("vehicle", 400, None, 0.6), ApRow("bicycle", 40, None, 0.1), ApRow("tram", 3, None, 0.0))
    slices = (SliceGroup("Time of day", (Slice("night", 9, 20, 0.05), Slice("dawn", 1, 0, None))),)
    assert weak_spots(rows, slices, 0.4) == (
        "Weak on bicycle: 0.100, measured on 40 boxes",
        "Weak on time of day night: 0.050, measured on 20 boxes",
        "Hardly measured, on fewer than 10 boxes each: tram (3), time of day dawn (0)",
    )
    assert weak_spots(rows[:1], (), 0.4) == weak_spots(rows, slices, None) == ()


def test_numbers_are_written_alike():
    assert [score(0.12345), score(None)] == ["0.123", "–"]
    assert [signed(value) for value in (0.0501, -0.05, -0.0001, None)] == ["+0.050", "−0.050", "0.000", "–"]
    assert [percent(1, 3), percent(0, 0)] == ["33%", "–"]
    assert [scale(value) for value in (1_616_000, 29.31e9, 12)] == ["1.62 M", "29.3 G", "12 "]
