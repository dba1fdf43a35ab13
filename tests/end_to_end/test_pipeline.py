"""The whole pipeline by a real `dvc repro` in a copy of the project, on a budget of seconds."""

import io
import json
import re
import sqlite3
import sys
from contextlib import redirect_stdout
from pathlib import Path

import onnx
import pytest
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.end_to_end.project import GIT_AUTHOR, change, run
from tests.helpers.browser import check_page, open_browser


@pytest.fixture(scope="module")
def reproduced(project: Path) -> Path:
    done = run(project, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not (project / "data/reports/registration.json").exists()  # no stage changes a registry
    done = run(project, sys.executable, "-m", "steps", "register")
    assert done.returncode == 0, done.stderr[-3000:]
    return project


def test_every_promised_file_is_there(reproduced: Path) -> None:
    metrics = json.loads((reproduced / "data/reports/metrics.json").read_text())
    for who in ("teacher", "student"):
        assert 0 <= metrics[who]["map50"] <= 1
        assert set(metrics[who]["ap50"]) == {"vehicle", "pedestrian", "scooter", "bicycle"}
    assert metrics["measured_on"]["source"] == "synthetic clips"
    graph = onnx.load(reproduced / "data/export/model.fp32.onnx")
    onnx.checker.check_model(graph, full_check=True)
    plan = json.loads((reproduced / "data/export/engine_plan.json").read_text())
    assert plan["status"] == "engine not built: no CUDA device" or plan["engine"]
    page = (reproduced / "data/reports/index.html").read_text()
    assert "synthetic" in page and page.count("data:image/") >= 10
    assert (reproduced / "data/reports/index.html").stat().st_size < 5e6


def test_every_output_names_the_same_frames_and_pycocotools_finds_the_same_score(reproduced: Path) -> None:
    """The sample has unlabelled test frames; to pycocotools they would be background."""
    reports = reproduced / "data/reports"
    metrics, parity = (json.loads((reports / name).read_text()) for name in ("metrics.json", "parity.json"))
    frames = metrics["measured_on"]["frames"]
    states = json.loads((reproduced / "data/prepared/ivslab/report.json").read_text())["splits"]["test"]["states"]
    assert frames == states["labelled"] + states["empty"]
    assert parity["measured_on"]["frames"] == frames
    page = (reports / "index.html").read_text()
    named = re.findall(r"([\d,]+) (?:synthetic )?frames of ivslab test", page)
    assert len(named) >= 3 and set(named) == {f"{frames:,}"}  # the first sentence, both scores, the model card
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(reports / "evaluation/ground_truth.json"))
        run_ = COCOeval(truth, truth.loadRes(str(reports / "evaluation/student.json")), "bbox")
        run_.evaluate()
        run_.accumulate()
        run_.summarize()
    assert len(truth.getImgIds()) == frames
    assert float(run_.stats[1]) == pytest.approx(metrics["student"]["map50"], abs=1e-9)
    assert float(run_.stats[0]) == pytest.approx(metrics["student"]["map50_95"], abs=1e-9)


def test_the_report_can_be_read_on_a_desk_a_phone_and_paper(reproduced: Path, tmp_path: Path) -> None:
    with open_browser(tmp_path) as browser:
        check_page(browser, reproduced / "data/reports/index.html")


def test_dvc_shows_metrics_and_compares_plots(reproduced: Path) -> None:
    metrics = json.loads(run(reproduced, "dvc", "metrics", "show", "--json").stdout)
    assert 0 <= metrics[""]["data"]["data/reports/metrics.json"]["data"]["student"]["map50"] <= 1
    for command in (["git", "add", "-A"], [*GIT_AUTHOR, "commit", "-qm", "reproduced"]):
        assert run(reproduced, *command).returncode == 0
    plots = json.loads(run(reproduced, "dvc", "plots", "diff", "HEAD", "--json").stdout)
    assert not plots.get("errors")
    assert plots["data"].keys() == {"Precision and recall at IoU 0.5", "Training", "Confusion of the student"}
    for (plot,) in plots["data"].values():
        assert set(plot["revisions"]) == {"HEAD", "workspace"}
        assert plot["content"]["data"]["values"]


def test_the_quarantine_holds_the_planted_dirt(reproduced: Path) -> None:
    report = json.loads((reproduced / "data/prepared/ivslab/report.json").read_text())
    kinds = {finding["kind"] for finding in report["findings"]}
    assert {"missing_image", "unreadable_image", "unreadable_label", "nan_box", "inverted_box", "outside_box"} <= kinds
    assert all(finding["item"] and finding["expected"] for finding in report["findings"])
    clean = json.loads((reproduced / "data/prepared/bdd100k/report.json").read_text())
    assert clean["findings"] == []  # no dirt is planted there, so every finding would be a reader's mistake


