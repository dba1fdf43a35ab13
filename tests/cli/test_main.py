"""The commands as a user types them: output, exit codes, one clear sentence for what goes wrong."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from mobile_centernet import __version__
from mobile_centernet.cli.main import main
from mobile_centernet.export.onnx import export_onnx
from mobile_centernet.images import read_image
from mobile_centernet.inference.onnx import Detector
from mobile_centernet.models.variants import MODELS, build_model
from tests.helpers.arrays import arrays

CLASSES = ("vehicle", "pedestrian")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: it scores about 0.1 everywhere."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("cli") / "model.onnx"
    network = build_model("hrnet_w16", len(CLASSES))
    torch.nn.init.constant_(network.size_head.out.bias, 6.0)
    export_onnx(network, path, classes=CLASSES, input_size=(64, 96))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three good ones of different sizes and kinds, one in a folder of its own, and a text file."""
    folder = tmp_path / "pictures"
    (folder / "night").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (180, 320)), ("b.PNG", (40, 30)), ("night/a.jpg", (720, 1280))):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (*size, 3)).astype(np.uint8))
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="mobile-centernet")


def predict(source: Path, model: Path, out: Path, *options: object) -> Result:
    return run("predict", source, "--model", model, "--out", out, *options)


def refused(result: Result) -> str:
    """The one sentence on stderr of a command that could not do its work."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from mobile_centernet.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"torch", "onnxruntime", "onnx", "cv2", "numpy", "lightning", "pandas", "matplotlib", "pydantic"}
print("heavy:", sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert "predict" in done.stdout and "info" in done.stdout
    assert "heavy: []" in done.stdout


def test_version() -> None:
    assert run("--version").output == f"mobile-centernet {__version__}\n"


def test_info_as_json_is_the_papers_table() -> None:
    result = run("info", "hrnet_w16", "--classes", 10, "--size", "576x320", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["conv_gmacs"] == pytest.approx(5.60, abs=0.005)
    assert facts["params"] == pytest.approx(1.616e6, abs=500)
    assert {key: facts[key] for key in ("model", "classes", "size")} == {
        "model": "hrnet_w16",
        "classes": 10,
        "size": "576x320",
    }


def test_info_for_people() -> None:
    lines = run("info", "hrnet_w16").output.splitlines()
    names = ["model", "parameters", "convolutions", "thop-2020", "paper", "classes", "input"]
    assert [line.split(maxsplit=1)[0] for line in lines] == names
    assert "1,616," in lines[1] and "5.60 GMACs" in lines[2] and "5.66 G" in lines[3]
    assert "1.62 M parameters, 5.7 GFLOPs (10 classes, 576x320)" in lines[4]


def test_info_of_all_is_the_papers_table_beside_ours() -> None:
    rows = json.loads(run("info", "--all", "--classes", 10, "--size", "576x320", "--json").stdout)
    keys = ("params", "conv_gmacs", "thop_2020_g", "paper_params_m", "paper_gflops")
    found = {row["model"]: tuple(row[key] for key in keys) for row in rows}
    assert tuple(found) == tuple(MODELS)
    assert {name: found[name] for name in ("resnet50", "hrnet_w16", "hrnet_w16_lite")} == {
        "resnet50": (30_676_511, 18.363, 18.8745, 30.7, 18.9),
        "hrnet_w16": (1_616_366, 5.604, 5.6636, 1.62, 5.7),
        "hrnet_w16_lite": (1_299_054, 2.301, 2.3267, None, None),
    }
    assert {(row["classes"], row["size"]) for row in rows} == {(10, "576x320")}


def test_info_of_all_for_people() -> None:
    result = run("info", "--all")
    lines = [line.split() for line in result.output.splitlines()]
    assert ["resnet50", "30,676,511", "18.36", "18.87", "30.7", "18.9"] in lines
    assert ["hrnet_w32", "28,591,950", "29.31", "29.46", "28.6", "29.5"] in lines
    assert ["hrnet_w16_lite", "1,299,054", "2.30", "2.33", "-", "-"] in lines
    assert "10 classes, 576x320" in result.output and "paper: Table 2" in result.output


def test_info_measures_when_asked() -> None:
    facts = json.loads(run("info", "hrnet_w16_nano", "--size", "64x32", "--classes", 1, "--latency", "--json").stdout)
    assert 0 < facts["cpu_ms"] < 1000
    assert json.loads(run("info", "hrnet_w16_nano", "--json").stdout)["cpu_ms"] is None
    card = [line.split() for line in run("info", "resnet18", "--size", "64x32", "--latency").output.splitlines()]
    assert ["CPU", "ms", "-", "(cannot", "be", "exported)"] in card


@pytest.mark.parametrize("arguments", [(), ("hrnet_w16", "--all")])
def test_info_wants_one_model_or_all(arguments: tuple[str, ...]) -> None:
    result = run("info", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected either a MODEL or --all" in result.stderr


def test_info_size_is_width_by_height() -> None:
    assert json.loads(run("info", "hrnet_w16", "--size", "128x64", "--json").stdout)["size"] == "128x64"


def test_info_names_the_models_it_knows() -> None:
    assert f"expected one of {', '.join(MODELS)}" in refused(run("info", "yolo"))


@pytest.mark.parametrize("size", ["576", "576x", "0x32", "-32x32", "576x321", "320 x 576", "axb", "٣٢x٣٢"])
def test_a_bad_size_is_a_usage_error(size: str) -> None:
    result = run("info", "hrnet_w16", "--size", size)
    assert result.exit_code == 2
    assert "Invalid value for '--size': expected" in result.stderr


def test_predict_writes_pictures_and_detections(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = predict(pictures, model, out, "--threshold", 0.05)
    assert (result.exit_code, result.stderr) == (0, "")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    lists = {"detections.json", "results.json", "detections.csv"}
    assert found == {"a.jpg", "b.PNG", "night/a.jpg"} | lists
    document = json.loads((out / "detections.json").read_text())
    assert document["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 320, "height": 180},
        {"id": 2, "file_name": "b.PNG", "width": 30, "height": 40},
        {"id": 3, "file_name": "night/a.jpg", "width": 1280, "height": 720},
    ]
    assert (document["threshold"], document["classes"], document["errors"]) == (0.05, list(CLASSES), [])
    assert {row["file_name"] for row in document["detections"]} == {"a.jpg", "b.PNG", "night/a.jpg"}


def test_detections_are_the_detectors_to_the_last_digit(model: Path, pictures: Path, tmp_path: Path) -> None:
    predict(pictures / "a.jpg", model, tmp_path / "out", "--threshold", 0.05)
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())["detections"]
    boxes, scores, labels = arrays(Detector(model).detect(read_image(pictures / "a.jpg")))
    kept = scores >= 0.05
    assert [row["score"] for row in rows] == [float(score) for score in scores[kept]]
    assert [row["category"] for row in rows] == [CLASSES[label] for label in labels[kept]]
    x, y, width, height = np.array([row["bbox"] for row in rows]).T
    np.testing.assert_allclose(np.stack([x, y, x + width, y + height], axis=1), boxes[kept], rtol=1e-6)


def test_boxes_are_drawn(model: Path, pictures: Path, tmp_path: Path) -> None:
    for out, threshold in (("drawn", 0.05), ("bare", 1)):
        predict(pictures / "night", model, tmp_path / out, "--threshold", threshold)
    bare, drawn = (read_image(tmp_path / out / "a.jpg") for out in ("bare", "drawn"))
    assert bare.shape == drawn.shape == (720, 1280, 3)
    assert (np.abs(bare.astype(int) - drawn) > 60).any(axis=2).mean() > 0.005


def test_a_second_run_does_not_take_its_own_output(model: Path, pictures: Path) -> None:
    for _ in range(2):
        result = predict(pictures, model, pictures / "out")
        assert "in 3 images" in result.stdout


def test_a_bad_picture_among_good_ones(model: Path, pictures: Path, tmp_path: Path) -> None:
    whole = (pictures / "a.jpg").read_bytes()
    (pictures / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "empty.png").touch()
    result = predict(pictures, model, tmp_path / "out")
    assert result.exit_code == 3
    assert "2 images could not be read: cut.jpg, empty.png" in result.stderr
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [row["file_name"] for row in document["errors"]] == ["cut.jpg", "empty.png"]
    assert "cut off" in document["errors"][0]["error"]
    assert len(document["images"]) == 3
    assert not (tmp_path / "out" / "cut.jpg").exists()


def test_nothing_readable_at_all(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "noise.jpg").write_bytes(b"\x00" * 100)
    assert "no image could be read, of 1 tried" in refused(predict(tmp_path / "in", model, tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_paths_that_are_not_there(model: Path, pictures: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "expected an image or a folder" in refused(predict(missing, model, tmp_path / "out"))
    assert "expected an ONNX file, found nothing" in refused(predict(pictures, missing, tmp_path / "out"))
    missing.mkdir()
    assert "expected images (.jpg, .jpeg" in refused(predict(missing, model, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(model: Path, pictures: Path) -> None:
    blocked = pictures / "notes.txt"
    assert "expected a folder to write to" in refused(predict(pictures, model, blocked))
    assert "expected a folder to write to" in refused(predict(pictures, model, blocked / "out"))
    assert blocked.read_text() == "not an image"


def test_an_output_file_that_cannot_be_written(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "a.jpg").mkdir(parents=True)
    assert "a.jpg: cannot be written" in refused(predict(pictures, model, tmp_path / "out"))


@pytest.mark.parametrize("source", ["", "a.jpg"])
def test_the_users_pictures_are_never_overwritten(model: Path, pictures: Path, source: str) -> None:
    before = (pictures / "a.jpg").read_bytes()
    assert "would be overwritten" in refused(predict(pictures / source, model, pictures / "night" / ".."))
    assert (pictures / "a.jpg").read_bytes() == before


def test_a_foreign_model(pictures: Path, tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", values[:1], values[1:])
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=7), tmp_path / "other.onnx")
    message = refused(predict(pictures, tmp_path / "other.onnx", tmp_path / "out"))
    assert "other.onnx: expected a graph exported by mobile-centernet" in message


def test_a_truncated_model(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:-1000])
    assert "cut.onnx: expected" in refused(predict(pictures, tmp_path / "cut.onnx", tmp_path / "out"))


def test_the_installed_command_tells_errors_in_one_sentence(model: Path, tmp_path: Path) -> None:
    """A real process: nothing a library prints may drown the sentence."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 100)
    command = Path(sys.executable).with_name("mobile-centernet")
    options = ["--model", model, "--out", tmp_path / "out"]
    done = subprocess.run([command, "predict", tmp_path / "in", *options], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no image could be read, of 1 tried; first ")
    assert done.stderr.count("\n") == 1


def test_predict_on_photos(model: Path, street_photos: Path, tmp_path: Path) -> None:
    result = predict(street_photos, model, tmp_path / "out")
    assert result.exit_code == 0
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {(image["width"], image["height"]) for image in document["images"]} == {(1280, 720)}
    assert len(document["images"]) == len(list(street_photos.iterdir()))
