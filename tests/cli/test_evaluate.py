"""`evaluate`: the same mAP@0.5 as pycocotools finds; category names of each layout; one sentence for what is wrong."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobile_centernet.cli.main import main
from mobile_centernet.inference.onnx import Detector
from tests.helpers.arrays import arrays
from tests.helpers.tiny import CLASSES, tiny_detector

FRAMES = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detector(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def coco(tmp_path: Path, model: Path) -> Path:
    """Images, and truth made of every third detection, moved a little; one crowd; one category of no class."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images" / "val").mkdir(parents=True)
    rng, detector = np.random.default_rng(0), Detector(model)
    document = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 7, "name": "piéton"}, {"id": 3, "name": "Vehicle"}],
    }
    for number in range(FRAMES):
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8), (192, 128))
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / "val" / name), picture)
        document["images"].append({"id": 100 + number, "file_name": name, "width": 192, "height": 128})
        boxes, _, labels = arrays(detector.detect(picture[..., ::-1]))
        for (x1, y1, x2, y2), label in list(zip(boxes.tolist(), labels.tolist(), strict=True))[::3]:
            bbox = [x1 + rng.uniform(0, 9), y1 + rng.uniform(0, 9), x2 - x1, y2 - y1]
            crowd = int(rng.random() < 0.1)
            row = {"image_id": 100 + number, "category_id": (3, 7)[label], "bbox": bbox, "iscrowd": crowd}
            document["annotations"].append(row | {"id": len(document["annotations"]) + 1, "area": bbox[2] * bbox[3]})
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return folder


def evaluate(model: object, data: object, *options: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in ["evaluate", model, data, *options]])


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def oracle(coco: Path, model: Path) -> float:
    """pycocotools on the file as it is."""
    detector, results = Detector(model), []
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(coco / "annotations" / "instances_val.json"))
        for image in truth.loadImgs(truth.getImgIds()):
            picture = cv2.imread(str(coco / "images" / "val" / image["file_name"]))[..., ::-1]
            for box, score, label in zip(*arrays(detector.detect(picture)), strict=True):
                x1, y1, x2, y2 = map(float, box)
                bbox = [x1, y1, x2 - x1, y2 - y1]
                row = {"image_id": image["id"], "category_id": (3, 7)[label], "bbox": bbox, "score": float(score)}
                results.append(row)
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[1])


