"""One set of pixels: from an original file evaluation, `predict` and a device give a network the very same input."""

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mobile_centernet.agent.live import LiveDetector
from mobile_centernet.cli.main import main
from mobile_centernet.data.annotations import Box, Frame, FrameState, RawSet
from mobile_centernet.data.convert import ClassMap
from mobile_centernet.data.prepare.prepare import prepare
from mobile_centernet.data.store.prepared import PreparedSet
from mobile_centernet.data.training.loader import TrainingSamples
from mobile_centernet.evaluation.detect import coco_results, results_for
from mobile_centernet.images import read_image, resize, to_input
from mobile_centernet.inference.onnx import Detector
from tests.helpers.lab import Lab
from tests.helpers.offers import Bundle
from tests.helpers.tiny import CLASSES

STREET = {"max_size": (360, 640), "quality": 92}  # `store` of overlays/street.yaml
STREET_INPUTS = [(192, 320), (320, 576)]  # its input, and the paper's
LEAST_DB = 35.0


@pytest.fixture(scope="module")
def photos(street_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Drawn street photos, the few real ones where they are, and files of odd sizes and other kinds."""
    folder, whole = tmp_path_factory.mktemp("odd"), sorted(street_photos.iterdir())[:4]
    sizes = {"0.jpg": (417, 640), "1.jpg": (640, 359), "2.png": (51, 77), "3.bmp": (272, 640)}
    for path, (name, size) in zip(whole, sizes.items(), strict=True):
        cv2.imwrite(str(folder / name), resize(read_image(path), size)[..., ::-1])
    return [*whole, *sorted(folder.iterdir())]


@pytest.fixture(scope="session")
def real_photos(shared_data: Path) -> list[Path]:
    """Every hundredth of the photos of crowded streets."""
    if not (shared_data / "street").is_dir():
        pytest.skip("needs the real street photos in shared/data/street beside the project")
    return sorted((shared_data / "street").rglob("*.jpg"))[::100]


def stored(photos: Sequence[Path], folder: Path, split: str, **settings: Any) -> PreparedSet:
    """These files as a prepared set, each with one box."""
    box = Box(CLASSES[0], (2, 3, 20, 30))
    frames = [Frame(path, path.stem, path.stem, split, FrameState.LABELLED, (box,)) for path in photos]
    class_map = ClassMap(CLASSES, {name: name for name in CLASSES})
    prepare(RawSet(folder, tuple(frames), ()), frames, class_map, folder / split, workers=1, progress=False, **settings)
    return PreparedSet(folder / split, split)


def command(*arguments: object) -> None:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output


def check_that_all_see_the_same(
    photos: Sequence[Path], lab: Lab, release: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that follows its agent says what is right: inputs to the last bit, boxes as numbers in JSON."""
    seen: list[bytes] = []
    run = Detector.run

    def noting(detector: Detector, images: Any) -> Any:
        if images.any():  # else it warms up on black
            seen.append(images.tobytes())
        return run(detector, images)

    monkeypatch.setattr(Detector, "run", noting)
    lab.install(release)
    seen.clear()
    model = lab.store.folder(release.digest) / "model.fp32.onnx"
    with LiveDetector(lab.root, threads=1) as live:
        on_device = {path.name: live.detect(read_image(path, upright=True)) for path in photos}
    inputs = seen[:]
    assert len(inputs) == len(photos)
    expected = {
        name: [(row["category_id"], row["bbox"], row["score"]) for row in coco_results(0, found)]
        for name, found in on_device.items()
    }

    def check(who: str, results: Sequence[Any], names: dict[int, str]) -> None:
        assert seen == inputs, who
        seen.clear()
        found: dict[str, list[Any]] = {name: [] for name in names.values()}
        for row in results:
            found[names[row["image_id"]]].append((row["category_id"], row["bbox"], row["score"]))
        assert found == expected, who

    seen.clear()
    detector = Detector(model, threads=1)
    found = [coco_results(number, detector(path)) for number, path in enumerate(photos)]
    check("Detector", list(chain.from_iterable(found)), {number: path.name for number, path in enumerate(photos)})

    originals = folder / "originals"
    originals.mkdir()
    for path in photos:
        (originals / path.name).symlink_to(path)
    in_order = sorted(path.name for path in photos)
    assert in_order == [path.name for path in photos]
    command("predict", originals, "--model", model, "--out", folder / "predict", "--threshold", 0, "--no-drawing")
    document = json.loads((folder / "predict/detections.json").read_text())
    results = json.loads((folder / "predict/results.json").read_text())
    check("predict", results, {image["id"]: image["file_name"] for image in document["images"]})

    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    images = [{"id": number, "file_name": name} for number, name in enumerate(in_order, start=1)]
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 18, 27]}]
    truth = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth))
    command("evaluate", model, folder / "truth.json", "--images", originals, "--out", folder / "evaluate")
    document = json.loads((folder / "evaluate/ground_truth.json").read_text())
    results = json.loads((folder / "evaluate/results.json").read_text())
    check("evaluate", results, {image["id"]: image["file_name"] for image in document["images"]})

    prepared = stored([originals / name for name in in_order], folder, "val")
    names = {prepared.frame(i).id: in_order[i] for i in range(len(prepared))}
    check("the pipeline", results_for(prepared, detector.run, detector.input_size, batch_size=1), names)
    size = detector.input_size
    kept = [resize(prepared.image(i), size) for i in range(len(prepared))]
    assert [to_input(image, size).tobytes() for image in kept] == inputs, "a training's validation"


