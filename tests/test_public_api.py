"""`from mobile_centernet import ...`: each name when it is used, torch only where a name needs it."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import mobile_centernet
from mobile_centernet.errors import DataError
from tests.helpers.tiny import CLASSES, tiny_detector

WITHOUT_TORCH = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "onnx", "pandas", "mlflow"):
            raise ImportError(f"{name} is not for devices")

sys.meta_path.insert(0, Forbidden())
from mobile_centernet import Detections, Detector, LiveDetector
found = Detector(sys.argv[1])(sys.argv[2])
assert isinstance(found, Detections) and LiveDetector
print(len(found), *found.class_names)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("api") / "model.onnx")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "street.png"
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (128, 72)))
    return path


def ran(*arguments: object) -> str:
    command = [sys.executable, "-c", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_detector_runs_where_torch_cannot_be_imported(model: Path, street: Path) -> None:
    assert ran(WITHOUT_TORCH, model, street) == f"30 {' '.join(CLASSES)}"


def test_the_readmes_example_runs(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(__file__).resolve().parents[1] / "README.md"
    example = readme.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert 'Detector("data/export/model.fp32.onnx")' in example
    (tmp_path / "data/export").mkdir(parents=True)
    (tmp_path / "data/export/model.fp32.onnx").write_bytes(model.read_bytes())
    cv2.imwrite(str(tmp_path / "street.jpg"), np.full((72, 128, 3), 90, np.uint8))
    monkeypatch.chdir(tmp_path)
    found = ran(example).splitlines()
    assert found and all(line.startswith(CLASSES) for line in found)


def test_the_package_alone_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'torch', 'cv2', 'onnxruntime', 'PIL'}"
    assert ran(f"import mobile_centernet, sys; print(sorted({heavy} & sys.modules.keys()))") == "[]"


def test_every_name_resolves_and_is_listed() -> None:
    for name in mobile_centernet.__all__:
        assert getattr(mobile_centernet, name) is not None and name in dir(mobile_centernet)
    with pytest.raises(AttributeError, match="no attribute 'Segmenter'"):
        mobile_centernet.Segmenter  # noqa: B018


def test_a_path_its_pixels_and_a_pil_image_give_the_same(model: Path, street: Path) -> None:
    detector = mobile_centernet.Detector(model)
    with Image.open(street) as image:
        found = [detector(source) for source in (street, str(street), np.array(image), image, image.convert("RGBA"))]
    assert len(found[0]) == 30 and found[0].class_names == CLASSES
    assert found[0].boxes.shape == (30, 4) and (np.diff(found[0].scores) <= 0).all()
    for other in found[1:]:
        np.testing.assert_array_equal(other.boxes, found[0].boxes)
        np.testing.assert_array_equal(other.scores, found[0].scores)
        np.testing.assert_array_equal(other.labels, found[0].labels)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_array_that_is_no_rgb_image_is_refused(model: Path, pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected an RGB image, uint8 \[H, W, 3\], found"):
        mobile_centernet.Detector(model)(pixels)


def test_what_scores_high_enough_is_kept_in_order() -> None:
    scores, labels = np.array([0.9, 0.6, 0.5, 0.2], np.float32), np.array([0, 1, 0, 1], np.int64)
    found = mobile_centernet.Detections(np.arange(16, dtype=np.float32).reshape(4, 4), scores, labels, CLASSES)
    assert found.above(0.5).labels.tolist() == [0, 1, 0] and len(found.above(1)) == 0
    own = found.above({CLASSES[0]: 0.7, CLASSES[1]: 0.2})
    assert own.labels.tolist() == [0, 1, 1] and own.boxes[:, 0].tolist() == [0, 4, 12]
    assert own.class_names == CLASSES
    with pytest.raises(KeyError):
        found.above({CLASSES[0]: 0.7})
