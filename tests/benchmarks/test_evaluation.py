"""mAP@0.5 of a large set: ours against pycocotools, from the same lists to the same AP."""

import numpy as np
import pytest

from mobile_centernet.evaluation.coco_eval import CocoResult, evaluate_map50
from tests.evaluation.test_matching import CLASSES, by_pycocotools

pytestmark = pytest.mark.benchmark

FRAMES, DETECTIONS = 10_000, 100
SHARES = (0.68, 0.21, 0.1, 0.01)  # of the classes, about as in ivslab


def a_large_set() -> tuple[dict, list[CocoResult]]:
    """Up to 24 boxes a frame; of the detections, most of them are near one, the rest anywhere with lower scores."""
    rng = np.random.default_rng(0)
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    images = [{"id": number, "state": "labelled"} for number in range(1, FRAMES + 1)]
    annotations: list[dict] = []
    results: list[CocoResult] = []
    for image in images:
        count = int(rng.integers(0, 25))
        boxes = np.hstack((rng.uniform(0, 500, (DETECTIONS, 2)), rng.uniform(8, 90, (DETECTIONS, 2))))
        labels = rng.choice(len(CLASSES), DETECTIONS, p=SHARES)
        annotations += [
            {"image_id": image["id"], "category_id": label + 1, "bbox": bbox, "iscrowd": 0}
            for bbox, label in zip(boxes[:count].tolist(), labels[:count].tolist(), strict=True)
        ]
        boxes[:count, :2] += rng.normal(0, 6, (count, 2))
        scores = np.where(np.arange(DETECTIONS) < count, rng.beta(3, 2, DETECTIONS), rng.beta(1, 8, DETECTIONS))
        results += [
            {"image_id": image["id"], "category_id": label + 1, "bbox": bbox, "score": score}
            for bbox, label, score in zip(boxes.tolist(), labels.tolist(), scores.tolist(), strict=True)
        ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.timeout(3600)
def test_ten_thousand_frames(side_by_side, row) -> None:
    """In turns and once each: pycocotools takes minutes, and processor time is what is compared."""
    ground_truth, results = a_large_set()
    found: dict[str, dict[str, float]] = {}
    candidates = {
        "pycocotools": lambda: found.update(pycocotools=by_pycocotools(ground_truth, results)),
        "ours": lambda: found.update(ours=evaluate_map50(ground_truth, results, CLASSES).ap50),
    }
    seconds = side_by_side(candidates, repetitions=1, warm_up=0)
    assert found["ours"] == pytest.approx(found["pycocotools"], abs=1e-9)
    row(
        f"mAP@0.5 of {FRAMES:,} frames with {DETECTIONS} detections",
        f"pycocotools {seconds['pycocotools']:.1f} s",
        f"ours {seconds['ours']:.1f} s",
        f"{seconds['pycocotools'] / seconds['ours']:.1f}× faster (target 10×)",
    )
    assert seconds["pycocotools"] >= 10 * seconds["ours"]
