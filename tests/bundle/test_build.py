"""Building: the same bytes from the same things, golden detections that mean something, sentences for what misfits."""

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobile_centernet.bundle.bundle import extract, verify_bundle
from mobile_centernet.bundle.errors import BundleError
from mobile_centernet.bundle.golden import from_json, self_test
from mobile_centernet.bundle.manifest import Manifest
from mobile_centernet.errors import DataError, ModelError
from mobile_centernet.images import read_image
from mobile_centernet.inference.onnx import Detector
from tests.helpers.arrays import arrays
from tests.helpers.tiny import CLASSES, tiny_detector

Build = Callable[..., Manifest]


def unpacked(path: Path, folder: Path) -> Path:
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_same_things_give_the_same_bytes(build: Build, tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        build(tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_every_file_is_pinned_and_every_setting_arrives(build: Build, material: Path, tmp_path: Path) -> None:
    manifest = build(tmp_path / "one.tar")
    assert verify_bundle(tmp_path / "one.tar") == manifest
    folder = unpacked(tmp_path / "one.tar", tmp_path / "one")
    for name, pinned in manifest.files.items():
        content = (folder / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (pinned.sha256, pinned.bytes)
    assert (folder / "model.int8.onnx").read_bytes() == (material / "student.int8.onnx").read_bytes()
    assert manifest.classes == CLASSES and manifest.input_size == (64, 96)
    assert manifest.thresholds == {"vehicle": 0.3, "piéton": 0.25}
    assert manifest.latency_ms == {"default": 100, "orin": 20.5}
    card = (folder / "MODEL_CARD.md").read_text()
    for said in ("# street 7", "piéton | 0.25", "orin | 20.5", "git_commit | abc", "model.fp16.onnx | fp16"):
        assert said in card


def test_golden_pictures_are_the_pixels_that_were_given(build: Build, material: Path, tmp_path: Path) -> None:
    manifest = build(tmp_path / "one.tar")
    folder = unpacked(tmp_path / "one.tar", tmp_path / "one")
    for name, source in zip(manifest.pictures, sorted(material.glob("*.jpg")), strict=True):
        with Image.open(folder / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), read_image(source))


def test_golden_detections_are_the_detectors_to_the_last_digit(build: Build, tmp_path: Path) -> None:
    manifest = build(tmp_path / "one.tar")
    folder = unpacked(tmp_path / "one.tar", tmp_path / "one")
    for variant in manifest.variants.values():
        golden = from_json((folder / variant.golden).read_bytes(), variant.golden)
        assert set(golden) == set(manifest.pictures)
        detector = Detector(folder / variant.model, threads=1)
        for name, expected in golden.items():
            for left, right in zip(arrays(expected), arrays(detector.detect(read_image(folder / name))), strict=True):
                np.testing.assert_array_equal(left, right)
                assert left.dtype == right.dtype


def test_self_test_of_a_release(build: Build, tmp_path: Path) -> None:
    built = build(tmp_path / "one.tar")
    manifest = extract(tmp_path / "one.tar", tmp_path / "release", built.sha256)
    detector = Detector(tmp_path / "release" / "model.fp16.onnx")
    agreement = self_test(tmp_path / "release", manifest, "fp16", detector.detect)
    assert agreement.score <= 1e-6 and agreement.box <= 1e-3
    other = Detector(tiny_detector(tmp_path / "other.onnx", seed=1))
    with pytest.raises(BundleError, match=r"fp16: golden/000\.png: expected a detection of class .* found none"):
        self_test(tmp_path / "release", manifest, "fp16", other.detect)


def test_a_card_of_ones_own(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "one.tar", card="# Mine\n")
    assert (unpacked(tmp_path / "one.tar", tmp_path / "one") / "MODEL_CARD.md").read_text() == "# Mine\n"


def test_one_model_is_enough(build: Build, material: Path, tmp_path: Path) -> None:
    manifest = build(tmp_path / "one.tar", models=[material / "student.fp16.onnx"])
    assert set(manifest.variants) == {"fp16"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"thresholds": {"vehicle": 0.3}}, "expected one for each class or a default, found none for piéton"),
        ({"thresholds": {"default": 0.3, "tram": 0.1}}, "expected classes vehicle, piéton, found tram"),
        ({"thresholds": {"default": 3}}, "expected a score 0..1, found 3"),
        ({"latency_ms": {"orin": 3.0}}, "latency_ms: expected a default"),
        ({"latency_ms": {"default": 0}}, "expected milliseconds above 0, found 0"),
        ({"name": "a street"}, "name: expected 1 to 100 letters"),
        ({"pictures": []}, "pictures: expected at least one golden image"),
        ({"models": []}, "expected at least one exported model"),
        ({"lineage": {"note": "two\nlines"}}, "lineage: expected printable text"),
    ],
)
def test_settings_that_cannot_be(build: Build, tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        build(tmp_path / "one.tar", **changes)
    assert list(tmp_path.iterdir()) == []


def test_files_that_do_not_fit_together(build: Build, material: Path, tmp_path: Path) -> None:
    fp32 = material / "student.fp32.onnx"
    with pytest.raises(BundleError, match="expected one model a precision, found a second fp32"):
        build(tmp_path / "one.tar", models=[fp32, fp32])
    with pytest.raises(ModelError, match="expected an ONNX file, found nothing"):
        build(tmp_path / "one.tar", models=[tmp_path / "missing.onnx"])
    (tmp_path / "noise.jpg").write_bytes(b"\0" * 99)
    with pytest.raises(DataError, match=r"noise\.jpg: expected an image"):
        build(tmp_path / "one.tar", pictures=[tmp_path / "noise.jpg"])
