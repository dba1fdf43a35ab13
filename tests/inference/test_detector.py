"""The device's detector in use: providers, `with`, streams, and the same answers as the library's evaluation."""

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from mobile_centernet import images
from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.errors import ModelError
from mobile_centernet.evaluation.detect import results_for
from mobile_centernet.files import file_digest
from mobile_centernet.images import pillow, read_image
from mobile_centernet.inference import onnx
from mobile_centernet.inference.graph import GraphMetadata
from mobile_centernet.inference.onnx import Detector
from tests.helpers.arrays import arrays
from tests.helpers.tiny import CLASSES, tiny_detector


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("detector") / "model.onnx")


def picture(seed: int, size: tuple[int, int] = (72, 128)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def test_the_tiny_detector_sees_something(model: Path) -> None:
    """Else the tests with it would prove little."""
    detector = Detector(model)
    found = [detector.detect(picture(seed)) for seed in range(4)]
    assert {label for each in found for label in each.labels.tolist()} == {0, 1}
    for each in found:
        assert float(np.ptp(each.scores)) > 0.01 and len(np.unique(each.boxes, axis=0)) > 10
    assert not np.array_equal(found[0].boxes, found[1].boxes)
    assert not np.array_equal(found[0].scores, found[1].scores)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """Frames of several sizes, larger and smaller than the model's input."""
    folder = tmp_path_factory.mktemp("prepared")
    frames = []
    for number, size in enumerate([(72, 128), (180, 320), (40, 200), (64, 96), (51, 77)]):
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), picture(number, size))
        box = Box(CLASSES[0], (2, 3, 20, 30))
        frames.append(Frame(path, path.stem, "clip", "val", FrameState.LABELLED, (box,)))
    class_map = ClassMap(CLASSES, {name: name for name in CLASSES})
    prepare(RawSet(folder, tuple(frames), ()), frames, class_map, folder / "out", workers=1, progress=False)
    return PreparedSet(folder / "out", "val")


@pytest.mark.parametrize("backend", ["opencv", "numpy"])
def test_evaluation_and_device_give_the_same_to_the_last_bit(
    model: Path, prepared: PreparedSet, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` runs the exported file through `results_for`; a device calls `detect`."""
    detector = Detector(model, threads=1)
    evaluated = results_for(prepared, detector.run, detector.input_size, batch_size=1)
    if backend == "numpy":
        monkeypatch.setattr(images, "resize", pillow.resize)
    for index in range(len(prepared)):
        rows = [row for row in evaluated if row["image_id"] == prepared.frame(index).id]
        boxes, scores, labels = arrays(detector.detect(prepared.image(index)))
        assert [row["score"] for row in rows] == scores.tolist()
        assert [row["category_id"] - 1 for row in rows] == labels.tolist()
        corners = boxes.astype(np.float64)
        expected = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        np.testing.assert_array_equal([row["bbox"] for row in rows], expected)


def test_photos_give_the_same_without_opencv(model: Path, street_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = sorted(street_photos.iterdir())
    detector = Detector(model, threads=1)
    with_opencv = [detector.detect(read_image(photo)) for photo in photos]
    monkeypatch.setattr(images, "resize", pillow.resize)
    for photo, expected in zip(photos, with_opencv, strict=True):
        for left, right in zip(arrays(expected), arrays(detector.detect(pillow.read_image(photo))), strict=True):
            np.testing.assert_array_equal(left, right)


def test_it_says_what_it_runs_on(model: Path) -> None:
    assert Detector(model, provider="cpu").provider == "cpu"
    assert Detector(model).provider in onnx.PROVIDERS


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "quantum"])
def test_a_provider_that_is_not_there_is_refused(model: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ModelError, match=rf"expected a provider that is here \(cpu\), found '{provider}'"):
        Detector(model, provider=provider)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA works here")
@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_built_in_but_broken_is_told(
    model: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the driver's libraries are missing: ONNX Runtime then goes on with the CPU."""
    long = onnx.PROVIDERS[provider]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [long, "CPUExecutionProvider"])
    with pytest.warns(UserWarning, match=f"expected to run on {long}.*it runs on CPUExecutionProvider"):
        assert Detector(model).provider == "cpu"
    with pytest.raises(ModelError, match=f"expected to run on {long}"):
        Detector(model, provider=provider)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA works here")
@pytest.mark.filterwarnings("ignore:Specified provider", "ignore:.*expected to run on Tensorrt")
def test_tensorrt_may_use_the_precision_of_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX Runtime is asked for, whether it has TensorRT or not."""
    asked = []

    class Noted(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, options: object, providers: list[tuple[str, dict[str, object]]]) -> None:
            asked.append(dict(providers))
            super().__init__(path, options, providers=providers)

    long = onnx.PROVIDERS["tensorrt"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [long, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Noted)
    Detector(tiny_detector(tmp_path / "fp32.onnx"))
    assert asked[-1][long] == {"trt_fp16_enable": False, "trt_int8_enable": False}
    Detector(tiny_detector(tmp_path / "int8.onnx", "int8"), engine_cache=tmp_path)
    assert asked[-1][long] == {
        "trt_fp16_enable": True,
        "trt_int8_enable": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(tmp_path),
        "trt_engine_cache_prefix": file_digest(tmp_path / "int8.onnx")[:16],
    }


@pytest.mark.parametrize("kind", ["Fail", "RuntimeException", "EPFail", "NoSuchFile"])
def test_what_the_backend_raises_is_one_sentence(model: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory left, a driver that gave up: ONNX Runtime's exceptions have no base in common."""
    failure = getattr(onnxruntime.capi.onnxruntime_pybind11_state, kind)

    class Exhausted(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *_: object) -> None:
            raise failure("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory\nat line 9")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Exhausted)
    detector = Detector(model, provider="cpu")
    with pytest.raises(ModelError) as said:
        detector.detect(np.zeros((8, 8, 3), np.uint8))
    assert str(said.value).endswith("could not run it ([ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory)")


@pytest.mark.parametrize("size", ["[" * 100_000, "[1e400, 1]", "[1]", "{}"])
def test_metadata_that_is_nonsense(size: str) -> None:
    props = {**GraphMetadata("m", ("a",), (8, 8), "fp32").to_props(), "input_size": size}
    with pytest.raises(ModelError, match="expected model, classes, input_size and precision"):
        GraphMetadata.from_props(props, Path("x.onnx"))


def test_a_closed_detector_says_so(model: Path) -> None:
    with Detector(model) as detector:
        detector.warm_up()
        detector.detect(picture(0))
    with pytest.raises(ModelError, match=r"model\.onnx: expected an open detector"):
        detector.detect(picture(0))


def test_a_stream_of_frames_gives_what_single_pictures_give(model: Path) -> None:
    frames = [picture(seed) for seed in range(5)]
    with Detector(model, threads=1) as detector:
        results = list(detector.detect_stream(frames, drop_late=False))
        assert len(results) == 5
        for result, frame in zip(results, frames, strict=True):
            for left, right in zip(arrays(result.detections), arrays(detector.detect(frame)), strict=True):
                np.testing.assert_array_equal(left, right)
        assert list(detector.detect_stream(frames))[-1].index == 4