def test_a_coco_folder_gives_what_pycocotools_gives(model: Path, coco: Path) -> None:
    result = evaluate(model, coco, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    expected = oracle(coco, model)
    assert document["map50"] == pytest.approx(expected, abs=1e-9) and 0.05 < expected < 0.95
    assert document["frames"] == FRAMES and set(document["ap50"]) == set(CLASSES)
    table = evaluate(model, coco / "annotations" / "instances_val.json").stdout
    assert f"mAP@0.5  {expected:.4f}" in table and "piéton" in table


def test_results_and_ground_truth_give_the_same_map_in_pycocotools(model: Path, coco: Path, tmp_path: Path) -> None:
    """An unlabelled frame is background to pycocotools: neither file may hold it."""
    path = coco / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    for image in document["images"][:2]:
        (coco / "images" / "val" / f"unlabelled{image['id']}.png").symlink_to(coco / "images/val" / image["file_name"])
        more = {"id": image["id"] + 1000, "file_name": f"unlabelled{image['id']}.png", "state": "unlabelled"}
        document["images"].append(image | more)
    path.write_text(json.dumps(document))
    printed = json.loads(evaluate(model, coco, "--json", "--out", tmp_path / "out").stdout)
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "out" / "ground_truth.json"))
        run = COCOeval(truth, truth.loadRes(str(tmp_path / "out" / "results.json")), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert float(run.stats[1]) == pytest.approx(printed["map50"], abs=1e-9)
    assert len(truth.getImgIds()) == printed["frames"] == FRAMES
    (tmp_path / "file").touch()
    assert "expected a folder to write to" in refused(evaluate(model, coco, "--out", tmp_path / "file"))


def test_bad_pictures_are_rows_and_the_rest_is_done(model: Path, coco: Path) -> None:
    pictures = coco / "images" / "val"
    (pictures / "1.png").write_bytes((pictures / "1.png").read_bytes()[:60])
    (pictures / "3.png").unlink()
    result = evaluate(model, coco, "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert [row["file_name"] for row in document["errors"]] == ["1.png", "3.png"] and document["frames"] == 3


def test_other_classes(model: Path, coco: Path) -> None:
    path = coco / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace("Vehicle", "car"))
    message = refused(evaluate(model, coco))
    assert "expected the classes of the model, vehicle, piéton, found car, " in message
    assert evaluate(model, coco, "--map", "car=vehicle").exit_code == 0
    dropped = json.loads(evaluate(model, coco, "--map", "car=", "--json").stdout)
    assert dropped["ap50"]["vehicle"] is None and dropped["ap50"]["piéton"] is not None
    assert dropped["no_class"].keys() == {"car"}
    assert "expected classes of the model" in refused(evaluate(model, coco, "--map", "car=tram"))
    assert "expected CATEGORY=CLASS" in refused(evaluate(model, coco, "--map", "car"))


def test_data_that_cannot_be_used(model: Path, coco: Path, tmp_path: Path) -> None:
    assert "expected a data set, found nothing" in refused(evaluate(model, tmp_path / "missing"))
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": [')
    assert "expected a COCO document" in refused(evaluate(model, broken))
    broken.write_text('{"images": [], "annotations": []}')
    assert "with a list of categories" in refused(evaluate(model, broken))
    assert "instances_test.json, found none" in refused(evaluate(model, coco, "--split", "test"))


def test_raw_bdd100k_knows_its_categories(tmp_path: Path) -> None:
    classes_model = tiny_detector(tmp_path / "model.onnx")
    root = tmp_path / "bdd"
    (root / "images" / "100k" / "val").mkdir(parents=True)
    (root / "labels" / "det_20").mkdir(parents=True)
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8), (192, 128))
    cv2.imwrite(str(root / "images" / "100k" / "val" / "a.jpg"), picture)
    box = {"x1": 10, "y1": 10, "x2": 60, "y2": 60}
    labels = [{"category": name, "box2d": box} for name in ("car", "truck", "rider", "traffic light")]
    entries = [{"name": "a.jpg", "labels": labels}]
    (root / "labels" / "det_20" / "det_val.json").write_text(json.dumps(entries))
    document = json.loads(evaluate(classes_model, root, "--json").stdout)
    assert document["boxes"] == {"vehicle": 2, "piéton": 0}
    assert document["no_class"] == {"rider": 1, "traffic light": 1}
    lines = evaluate(classes_model, root).stdout.splitlines()
    assert lines[-1] == "boxes of no class of the model: rider (1), traffic light (1)"
    entries[0]["labels"].append({"category": "rickshaw", "box2d": box})
    (root / "labels" / "det_20" / "det_val.json").write_text(json.dumps(entries))
    assert "rickshaw" in refused(evaluate(classes_model, root))
    assert evaluate(classes_model, root, "--unmapped", "drop").exit_code == 0


def yolo(folder: Path, names: str, lines: str) -> Path:
    for path in ("images/test", "labels/test"):
        (folder / path).mkdir(parents=True)
    cv2.imwrite(str(folder / "images/test/a.png"), np.full((128, 192, 3), 99, np.uint8))
    (folder / "labels/test/a.txt").write_text(lines)
    (folder / "data.yaml").write_text(f"names: [{names}]\n")
    return folder


def test_a_yolo_folder_whose_categories_have_other_names(model: Path, tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "car, rickshaw", "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n")
    assert "found car, rickshaw; say what is what by --map CATEGORY=CLASS, or" in refused(evaluate(model, root))
    document = json.loads(evaluate(model, root, "--unmapped", "drop", "--json").stdout)
    assert (document["boxes"]["vehicle"], document["no_class"]) == (1, {"rickshaw": 1})
    assert document["taken_as"] == {"car": "vehicle"}
    assert "taken as: car → vehicle" in evaluate(model, root, "--unmapped", "drop").stdout
    mapped = json.loads(evaluate(model, root, "--map", "car=piéton", "--unmapped", "drop", "--json").stdout)
    assert mapped["taken_as"] == {"car": "piéton"}
    (root / "data.yaml").write_text("names: [tram, rickshaw]\n")
    assert refused(evaluate(model, root, "--unmapped", "drop")).endswith("by --map CATEGORY=CLASS\n")


def test_a_set_without_labels_says_what_is_there_instead(model: Path, tmp_path: Path) -> None:
    root = yolo(tmp_path / "set", "car", "0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").unlink()
    message = refused(evaluate(model, root))
    assert "mAP is undefined" in message and "1 .txt files that are not read, which look like YOLO's" in message
