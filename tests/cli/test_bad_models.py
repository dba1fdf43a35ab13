"""Every command that takes a model, on every kind of wrong model: one sentence, exit code 2, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from mobile_centernet.cli.main import main
from tests.helpers.tiny import CLASSES, HEIGHT, WIDTH, tiny_detector


def changed(path: Path, **props: str) -> Path:
    """The tiny detector with other metadata."""
    graph = onnx.load(tiny_detector(path))
    before = {prop.key: prop.value for prop in graph.metadata_props}
    onnx.helper.set_model_props(graph, before | props)
    onnx.save(graph, path)
    return path


def another_projects(path: Path) -> Path:
    graph = onnx.load(tiny_detector(path))
    del graph.metadata_props[:]
    onnx.save(graph, path)
    return path


def truncated(path: Path) -> Path:
    path.write_bytes(tiny_detector(path).read_bytes()[:-200])
    return path


def text(path: Path) -> Path:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    return path


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "another shape": (
        lambda path: changed(path, input_size=json.dumps([2 * HEIGHT, WIDTH])),
        f"expected input {{'image': [1, 3, {2 * HEIGHT}, {WIDTH}]}}",
    ),
    "a class list that is too short": (
        lambda path: changed(path, classes=json.dumps(CLASSES[:1])),
        f"expected labels of its 1 classes ({CLASSES[0]}), found label 1",
    ),
    "a class list that is none": (
        lambda path: changed(path, classes=json.dumps("vehicle")),
        "expected model, classes, input_size and precision in its metadata",
    ),
    "another project's": (another_projects, "expected a graph exported by mobile-centernet"),
    "truncated": (truncated, "expected a complete ONNX file"),
    "no ONNX at all": (text, "expected a complete ONNX file"),
    "nothing": (lambda path: path, "expected an ONNX file, found nothing"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COCO folder of one image."""
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8), (192, 128))
    cv2.imwrite(str(tmp_path / "coco" / "a.png"), picture)
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50]}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }
    (tmp_path / "coco" / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return tmp_path / "coco"


COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "predict": lambda model, data: ["predict", data / "a.png", "--model", model, "--out", data.parent / "out"],
    "evaluate": lambda model, data: ["evaluate", model, data, "--images", data, "--unmapped", "drop"],
    "bench": lambda model, data: ["bench", model, "--runs", 1, "--warm-up", 0],
}


def run(command: str, model: Path, data: Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in COMMANDS[command](model, data)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_models(kind: str, command: str, data: Path, tmp_path: Path) -> None:
    make, sentence = WRONG[kind]
    model = make(tmp_path / "model.onnx")
    code, out, err = run(command, model, data)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {model}: ") and sentence in err and err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_the_right_model_works(command: str, data: Path, tmp_path: Path) -> None:
    """Else the refusals above would prove nothing."""
    code, _, err = run(command, tiny_detector(tmp_path / "model.onnx"), data)
    assert (code, err) == (0, "")
