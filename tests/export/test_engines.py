"""An engine is used only where it was built for; all else is refused, with the reason, and built again."""

import hashlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mobile_centernet.errors import ModelError
from mobile_centernet.export.tensorrt import provide_engine
from mobile_centernet.inference.tensorrt import Origin, sidecar, why_not


class Builds(ModuleType):
    """A TensorRT that builds; the real one needs a GPU. What it offers is checked in test_contract."""

    def __init__(self, version: str = "10.3.0") -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.built = 0
        config = SimpleNamespace(set_memory_pool_limit=lambda *_: None, set_flag=print, clear_flag=lambda _flag: None)

        def build(_network: object, _config: object) -> bytes:
            self.built += 1
            return f"engine {self.built} of {version}".encode()

        self.Logger = type("Logger", (), {"WARNING": 2, "__init__": lambda _self, _severity: None})
        self.Builder = lambda _logger: SimpleNamespace(
            create_network=lambda _flags: "network",
            create_builder_config=lambda: config,
            build_serialized_network=build,
        )
        self.OnnxParser = lambda _network, _logger: SimpleNamespace(parse=lambda _content: True)
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.BuilderFlag = SimpleNamespace(TF32="tf32")


@pytest.fixture
def engine(exported: Path, tmp_path: Path) -> Path:
    """Built by TensorRT 10.3.0 for an Orin."""
    path = tmp_path / "model.fp32.engine"
    assert provide_engine(Builds(), "Orin", exported, path) == "model.fp32.engine built by TensorRT 10.3.0 on Orin"
    return path


def test_an_engine_comes_with_its_papers(engine: Path, exported: Path) -> None:
    assert json.loads(sidecar(engine).read_text()) == {
        "tensorrt": "10.3.0",
        "gpu": "Orin",
        "precision": "fp32",
        "onnx": exported.name,
        "onnx_sha256": hashlib.sha256(exported.read_bytes()).hexdigest(),
        "engine_sha256": hashlib.sha256(engine.read_bytes()).hexdigest(),
    }
    assert sidecar(engine).name == "model.fp32.engine.json"


def test_a_fitting_one_is_used_again(engine: Path, exported: Path) -> None:
    trt = Builds()
    said = provide_engine(trt, "Orin", exported, engine)
    assert said == "model.fp32.engine fits TensorRT 10.3.0 on Orin: not built again"
    assert trt.built == 0


@pytest.mark.parametrize(
    ("version", "gpu", "reason"),
    [
        ("10.7.0", "Orin", "expected tensorrt 10.7.0, found 10.3.0"),
        ("10.3.0", "Orin Nano", "expected gpu Orin Nano, found Orin"),
    ],
)
def test_one_for_another_version_or_gpu_is_refused_and_rebuilt(
    version: str, gpu: str, reason: str, engine: Path, exported: Path
) -> None:
    trt = Builds(version)
    said = provide_engine(trt, gpu, exported, engine)
    assert said == f"model.fp32.engine built by TensorRT {version} on {gpu} (model.fp32.engine was refused: {reason})"
    assert trt.built == 1
    assert why_not(engine, Origin.of(trt, gpu, exported)) is None


def change(engine: Path, **values: Any) -> None:
    content = json.loads(sidecar(engine).read_text())
    sidecar(engine).write_text(json.dumps({**content, **values}))


def test_one_of_another_graph_or_precision_is_refused(engine: Path, exported: Path) -> None:
    origin = Origin.of(Builds(), "Orin", exported)
    change(engine, onnx_sha256="0" * 64)
    assert f"expected onnx_sha256 {origin.onnx_sha256}, found {'0' * 64}" in str(why_not(engine, origin))
    change(engine, onnx_sha256=origin.onnx_sha256, precision="fp16")
    assert "expected precision fp32, found fp16" in str(why_not(engine, origin))


def test_a_changed_or_truncated_engine_is_refused(engine: Path, exported: Path) -> None:
    engine.write_bytes(engine.read_bytes()[:-1])
    assert "its content is not what model.fp32.engine.json describes" in str(
        why_not(engine, Origin.of(Builds(), "Orin", exported))
    )


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", '"text"'])
def test_without_readable_papers_it_is_refused(content: str | None, engine: Path, exported: Path) -> None:
    if content is None:
        sidecar(engine).unlink()
    else:
        sidecar(engine).write_text(content)
    assert "was refused" in str(why_not(engine, Origin.of(Builds(), "Orin", exported)))
    assert "built by TensorRT" in provide_engine(Builds(), "Orin", exported, engine)


def test_a_foreign_or_truncated_file_is_refused_before_anything_is_built(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"cut\.onnx: expected a complete ONNX file"):
        provide_engine(Builds(), "Orin", tmp_path / "cut.onnx", tmp_path / "model.engine")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.onnx"]
