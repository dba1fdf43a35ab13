"""The pages in headless Chromium, filled with names and numbers that are longer than anyone's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mobile_centernet.evaluation.bootstrap import MapDifference
from mobile_centernet.evaluation.error_analysis import AgreementRow, OperatingPoint
from mobile_centernet.evaluation.gate import Bounds, Candidate, Facts, Limits, Scored, TestSet, decide
from mobile_centernet.evaluation.slices import Slice
from mobile_centernet.reports import page as pages
from mobile_centernet.reports.ablation import ablation_figure, ablation_table, write_ablation_page
from mobile_centernet.reports.gate_page import write_gate_page
from mobile_centernet.reports.page import Picture
from mobile_centernet.reports.run_page import (
    ApRow,
    CheckedSet,
    ClassRow,
    DataSection,
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
    verdict,
)
from tests.helpers.browser import PHONE, Browser, check_page, open_browser
from tests.reports.test_ablation import a_run

LONG = "an_unusually_long_category_name_that_nobody_broke_into_words"
FILE = "ivslab_train/JPEGImages/All/1_40_00.mp4/1_40_00.mp4_00007_and_more_of_it_without_a_single_space.jpg"
CLASSES = ("vehicle", LONG, "scooter", "bicycle")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def picture(width: int, height: int, extension: str = ".png") -> Picture:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    data = cv2.imencode(extension, cv2.resize(noise, (width, height)))[1].tobytes()
    return Picture(data, FILE, f"{LONG}: {FILE}")


def content() -> ReportContent:
    chart, photo = picture(1120, 900), picture(960, 540, ".jpg")
    score = Score(
        "student", LONG, 0.4321, 10_000_000, LONG, True, 28_600_000, 29_300_000_000, 10**9, OperatingPoint(0.3, 9, 9, 9)
    )
    crop = picture(300, 225, ".jpg")
    gallery = Gallery(1_234_567, ((LONG, LONG, 1_234_567),), (crop,) * 12)
    return ReportContent(
        title=LONG,
        classes=CLASSES,
        scores=(replace(score, role="teacher"), score),
        data=DataSection(
            (SplitRow("bdd100k", "train", 1_234_567, 123_456, 123_456, 12_345_678, 123_456),),
            tuple(ClassRow(name, 12_345_678, 10.0) for name in CLASSES),
            chart,
            picture(1480, 1090, ".jpg"),
        ),
        checked=(CheckedSet(LONG, (FindingGroup(LONG, LONG, "quarantined", 1_234_567, (FILE,)),), {LONG: 9}, 9, 9),),
        average_precision=tuple(ApRow(name, 12_345_678, 0.999, 0.123) for name in CLASSES),
        pr_curves=chart,
        agreement=tuple(AgreementRow(name, 123_456, 123_456, 123_456, 123_456) for name in CLASSES),
        slices=(SliceGroup("Weather", (Slice(LONG, 123_456, 1_234_567, 0.123),)),) * 3,
        training_curves=(chart,) * 4,
        confusion=chart,
        false_alarms=gallery,
        misses=gallery,
        detections=(DrawnFrame(FILE, (photo, photo)),) * 2,
        parity=(ParityRow(LONG, FILE, 10**9, 0.4, 0.1, 0.1, False, {f"{LONG} (px)": 1e-9}, "withdrawn"),),
        latency=Latency((LatencyRow(LONG, LONG, 12345.6, 12345.6, 12345.6, 1e5, 1e5, {LONG: 12345.6}),), LONG),
        engine_status=LONG,
        card=ModelCard((320, 576), (LONG,), True, (LONG,)),
        lineage=Lineage(
            "f" * 40, "f" * 64, {LONG: "f" * 64}, {"student": "f" * 64}, (ParamsDifference(LONG, LONG, FILE),)
        ),
    )


@pytest.mark.parametrize("filled", [content(), ReportContent("Nothing measured")], ids=["full", "empty"])
def test_the_report(browser: Browser, tmp_path: Path, filled: ReportContent) -> None:
    pages.write_page(tmp_path / "index.html", "report.html.j2", content=filled, verdict=verdict(filled.scores))
    check_page(browser, tmp_path / "index.html")


def test_the_gates_page(browser: Browser, tmp_path: Path) -> None:
    candidate = Candidate(0.45, dict.fromkeys(CLASSES, 0.5), 6.5, 21.0)
    limits = Limits(map50=0.3, ap50={"default": 0.6}, epsilon=0.01, mib=8, latency_ms=50, unseen=0.5)
    scored = dict.fromkeys(("fp32", "int8_cpu"), Scored(candidate, candidate, Bounds(0.05, 0.01, 0.09)))
    facts = Facts("123456", "123455", scored, TestSet(LONG, 80, 80), dict.fromkeys(scored, True), "fp32")
    samples = dict.fromkeys(scored, np.random.default_rng(0).normal(0.05, 0.02, 500))
    write_gate_page(tmp_path / "gate.html", decide(facts, limits), facts, limits, samples, {LONG: FILE})
    check_page(browser, tmp_path / "gate.html")


def test_the_ablations_page(browser: Browser, tmp_path: Path) -> None:
    """As many rows and classes as on real photos, and longer names."""
    runs = [
        a_run(row, seed, 0.1 + 0.01 * seed, baseline=baseline, teacher=teacher, device=LONG) | {"ap50": ap50}
        for row, baseline, teacher in (
            ("big", None, None),
            ("student", None, None),
            (f"{'distilled_' * 4}w16", "student", "big"),
        )
        for seed in (1, 2, 3)
        for ap50 in [{f"{name} {n}": 0.1 + 0.01 * seed for n in (1, 2) for name in CLASSES}]
    ]
    table = ablation_table(runs, {runs[-1]["row"]: MapDifference(0.031, 0.004, 0.059, np.zeros(1))})
    write_ablation_page(tmp_path / "ablation.html", table, runs, ablation_figure(table, runs))
    check_page(browser, tmp_path / "ablation.html")


def test_a_broken_picture_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    """The check itself: a truncated image, a blank one and a table without its scroller do not pass."""
    blank = Picture(cv2.imencode(".png", np.full((90, 90, 3), 255, np.uint8))[1].tobytes(), "blank")
    truncated = Picture(b"\x89PNG\r\n\x1a\n" + b"0" * 50, "truncated")
    for broken, complaint in ((blank, "blank: blank"), (truncated, "not loaded: truncated")):
        content = ReportContent("Broken", confusion=broken)
        pages.write_page(tmp_path / "index.html", "report.html.j2", content=content, verdict="")
        with pytest.raises(AssertionError, match=complaint):
            check_page(browser, tmp_path / "index.html")
    html = (tmp_path / "index.html").read_text().replace("</h1>", f"</h1><pre>{FILE * 3}</pre>")
    (tmp_path / "index.html").write_text(html)
    browser.open(tmp_path / "index.html", PHONE)
    assert browser.ask("return document.documentElement.scrollWidth") > PHONE[0]


def test_a_script_could_not_run(browser: Browser, tmp_path: Path) -> None:
    """Were something not escaped, the page's own policy would still stop it, and the console would say so."""
    pages.write_page(tmp_path / "index.html", "report.html.j2", content=ReportContent("x"), verdict="")
    html = (tmp_path / "index.html").read_text().replace("</body>", "<script>document.title = 'run'</script></body>")
    (tmp_path / "index.html").write_text(html)
    browser.open(tmp_path / "index.html", PHONE)
    assert browser.ask("return document.title") != "run"
    assert any("Content Security Policy" in line for line in browser.complaints())
