"""The stage export: its files, what parity.json says of each, and what becomes of one that is past its limits."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
import yaml

from mobile_centernet.inference.onnx import Detector
from mobile_centernet.mlops import paths
from mobile_centernet.models.checkpoint import save_model
from mobile_centernet.models.variants import build_model
from steps.__main__ import main
from steps.export import export
from tests.export.small_set import CLASSES, PICTURE, small_set
from tests.helpers.programs import exit_code
from tests.helpers.shipped import shipped_params

ROOT = Path(__file__).resolve().parents[2]
STUDENT = paths.STUDENT / paths.MODEL_FILE
ALL = ("fp32", "fp16", "int8", "int8_cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages before have left: a prepared set and a student that differs from place to place."""
    root = tmp_path_factory.mktemp("project")
    prepared = small_set(tmp_path_factory.mktemp("set"))
    shutil.copytree(prepared, root / paths.PREPARED / "ivslab")
    torch.manual_seed(0)
    student = build_model("hrnet_w16_lite", len(CLASSES))
    with torch.no_grad():
        student.heatmap_head.out.weight.mul_(20)
        student.size_head.out.bias.fill_(5)
    (root / paths.STUDENT).mkdir(parents=True)
    save_model(student, root / STUDENT, classes=CLASSES, input_size=PICTURE)
    shutil.copy(ROOT / "dvc.yaml", root)
    return root


def run(project: Path, monkeypatch: pytest.MonkeyPatch, **precisions: dict[str, Any]) -> int:
    """The stage as `python -m steps` runs it; `precisions` change that part of params.yaml."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    section = params["export"]
    section |= {"parity_frames": 2, "tensorrt": "auto"}
    section["calibration"] = {"frames": 3, "methods": ["minmax"], "validation_frames": 3}
    if precisions:
        section["precisions"] = {name: section["precisions"][name] | rule for name, rule in precisions.items()}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(project)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return exit_code(main, "export")


def parity(project: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((project / paths.PARITY).read_text())
    return report


@pytest.fixture(scope="module")
def done(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the stage with all precisions, which an untrained student passes: it has no mAP to lose."""
    project = tmp_path_factory.mktemp("done") / "project"
    shutil.copytree(made, project)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run(project, monkeypatch) == 0
    return project


def test_a_file_for_every_precision_that_runs_without_this_package(done: Path) -> None:
    assert sorted(path.name for path in (done / paths.EXPORT).iterdir()) == [
        "engine_plan.json",
        *sorted(f"model.{precision}.onnx" for precision in ALL),
    ]
    for precision in ALL:
        path = done / paths.EXPORT / f"model.{precision}.onnx"
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert [node.name for node in session.get_outputs()] == ["boxes", "scores", "labels"]
        assert Detector(path).metadata.precision == precision.removesuffix("_cpu")


def test_parity_tells_of_every_file(done: Path) -> None:
    report = parity(done)
    assert report["measured_on"] == {"set": "ivslab test", "frames": 5}  # of 6, nobody knows what one shows
    assert report["torch"]["ap50"].keys() == set(CLASSES)
    for precision in ALL:
        row = report[precision]
        assert row["status"] == "exported" and row["passed"] and row["objections"] == []
        assert row["file"] == f"model.{precision}.onnx"
        assert row["bytes"] == (done / paths.EXPORT / row["file"]).stat().st_size
        assert row["map50_drop"] == pytest.approx(report["torch"]["map50"] - row["map50"])
        assert row["ap50"].keys() == set(CLASSES)
        assert {tensor["tensor"] for tensor in row["tensors"]} == {"boxes", "scores"}
        assert row["images"] == 2 and row["confident"]["threshold"] == 0.3
    differences = [report[precision]["tensors"][1]["mean_abs"] for precision in ("fp32", "fp16", "int8")]
    assert differences == sorted(differences) and differences[0] < 1e-6 < differences[1]


