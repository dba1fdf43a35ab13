"""The device's detector: what it imports, what it reads from the file, which files it refuses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mobile_centernet.errors import ModelError
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.images import resize, to_input
from mobile_centernet.inference.graph import GraphMetadata
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.models.variants import build_model
from tests.helpers.arrays import arrays

CLASSES = ("vehicle", "piéton")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("edge") / "model.onnx"
    model = build_model("hrnet_w16", len(CLASSES))
    torch.nn.init.constant_(model.size_head.out.bias, 4.0)
    export_onnx(model, path, classes=CLASSES, input_size=(64, 96))
    return path


@pytest.fixture(scope="module")
def detector(exported: Path) -> Detector:
    return Detector(exported, threads=1)


def foreign(path: Path, **props: str) -> Path:
    """A valid ONNX file of another project."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(model, props)
    onnx.save(model, path)
    return path


def test_a_device_needs_no_torch() -> None:
    script = """
import sys
import mobile_centernet.inference.onnx
heavy = {"torch", "lightning", "pydantic", "pandas", "onnx", "matplotlib", "mlflow", "dvc", "zenml"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_file_says_what_it_is(detector: Detector) -> None:
    assert detector.classes == CLASSES
    assert detector.input_size == (64, 96)
    assert detector.metadata == GraphMetadata("hrnet_w16", CLASSES, (64, 96), "fp32")


@pytest.mark.parametrize("size", [(64, 96), (720, 1280), (33, 17), (1, 1), (500, 3)])
def test_boxes_come_back_in_pixels_of_the_picture(detector: Detector, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    boxes, scores, labels = arrays(detector.detect(image))
    assert (boxes.shape, scores.shape, labels.shape) == ((100, 4), (100,), (100,))
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
    assert (boxes >= 0).all() and (boxes <= np.float32([size[1], size[0]] * 2)).all()
    assert (np.diff(scores) <= 0).all() and set(labels.tolist()) <= {0, 1}


def test_detecting_is_running_and_stretching_back(detector: Detector) -> None:
    image = np.random.default_rng(1).integers(0, 256, (128, 288, 3)).astype(np.uint8)
    boxes, scores, _ = arrays(detector.detect(image))
    in_input, raw_scores, _ = detector.run(to_input(resize(image, (64, 96)), (64, 96)))
    np.testing.assert_allclose(boxes, (in_input[0] * [3, 2, 3, 2]).clip(0, [288, 128, 288, 128]), rtol=1e-6)
    np.testing.assert_array_equal(scores, raw_scores[0])


def test_another_projects_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"other\.onnx: expected a graph exported by mobile-centernet .*project None"):
        Detector(foreign(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match="found project 'yolo'"):
        Detector(foreign(tmp_path / "yolo.onnx", project="yolo"))


def test_metadata_that_does_not_fit_the_graph_is_refused(tmp_path: Path) -> None:
    lie = GraphMetadata("hrnet_w16", CLASSES, (64, 96), "fp32").to_props()
    with pytest.raises(ModelError, match=r"expected input .*image.* found .*'x'"):
        Detector(foreign(tmp_path / "lie.onnx", **lie))


@pytest.mark.parametrize(
    "broken",
    [
        {"classes": "vehicle"},
        {"classes": "3"},
        {"input_size": "[64]"},
        {"input_size": "null"},
        {"input_size": '["a", 2]'},
    ],
)
def test_broken_metadata_is_refused(tmp_path: Path, broken: dict[str, str]) -> None:
    props = GraphMetadata("hrnet_w16", CLASSES, (64, 96), "fp32").to_props() | broken
    with pytest.raises(ModelError, match="expected model, classes, input_size and precision"):
        Detector(foreign(tmp_path / "broken.onnx", **props))


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    props = GraphMetadata("hrnet_w16", CLASSES, (64, 96), "fp7").to_props()
    with pytest.raises(ModelError, match="expected precision fp32, fp16, int8, found 'fp7'"):
        Detector(foreign(tmp_path / "odd.onnx", **props))


@pytest.mark.parametrize("part", [0, 0.001, 0.3, 0.7, 0.97, 0.9999])
def test_a_truncated_file_is_refused(exported: Path, tmp_path: Path, part: float) -> None:
    content = exported.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ModelError, match=r"cut\.onnx: expected"):
        Detector(cut)


def test_a_file_without_its_last_bytes_is_refused(exported: Path, tmp_path: Path) -> None:
    """The tail holds the opset and the metadata: every cut in it counts."""
    content = exported.read_bytes()
    tail = len(content) - content.rindex(b"mobile-centernet") + 300
    cut = tmp_path / "cut.onnx"
    for missing in range(1, tail, 23):
        cut.write_bytes(content[:-missing])
        with pytest.raises(ModelError, match=r"cut\.onnx: expected"):
            Detector(cut)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("remember the milk")
    with pytest.raises(ModelError, match=r"notes\.onnx: expected a complete ONNX file"):
        Detector(tmp_path / "notes.onnx")
    with pytest.raises(ModelError, match="expected an ONNX file, found a directory"):
        Detector(tmp_path)
    with pytest.raises(ModelError, match="expected an ONNX file, found nothing"):
        Detector(tmp_path / "missing.onnx")


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret.bin", "file:///etc/passwd"])
def test_weights_elsewhere_on_the_disk_are_not_read(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(12))
    (tmp_path / "model").mkdir()
    path = foreign(tmp_path / "model" / "a.onnx", **GraphMetadata("m", CLASSES, (64, 96), "fp32").to_props())
    model = onnx.load(path)
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=place)
    model.graph.initializer.append(weights)
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "w"], ["y"]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"a\.onnx: expected a complete ONNX file"):
        Detector(path, provider="cpu")


def test_operators_of_somebody_elses_library_are_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.onnx", **GraphMetadata("m", CLASSES, (64, 96), "fp32").to_props())
    model = onnx.load(path)
    model.graph.node[0].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"a\.onnx: expected"):
        Detector(path, provider="cpu")


@given(
    model=st.text(),
    classes=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5),
    input_size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
)
def test_metadata_round_trip(model: str, classes: list[str], input_size: tuple[int, int], precision: str) -> None:
    metadata = GraphMetadata(model, tuple(classes), input_size, precision)
    assert GraphMetadata.from_props(metadata.to_props(), Path("model.onnx")) == metadata
