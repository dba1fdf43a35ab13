"""One preprocessing: what every command and runtime feeds to the network is the same, to the last bit.

The network here only hands its input out again: the boxes that it "finds" are its input's values. So whatever lies
between a file and the network, in each of them, is seen from outside.
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from mobile_centernet import images
from mobile_centernet.cli.evaluate import detect_all
from mobile_centernet.cli.main import main
from mobile_centernet.data.readers.labelled import read_set
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.store.shards import ShardWriter
from mobile_centernet.detections import DetectionBatch, NumpyBatch
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.images import opencv, pillow
from mobile_centernet.inference.benchmark import Halves, TimedModel
from mobile_centernet.inference.graph import GraphMetadata
from mobile_centernet.inference.load import open_model
from mobile_centernet.inference.onnx import Detector

HEIGHT, WIDTH = 64, 96
K = HEIGHT * WIDTH * 3 // 4
SCALE = 4  # values up to 255 / 4 lie inside the image and are not clipped; a power of two loses nothing

# SHA-256 of the input made of the golden image, 640x384 → 96x64 (OpenCV 4.14.0, x86-64).
GOLDEN = "25d9e724442ccc8cfba64463f7076886191fd4125fc9233ccf53a3495fe58f21"


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("echo") / "echo.onnx"
    constants = {
        "shape": np.array([1, K, 4], np.int64),
        "scale": np.array(1 / SCALE, np.float32),
        "scores": np.linspace(1, 0.5, K, dtype=np.float32)[None],  # results come by score
        "labels": np.zeros((1, K), np.int64),
    }
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Reshape", ["image", "shape"], ["values"]),
        node("Mul", ["values", "scale"], ["boxes"]),
        *(
            node("Constant", [], [name], value=numpy_helper.from_array(constants.pop(name)))
            for name in ("scores", "labels")
        ),
    ]
    outputs = [("boxes", TensorProto.FLOAT, [1, K, 4]), ("scores", TensorProto.FLOAT, [1, K])]
    graph = helper.make_graph(
        nodes,
        "echo",
        [value("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [value(*output) for output in (*outputs, ("labels", TensorProto.INT64, [1, K]))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(model, GraphMetadata("echo", ("vehicle",), (HEIGHT, WIDTH), "fp32").to_props())
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """640x384, not a multiple of the input's width: edges, gradients, noise. PNG, so that its pixels are exact."""
    rng = np.random.default_rng(2020)
    image = np.linspace(0, 200, 640)[None, :, None] + rng.integers(0, 56, (384, 640, 3))
    for x, y, w, h in rng.integers(8, 300, (12, 4)):
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    path = tmp_path_factory.mktemp("golden") / "golden.png"
    cv2.imwrite(str(path), image.astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def golden(picture: Path) -> np.ndarray:
    return images.to_input(opencv.read_image(picture), (HEIGHT, WIDTH))


def values(boxes: np.ndarray) -> np.ndarray:
    """The input, from boxes in pixels of the input."""
    return (np.asarray(boxes, np.float64) * SCALE).round(3).reshape(1, 3, HEIGHT, WIDTH).astype(np.float32)


def from_corners(bboxes: list[list[float]]) -> np.ndarray:
    """The four values of a box lie in its corners; COCO's sides are cut at 0, so only x and y tell."""
    return np.asarray(bboxes, np.float64)[:, :2]


def test_the_golden_picture(golden: np.ndarray) -> None:
    assert golden.shape == (1, 3, HEIGHT, WIDTH) and golden.dtype == np.float32
    assert hashlib.sha256(golden.tobytes()).hexdigest() == GOLDEN


def test_a_device_with_and_without_opencv(picture: Path, golden: np.ndarray) -> None:
    for module in (images, pillow):
        resized = module.resize(module.read_image(picture), (HEIGHT, WIDTH))
        np.testing.assert_array_equal(resized.transpose(2, 0, 1)[None].astype(np.float32), golden)
    if images.BACKEND == "opencv":
        assert images.resize is opencv.resize  # not a second implementation


def test_edge_runtime_and_the_opener_of_all_commands(echo: Path, picture: Path, golden: np.ndarray) -> None:
    image = opencv.read_image(picture)
    shrink = np.array([WIDTH / 640, HEIGHT / 384] * 2)
    with open_model(str(echo)) as model:
        for detect in (Detector(echo).detect, model.detect):
            np.testing.assert_array_equal(values(detect(image).boxes * shrink), golden)


def test_predict(echo: Path, picture: Path, golden: np.ndarray, tmp_path: Path) -> None:
    arguments = ["predict", str(picture), "--model", str(echo), "--out", str(tmp_path / "out"), "--no-drawing"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    found = from_corners([row["bbox"] for row in rows]) * [WIDTH / 640, HEIGHT / 384]
    np.testing.assert_array_equal((found * SCALE).round(3), golden.reshape(-1, 4)[:, :2])


def test_evaluate(echo: Path, picture: Path, golden: np.ndarray) -> None:
    document = {
        "images": [{"id": 1, "file_name": picture.name, "width": 640, "height": 384}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
        "categories": [{"id": 1, "name": "vehicle"}],
    }
    (picture.parent / "truth.json").write_text(json.dumps(document))
    with open_model(str(echo)) as model:
        frames = read_set(picture.parent / "truth.json", model.classes, None, None, {}, "refuse")
        _, results, errors = detect_all(model, frames)
    found = from_corners([row["bbox"] for row in results]) * [WIDTH / 640, HEIGHT / 384]
    assert not errors
    np.testing.assert_array_equal((found * SCALE).round(3), golden.reshape(-1, 4)[:, :2])


def test_bench(echo: Path, picture: Path, golden: np.ndarray) -> None:
    seen = []
    with open_model(str(echo)) as model:
        TimedModel(model, Halves(seen.append, lambda _: None)).measure(picture.read_bytes(), keep=True)
    np.testing.assert_array_equal(seen[0], golden)


def test_evaluation_of_a_prepared_set(picture: Path, golden: np.ndarray, tmp_path: Path) -> None:
    """What the stages evaluate, export and judge go through; the store keeps bytes, so a PNG may stand in a shard."""
    writer = ShardWriter(tmp_path)
    place = writer.add("golden.jpg", picture.read_bytes())
    writer.close()
    image = {"id": 1, "file_name": "golden.jpg", "width": 640, "height": 384, **place._asdict()}
    image |= {"state": "empty", "video": "v", "attributes": {}}
    document = {"categories": [{"id": 1, "name": "vehicle"}], "annotations": [], "images": [image]}
    (tmp_path / "annotations_test.json").write_text(json.dumps(document))
    seen = []

    def detect(images: np.ndarray) -> NumpyBatch:
        seen.append(images)
        return DetectionBatch(np.zeros((1, 1, 4), np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64))

    results_for(PreparedSet(tmp_path, "test"), detect, (HEIGHT, WIDTH), batch_size=1)
    np.testing.assert_array_equal(seen[0], golden)
