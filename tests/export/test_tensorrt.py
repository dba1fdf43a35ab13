"""Engine building: the plan where there is no GPU, and the calls to TensorRT's Python API where there is one."""

import hashlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mobile_centernet.errors import ModelError, UserError
from mobile_centernet.export import tensorrt
from mobile_centernet.export.tensorrt import build_commands, build_engine, build_plan


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
def test_auto_without_a_gpu_writes_the_plan(exported: Path, tmp_path: Path) -> None:
    report = build_plan(exported, tmp_path / "out", "auto")
    assert report.status == "engine not built: no CUDA device"
    assert report.engine is None
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["engine_plan.json"]
    plan = json.loads((tmp_path / "out" / "engine_plan.json").read_text())
    assert plan["status"] == report.status
    assert plan["onnx_sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert [command["tensorrt"] for command in plan["commands"]] == ["8.2", "8.6", "10", "11"]


@pytest.mark.usefixtures("no_cuda")
def test_the_plan_is_the_same_everywhere(exported: Path, tmp_path: Path) -> None:
    """It is an output of a cached stage: no path of this machine, no date."""
    for folder in ("a", "b"):
        build_plan(exported, tmp_path / folder, "auto")
    assert (tmp_path / "a/engine_plan.json").read_bytes() == (tmp_path / "b/engine_plan.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a/engine_plan.json").read_text()


@pytest.mark.usefixtures("no_cuda")
def test_required_without_a_gpu_is_an_error(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no CUDA device, but export\.tensorrt is 'required'"):
        build_plan(exported, tmp_path, "required")


def test_off_writes_nothing_and_says_so(exported: Path, tmp_path: Path) -> None:
    report = build_plan(exported, tmp_path / "out", "off")
    assert report.status == "engine not built: export.tensorrt is off"
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not ONNX")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        build_plan(tmp_path / "model.onnx", tmp_path, "auto")


def test_a_gpu_without_tensorrt_is_told(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda _name: None)
    assert "not installed" in build_plan(exported, tmp_path, "auto").status


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", {"8.2": {"--fp16"}, "8.6": set(), "10": {"--stronglyTyped"}, "11": set()}),
        ("fp16", {"8.2": {"--fp16"}, "8.6": {"--fp16"}, "10": {"--stronglyTyped"}, "11": set()}),
        ("int8", {"8.6": {"--fp16", "--int8"}, "10": {"--stronglyTyped"}, "11": set()}),
    ],
)
def test_precision_flags_of_every_generation(precision: str, expected: dict[str, set[str]]) -> None:
    """8.x is weakly typed, 10 asks for strong typing, 11 has no flags left; the TX2 (8.2) has no INT8."""
    flags = {"--fp16", "--int8", "--stronglyTyped"}
    found = {c.tensorrt: flags & set(c.command.split()) for c in build_commands("m.onnx", precision)}
    assert found == expected


def test_workspace_options_follow_their_generation() -> None:
    old, *newer = (command.command for command in build_commands("m.onnx", "fp16"))
    assert "--workspace=1024 --buildOnly" in old
    assert all("--memPoolSize=workspace:1024 --skipInference" in command for command in newer)


class FakeTensorRT(ModuleType):
    """TensorRT's module as far as a build uses it; `calls` keeps what was asked of it."""

    def __init__(self, version: str, parses: bool = True, builds: bool = True) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.calls: dict[str, object] = {"flags": []}
        calls = self.calls
        is_11 = version.startswith("11.")
        creation = {"STRONGLY_TYPED": 0} if is_11 else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}

        def parse(content: bytes) -> bool:
            calls["onnx"] = content
            return parses

        def set_limit(pool: str, size: int) -> None:
            calls["limit"] = (pool, size)

        def create_network(bits: int) -> str:
            calls["network"] = {name for name, bit in creation.items() if bits & (1 << bit)}
            return "network"

        flags = calls["flags"]
        assert isinstance(flags, list)
        config = SimpleNamespace(set_memory_pool_limit=set_limit, set_flag=flags.append)
        builder = SimpleNamespace(
            create_network=create_network,
            create_builder_config=lambda: config,
            build_serialized_network=lambda _network, _config: memoryview(b"engine") if builds else None,
        )
        parser = SimpleNamespace(parse=parse, num_errors=1, get_error=lambda _index: "node 3: no such operator")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**creation)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        # 11 has no precision flags any more: touching one is an AttributeError, as in the real module.
        self.BuilderFlag = SimpleNamespace(**({} if is_11 else {"FP16": "fp16", "INT8": "int8"}))
        logger = type("Logger", (), {"WARNING": 2, "__init__": lambda _self, _severity: None})
        self.Logger = logger
        self.Builder = lambda _logger: builder
        self.OnnxParser = lambda _network, _logger: parser


@pytest.mark.parametrize(
    ("version", "precision", "network", "flags"),
    [
        ("8.6.1", "fp32", {"EXPLICIT_BATCH"}, []),
        ("8.6.1", "int8", {"EXPLICIT_BATCH"}, ["fp16", "int8"]),
        ("10.3.0", "fp16", {"STRONGLY_TYPED"}, []),
        ("11.4.0.106", "int8", {"STRONGLY_TYPED"}, []),
    ],
)
def test_each_generation_is_asked_in_its_own_way(
    version: str, precision: str, network: set[str], flags: list[str], exported: Path
) -> None:
    trt = FakeTensorRT(version)
    assert build_engine(trt, exported, precision) == b"engine"
    assert (trt.calls["network"], trt.calls["flags"]) == (network, flags)
    assert trt.calls["limit"] == ("workspace", 1 << 30)
    assert trt.calls["onnx"] == exported.read_bytes()


def test_tensorrts_own_words_reach_the_user(exported: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot parse it: node 3: no such operator"):
        build_engine(FakeTensorRT("10.3.0", parses=False), exported, "fp32")
    with pytest.raises(ModelError, match="built no engine"):
        build_engine(FakeTensorRT("10.3.0", builds=False), exported, "fp32")


def test_an_engine_comes_with_its_papers(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Orin")
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setattr(tensorrt.importlib, "import_module", lambda _name: FakeTensorRT("10.3.0"))
    report = build_plan(exported, tmp_path, "required")
    assert report.status == "engine built by TensorRT 10.3.0 on Orin"
    assert report.engine == tmp_path / "model.fp32.engine"
    assert report.engine.read_bytes() == b"engine"
    assert json.loads((tmp_path / "model.fp32.engine.json").read_text()) == {
        "tensorrt": "10.3.0",
        "gpu": "Orin",
        "precision": "fp32",
        "onnx": "model.fp32.onnx",
        "onnx_sha256": hashlib.sha256(exported.read_bytes()).hexdigest(),
        "engine_sha256": hashlib.sha256(b"engine").hexdigest(),
    }
    assert json.loads((tmp_path / "engine_plan.json").read_text())["engine"] == "model.fp32.engine"