def test_the_choice_for_int8_is_on_record(done: Path) -> None:
    for precision in ("int8", "int8_cpu"):
        calibration = parity(done)[precision]["calibration"]
        assert calibration["judged_on"] == "ivslab val"
        assert [trial["float_layers"] for trial in calibration["trials"]] == ["none", "outputs", "ends"]
        assert {trial["symmetric"] for trial in calibration["trials"]} == {precision == "int8"}
        assert calibration["chosen"] in calibration["trials"]
    assert "calibration" not in parity(done)["fp16"]


def test_the_plan_is_for_the_files_that_tensorrt_takes(done: Path) -> None:
    plan = json.loads((done / paths.EXPORT / "engine_plan.json").read_text())
    assert plan["status"] == parity(done)["engine"]["status"] == "engine not built: no CUDA device"
    assert [model["onnx"] for model in plan["models"]] == ["model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx"]
    assert parity(done)["engine"]["measured"] == {}


def test_a_second_run_writes_the_same_bytes(done: Path, made: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        shutil.copytree(made, tmp_path / "again")
        assert run(tmp_path / "again", monkeypatch, fp32={}, fp16={}) == 0
    for precision in ("fp32", "fp16"):
        name = paths.EXPORT / f"model.{precision}.onnx"
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes()
    assert not (tmp_path / "again" / paths.EXPORT / "model.int8.onnx").exists()  # it was not asked for


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "project")
    return tmp_path / "project"


def test_past_a_limit_the_stage_fails_but_says_so_in_full(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(project, monkeypatch, fp32={}, fp16={"scores": 1e-9}) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: export: data/export/model.fp16.onnx: scores differ by up to ")
    assert "(limit 1e-09)" in said
    row = parity(project)["fp16"]
    assert row["status"] == "failed" and not row["passed"] and parity(project)["fp32"]["passed"]


def test_one_that_is_not_required_is_withdrawn(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run(project, monkeypatch, fp32={}, fp16={"scores": 1e-9, "required": False}) == 0
    assert "withdrawn" in capsys.readouterr().err + caplog.text
    assert not (project / paths.EXPORT / "model.fp16.onnx").exists()
    row = parity(project)["fp16"]
    assert (row["status"], row["passed"]) == ("withdrawn", False) and "scores differ" in row["objections"][0]
    plan = json.loads((project / paths.EXPORT / "engine_plan.json").read_text())
    assert [model["onnx"] for model in plan["models"]] == ["model.fp32.onnx"]


def test_model_and_data_of_different_classes_are_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(build_model("hrnet_w16_lite", 2), project / STUDENT, classes=("bus", "tram"), input_size=PICTURE)
    assert run(project, monkeypatch, fp32={}) == 2
    expected = "expected the classes of data/models/student/model.safetensors, ['bus', 'tram'], found ['car', 'bus']"
    assert capsys.readouterr().err == f"error: export: data/prepared/ivslab: {expected}\n"
    assert not (project / paths.EXPORT).exists()


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_student_that_cannot_be_read_is_one_sentence(
    content: bytes | None, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (project / STUDENT).unlink()
    else:
        (project / STUDENT).write_bytes(content)
    assert run(project, monkeypatch, fp32={}) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(STUDENT) in said


def test_tensorrt_required_without_a_gpu_fails(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(project, monkeypatch, fp32={})
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["export"]["tensorrt"] = "required"
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    assert exit_code(main, "export") == 2
    assert "no CUDA device, but export.tensorrt is 'required'" in capsys.readouterr().err


def test_the_shipped_params_export_every_precision_and_require_what_is_sure() -> None:
    sample, paper = (shipped_params(*overlays).export.precisions.wanted for overlays in ((), ("paper",)))
    assert tuple(sample) == tuple(paper) == ALL
    assert (sample["fp32"].scores, sample["fp32"].boxes) == (1e-4, 0.05)
    for rules in (sample, paper):
        assert [rules[name].map50_drop for name in ("fp16", "int8")] == [0.002, 0.01]
    assert [name for name, rule in sample.items() if rule.required] == ["fp32", "fp16"]
    assert [name for name, rule in paper.items() if rule.required] == ["fp32", "fp16", "int8"]
    assert export.__doc__ and "withdrawn" in export.__doc__