def test_mlflow_holds_the_runs_and_version_1(reproduced: Path) -> None:
    with sqlite3.connect(f"file:{reproduced / 'mlflow.db'}?mode=ro", uri=True) as database:
        runs = dict(database.execute("select name, status from runs"))
        versions = database.execute("select name, version from model_versions").fetchall()
        tags = dict(database.execute("select key, value from model_version_tags"))
        metrics = {name for (name,) in database.execute("select distinct key from metrics")}
    trainings = {"pretrain_teacher", "train_teacher", "pretrain_student", "distill_student"}
    stages = {"prepare_bdd100k", "prepare_ivslab", *trainings, "evaluate", "report", "register"}
    assert {name: status for name, status in runs.items() if name in stages} == dict.fromkeys(stages, "FINISHED")
    assert versions == [("mobile-centernet", 1)]
    assert {"git_commit", "params_sha256", "bdd100k_sha256", "ivslab_sha256", "map50", "onnx_sha256"} <= set(tags)
    assert {"loss/heatmap", "loss/pairwise", "map50", "student.map50"} <= metrics
    assert {"train/frames", "train/near_copies", "test/leaked_frames", "quarantined/nan_box"} <= metrics
    quarantine = (reproduced / "data/prepared/ivslab/report.json").read_bytes()
    assert quarantine in {path.read_bytes() for path in (reproduced / "mlartifacts").rglob("report.json")}


def test_data_is_on_the_disk_once(reproduced: Path) -> None:
    shards, frames = (
        list(reproduced.glob(pattern)) for pattern in ("data/prepared/*/*.tar", "data/raw/*/footage/**/*.jpg")
    )
    assert shards and len(frames) > 20
    # The cache's file and the workspace's are one: DVC keeps a copy of its own where `reflink` stands in cache.type.
    assert {path.stat().st_nlink for path in frames} == {2}
    # So is what prepare keeps in .work, from which it takes unchanged frames the next time.
    assert {path.stat().st_nlink for path in shards} == {3}


def test_a_second_repro_does_nothing(reproduced: Path) -> None:
    again = run(reproduced, "dvc", "repro")
    assert again.returncode == 0
    assert "Data and pipelines are up to date." in again.stdout
    assert "Running stage" not in again.stdout


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("subsample_ivslab.stride", 5, {"subsample_ivslab"}),
        ("class_weights.gamma", 0.5, {"class_weights"}),
        ("loss.lambda_pairwise", 5.0, {"pretrain_student", "distill_student"}),
        ("unlabelled.mode", "skip", {"pseudo_label", "pretrain_student", "distill_student"}),
        ("distill_student.finetune.epochs", 2, {"distill_student"}),
        ("report.score_threshold", 0.5, {"report"}),
        ("evaluate.split", "val", {"evaluate", "export", "report"}),
        ("export.parity_frames", 3, {"export"}),
        ("register.name", "another", {"fetch_champion"}),
    ],
)
def test_a_changed_value_touches_the_stages_that_read_it_and_no_other(
    reproduced: Path, key: str, value: object, stages: set[str]
) -> None:
    before = (reproduced / "params.yaml").read_text()
    params = yaml.safe_load(before)
    change(params, key, value)
    (reproduced / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    try:
        status = json.loads(run(reproduced, "dvc", "status", "--json").stdout)
    finally:
        (reproduced / "params.yaml").write_text(before)
    assert set(status) == stages


def test_the_same_file_is_not_registered_twice(reproduced: Path) -> None:
    again = run(reproduced, sys.executable, "-m", "steps", "register")
    assert again.returncode == 0, again.stderr
    assert "version 1 already holds these files" in again.stderr


def test_the_summary_says_what_came_out(reproduced: Path) -> None:
    summary = run(reproduced, sys.executable, "-m", "steps.summary").stdout
    for part in (
        "teacher",
        "student",
        "synthetic clips",
        "data/reports/index.html",
        "mlflow ui",
        "dvc push",
        "machine_learning",
    ):
        assert part in summary


def test_a_misspelt_key_is_one_sentence(reproduced: Path) -> None:
    before = (reproduced / "params.yaml").read_text()
    (reproduced / "params.yaml").write_text(before.replace("jpeg_quality", "jpg_quality"))
    try:
        failed = run(reproduced, sys.executable, "-m", "steps", "prepare_bdd100k")
    finally:
        (reproduced / "params.yaml").write_text(before)
    assert failed.returncode == 2
    assert "store.jpg_quality: unknown key" in failed.stderr
    assert "Traceback" not in failed.stderr
