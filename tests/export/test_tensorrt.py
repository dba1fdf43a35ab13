"""The build plan: what is written where there is no GPU, and the exact command of every TensorRT generation."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mobile_centernet.errors import ModelError, UserError
from mobile_centernet.export import tensorrt
from mobile_centernet.export.onnx import read_graph, write_graph
from mobile_centernet.export.tensorrt import provide_engines


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_auto_without_a_gpu_writes_the_plan(exported: Path, tmp_path: Path) -> None:
    report = provide_engines([exported], tmp_path / "out", "auto")
    assert report.status == "engine not built: no CUDA device"
    assert report.engines == {}
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["engine_plan.json"]
    plan = json.loads((tmp_path / "out" / "engine_plan.json").read_text())
    assert plan["status"] == report.status
    (model,) = plan["models"]
    assert (model["onnx"], model["precision"], model["engine"]) == ("model.fp32.onnx", "fp32", None)
    assert model["onnx_sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert [command["tensorrt"] for command in model["commands"]] == ["8.2", "8.6", "10", "11"]


@pytest.mark.usefixtures("no_cuda")
def test_the_plan_is_the_same_everywhere(exported: Path, tmp_path: Path) -> None:
    """It is an output of a cached stage: no path of this machine, no date."""
    for folder in ("a", "b"):
        provide_engines([exported], tmp_path / folder, "auto")
    assert (tmp_path / "a/engine_plan.json").read_bytes() == (tmp_path / "b/engine_plan.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a/engine_plan.json").read_text()


@pytest.mark.usefixtures("no_cuda")
def test_required_without_a_gpu_is_an_error(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no CUDA device, but export\.tensorrt is 'required'"):
        provide_engines([exported], tmp_path, "required")


def test_off_writes_nothing_and_says_so(exported: Path, tmp_path: Path) -> None:
    report = provide_engines([exported], tmp_path / "out", "off")
    assert report.status == "engine not built: export.tensorrt is off"
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not ONNX")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        provide_engines([tmp_path / "model.onnx"], tmp_path, "auto")


def test_a_gpu_without_tensorrt_is_told(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda _name: None)
    assert "not installed" in provide_engines([exported], tmp_path, "auto").status


@pytest.fixture
def commands(no_cuda: None, exported: Path, tmp_path: Path, precision: str) -> dict[str, str]:
    """trtexec's lines by generation, for a file that says it is of this precision."""
    model = tmp_path / f"model.{precision}.onnx"
    graph, metadata = read_graph(exported)
    write_graph(model, graph, replace(metadata, precision=precision))
    provide_engines([model], tmp_path, "auto")
    (planned,) = json.loads((tmp_path / "engine_plan.json").read_text())["models"]
    return {command["tensorrt"]: command["command"] for command in planned["commands"]}


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", {"8.2": {"--fp16"}, "8.6": {"--noTF32"}, "10": {"--stronglyTyped", "--noTF32"}, "11": {"--noTF32"}}),
        ("fp16", {"8.6": {"--fp16"}, "10": {"--stronglyTyped"}, "11": set()}),
        ("int8", {"8.6": {"--int8"}, "10": {"--stronglyTyped"}, "11": set()}),
    ],
)
def test_precision_flags_of_every_generation(commands: dict[str, str], expected: dict[str, set[str]]) -> None:
    """8.x is weakly typed, 10 asks for strong typing, 11 has no flags left; the TX2 (8.2) makes its own float16."""
    flags = {"--fp16", "--int8", "--stronglyTyped", "--noTF32", "--best", "--calib"}
    assert {version: flags & set(command.split()) for version, command in commands.items()} == expected


@pytest.mark.parametrize("precision", ["fp32"])
def test_the_tx2s_command_to_the_letter(commands: dict[str, str]) -> None:
    """TensorRT 8.2 knows neither --memPoolSize nor --skipInference."""
    assert commands["8.2"] == (
        "trtexec --onnx=model.fp32.onnx --saveEngine=model.fp32.tx2-fp16.engine --fp16 --workspace=1024 "
        "--timingCacheFile=timing.cache --buildOnly"
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_newer_ones_share_their_options(commands: dict[str, str], precision: str) -> None:
    newer = [command for version, command in commands.items() if version != "8.2"]
    assert len(newer) == 3
    for command in newer:
        assert command.startswith(f"trtexec --onnx=model.{precision}.onnx --saveEngine=model.{precision}.engine")
        assert command.endswith("--memPoolSize=workspace:1024 --timingCacheFile=timing.cache --skipInference")