def test_evaluation_predict_and_devices_see_the_same_to_the_last_bit(
    photos: list[Path], lab: Lab, releases: dict[int, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = tmp_path / "named"
    renamed.mkdir()
    for number, path in enumerate(photos):
        (renamed / f"{number:02d}{path.suffix}").symlink_to(path)
    check_that_all_see_the_same(sorted(renamed.iterdir()), lab, releases[12], tmp_path, monkeypatch)


def test_real_photos_too(
    real_photos: list[Path], lab: Lab, releases: dict[int, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name = sorted(real_photos, key=lambda path: path.name)
    check_that_all_see_the_same(by_name, lab, releases[12], tmp_path, monkeypatch)


def decibels(photos: Sequence[Path], folder: Path, input_size: tuple[int, int], **store: Any) -> list[float]:
    """How close what training sees of each file without augmentation comes to its network input: PSNR of 8 bits."""
    prepared = stored(photos, folder, "train", input_size=input_size, **store)
    samples = TrainingSamples(prepared, input_size=input_size, augmentation=None, seed=0)
    found = []
    for path, i in zip(photos, range(len(samples)), strict=True):
        error = samples[i]["image"].numpy()[None].astype(np.float64) - to_input(read_image(path), input_size)
        found.append(10 * np.log10(255**2 / np.square(error).mean()))
    return found


@pytest.mark.parametrize("input_size", STREET_INPUTS)
def test_training_sees_nearly_the_same(photos: list[Path], tmp_path: Path, input_size: tuple[int, int]) -> None:
    assert min(decibels(photos, tmp_path, input_size, **STREET)) >= LEAST_DB


@pytest.mark.parametrize("input_size", STREET_INPUTS)
def test_training_sees_nearly_the_same_of_real_photos(
    real_photos: list[Path], tmp_path: Path, input_size: tuple[int, int]
) -> None:
    assert min(decibels(real_photos, tmp_path, input_size, **STREET)) >= LEAST_DB


def test_the_default_sizes_keep_drawn_clips_close(bdd100k_sets: list[Path], tmp_path: Path) -> None:
    """192x96 from frames stored at 320x180. Real photos lose more there, which docs/results.md explains."""
    drawn = sorted((bdd100k_sets[0] / "images").rglob("*.jpg"))
    assert min(decibels(drawn, tmp_path, (96, 192), max_size=(180, 320), quality=92)) >= LEAST_DB
