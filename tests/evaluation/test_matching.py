"""The same AP as pycocotools, to the last digit but three, on random sets full of what evaluators trip over."""

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobile_centernet.evaluation.coco_eval import ALL_AREAS, AreaRange, CocoResult, evaluate_map50

CLASSES = ("vehicle", "pedestrian", "scooter", "never there")
AREAS = {"all": ALL_AREAS, "small": (0.0, 1024.0), "large": (1024.0, 1e10)}


def a_box(rng: np.random.Generator) -> list[float]:
    """On a coarse grid, so that overlaps are equal, exactly a half, and whole boxes the same; some without area."""
    x, y = rng.integers(0, 8, 2) * 10.0
    width, height = rng.choice([0.0, 10.0, 20.0, 40.0, 40.0, 40.0], 2)
    return [float(x), float(y), float(width), float(height)]


def a_set(seed: int, frames: int = 12, most: int = 40) -> tuple[dict[str, Any], list[CocoResult]]:
    rng = np.random.default_rng(seed)
    states = rng.choice(["labelled", "empty", "unlabelled"], frames, p=[0.7, 0.15, 0.15])
    ids = rng.permutation(frames) + 3
    annotations: list[dict[str, Any]] = []
    results: list[CocoResult] = []
    for image, state in zip(ids.tolist(), states, strict=True):
        for _ in range(rng.integers(0, 9) if state == "labelled" else 0):
            row = {"image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": a_box(rng)}
            annotations.append(row | {"iscrowd": int(rng.random() < 0.25)})
        near = [row for row in annotations if row["image_id"] == image]
        for _ in range(rng.integers(0, most)):
            row = {"category_id": int(rng.integers(1, 5)), "bbox": a_box(rng)}
            if near and rng.random() < 0.7:
                chosen = rng.integers(len(near))
                row = {key: near[chosen][key] for key in row}
            bbox = [row["bbox"][0] + float(rng.choice([0, 0, 5, 10])), *row["bbox"][1:]]
            score = float(rng.choice([0.2, 0.5, 0.9, rng.random()]))  # many the same
            results.append({"image_id": image, "category_id": row["category_id"], "bbox": bbox, "score": score})
    if not any(not row["iscrowd"] and row["bbox"][2] * row["bbox"][3] > 1024 for row in annotations):
        return a_set(seed + 10_000, frames, most)
    return {
        "images": [{"id": image, "state": state} for image, state in zip(ids.tolist(), states.tolist(), strict=True)],
        "annotations": [row | {"id": number} for number, row in enumerate(annotations, start=1)],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)],
    }, results


def by_pycocotools(
    ground_truth: dict[str, Any], results: list[CocoResult], area_range: AreaRange = ALL_AREAS
) -> dict[str, float | None]:
    """AP by class."""
    precision = accumulated(ground_truth, results, area_range).eval["precision"][0, :, :, 0, 0]
    return {name: None if row[0] < 0 else float(row.mean()) for name, row in zip(CLASSES, precision.T, strict=True)}


def accumulated(ground_truth: dict[str, Any], results: list[CocoResult], area_range: AreaRange) -> COCOeval:
    """pycocotools ranks equal scores as they come, so they come by class and place."""
    known = {image["id"] for image in ground_truth["images"] if image["state"] != "unlabelled"}
    ordered = sorted(results, key=lambda row: (row["image_id"], row["category_id"], row["bbox"]))
    evaluation = COCOeval(
        *(
            _coco([{"iscrowd": 0, **row} for row in rows if row["image_id"] in known], known)
            for rows in (ground_truth["annotations"], ordered)
        ),
        "bbox",
    )
    evaluation.params.maxDets = [100]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(area_range)], ["all"]
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _coco(rows: list[dict[str, Any]], images: set[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in sorted(images)],
        "categories": [{"id": label + 1} for label in range(len(CLASSES))],
        "annotations": [
            row | {"id": number, "area": row["bbox"][2] * row["bbox"][3]} for number, row in enumerate(rows, start=1)
        ],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("seed", range(25))
def test_random_sets(seed: int, area: str) -> None:
    ground_truth, results = a_set(seed)
    expected = by_pycocotools(ground_truth, results, AREAS[area])
    measured = evaluate_map50(ground_truth, results, CLASSES, area_range=AREAS[area])
    assert measured.ap50 == pytest.approx(expected, abs=1e-12)
    assert measured.ap50["never there"] is None
    found = accumulated(ground_truth, results, AREAS[area]).eval
    precision, recall = found["precision"], found["recall"]
    assert measured.map50_95 == pytest.approx(precision[precision > -1].mean(), abs=1e-12)
    assert measured.ar100 == pytest.approx(recall[recall > -1].mean(), abs=1e-12)


def test_more_than_a_hundred_detections_of_a_class_in_a_frame() -> None:
    ground_truth, results = a_set(7, frames=3, most=900)
    assert len(results) > 900
    measured = evaluate_map50(ground_truth, results, CLASSES)
    assert measured.ap50 == pytest.approx(by_pycocotools(ground_truth, results), abs=1e-12)


def test_the_sets_hold_what_they_should() -> None:
    """Else the tests above would prove little."""
    sets = [a_set(seed) for seed in range(25)]
    crowds = sum(row["iscrowd"] for truth, _ in sets for row in truth["annotations"])
    values = [value for truth, found in sets for value in by_pycocotools(truth, found).values() if value is not None]
    ties = sum(len(found) - len({(row["category_id"], row["score"]) for row in found}) for _, found in sets)
    assert crowds > 80 and ties > 1000
    assert 0.1 < float(np.mean(values)) < 0.6 and np.std(values) > 0.05
