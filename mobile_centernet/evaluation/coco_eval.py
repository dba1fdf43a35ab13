"""mAP@0.5 as COCO defines it, computed by pycocotools, with labelled and verified-empty frames only."""

import io
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.errors import DataError

CocoDocument = Mapping[str, Any]
"""A COCO annotation file as json.load returns it. Category ids are label + 1; an image may carry its `state`.

An annotation with `iscrowd` 1 is an ignore region: detections of its class that lie in it count as neither hits nor
false alarms. A prepared set writes a region once per class, so that it excuses every class.
"""

AreaRange = tuple[float, float]
"""Smallest and largest box area that counts, in square pixels of the stored frame, both ends included."""

ALL_AREAS: AreaRange = (0.0, 1e10)
MAX_DETECTIONS = 100  # per frame and class; the decoder emits no more than 100 a frame


class CocoResult(TypedDict):
    """One detection: `bbox` is x, y, width, height in pixels of the stored frame, `score` lies in [0, 1]."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class MapResult:
    """What was measured, and on how much.

    `ap50`: class -> average precision at IoU 0.5, None where the class has no ground truth.
    `map50`: mean of `ap50` over the classes that have ground truth.
    `precision`: class -> float64 [101], interpolated precision at the thresholds `recall` [101].
    `counts`: class -> ground-truth boxes that had to be found (ignore regions are not counted).
    `images`: frames evaluated.
    """

    map50: float
    ap50: Mapping[str, float | None]
    precision: Mapping[str, NDArray[np.float64]]
    recall: NDArray[np.float64]
    counts: Mapping[str, int]
    images: int


def evaluate_map50(
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    classes: Sequence[str],
    *,
    area_range: AreaRange = ALL_AREAS,
) -> MapResult:
    """Average precision at IoU 0.5 by COCO's 101-point interpolation, at most 100 detections a frame and class.

    Frames whose state is `unlabelled` are left out, and so are results on them. The order of `results` does not
    matter: equal scores are ranked by position. Raises DataError when a result or an annotation names an
    unknown frame or category, when a box or score is not a finite number, when the categories are not
    `classes`, or when no box at all has to be found, since mAP is then undefined.
    """
    images = evaluated_images(ground_truth)
    _check_ground_truth(ground_truth, classes)
    _check_results(results, ground_truth["images"], classes)
    counts = count_boxes(ground_truth, classes, area_range)
    if not any(counts.values()):
        raise DataError(
            "mAP is undefined without ground truth: expected a labelled box to find, "
            f"found none in {len(images)} labelled or verified-empty frames"
        )

    truth = _coco(images, _boxes_to_find(ground_truth), classes)
    found = _coco(images, _detections(results), classes)
    recall, precision = _precision_at_recall(truth, found, area_range)

    with_truth = {name: precision[:, label] for label, name in enumerate(classes) if counts[name]}
    ap50 = {name: float(with_truth[name].mean()) if name in with_truth else None for name in classes}
    map50 = float(np.mean([value for value in ap50.values() if value is not None]))
    return MapResult(map50, ap50, with_truth, recall, counts, len(images))


def evaluated_images(ground_truth: CocoDocument) -> list[Mapping[str, Any]]:
    """The frames about which something is known: labelled ones and verified-empty ones."""
    return [image for image in ground_truth["images"] if image.get("state") != FrameState.UNLABELLED]


def count_boxes(
    ground_truth: CocoDocument, classes: Sequence[str], area_range: AreaRange = ALL_AREAS
) -> dict[str, int]:
    """Boxes that have to be found in the evaluated frames, per class."""
    evaluated = {image["id"] for image in evaluated_images(ground_truth)}
    labels = [
        annotation["category_id"] - 1
        for annotation in ground_truth["annotations"]
        if annotation["image_id"] in evaluated
        and not is_ignored(annotation)
        and area_range[0] <= _area(annotation["bbox"]) <= area_range[1]
    ]
    found = np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, found, strict=True)}


def is_ignored(annotation: Mapping[str, Any]) -> bool:
    """Whether the annotation is an ignore region: finding or missing it counts for nothing."""
    return bool(annotation.get("iscrowd"))


def _precision_at_recall(
    truth: COCO, found: COCO, area_range: AreaRange
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall thresholds [101] and precision [101, C], -1 for a class without ground truth."""
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.params.areaRng = [list(area_range)]
    evaluation.params.areaRngLbl = ["all"]
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.params.recThrs), np.asarray(evaluation.eval["precision"][0, :, :, 0, 0])


def _coco(images: Sequence[Mapping[str, Any]], boxes: Sequence[dict[str, Any]], classes: Sequence[str]) -> COCO:
    """Boxes of the given frames as pycocotools wants them, numbered from 1: it takes id 0 for 'no match'."""
    known = {image["id"] for image in images}
    kept = [box for box in boxes if box["image_id"] in known]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image["id"]} for image in images],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(classes)],
        "annotations": [
            {"iscrowd": 0, **box, "id": number, "area": _area(box["bbox"])} for number, box in enumerate(kept, start=1)
        ],
    }
    with redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _boxes_to_find(ground_truth: CocoDocument) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "bbox")
    return [
        {key: annotation[key] for key in keys} | {"iscrowd": int(is_ignored(annotation))}
        for annotation in ground_truth["annotations"]
    ]


def _detections(results: Sequence[CocoResult]) -> list[dict[str, Any]]:
    """The results in an order of their own, so that ties do not depend on who wrote the list."""
    ordered = sorted(results, key=lambda result: (result["image_id"], result["category_id"], result["bbox"]))
    return [dict(result) for result in ordered]


def _area(bbox: Sequence[float]) -> float:
    return float(bbox[2]) * float(bbox[3])


def _check_ground_truth(ground_truth: CocoDocument, classes: Sequence[str]) -> None:
    expected = {label + 1: name for label, name in enumerate(classes)}
    found = {category["id"]: category["name"] for category in ground_truth["categories"]}
    if found != expected:
        raise DataError(f"ground truth: expected the categories {expected}, found {found}")
    annotations = ground_truth["annotations"]
    _refuse_unknown("ground truth", "image", annotations, {image["id"] for image in ground_truth["images"]})
    _refuse_unknown("ground truth", "category", annotations, expected)
    _refuse_bad_boxes("ground truth", annotations)


def _check_results(results: Sequence[CocoResult], images: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> None:
    _refuse_unknown("results", "image", results, {image["id"] for image in images})
    _refuse_unknown("results", "category", results, range(1, len(classes) + 1))
    _refuse_bad_boxes("results", results)
    for result in results:
        if not math.isfinite(result["score"]):
            raise DataError(f"results: expected a finite score, found {result['score']} in {result}")


def _refuse_unknown(where: str, kind: str, boxes: Sequence[Mapping[str, Any]], known: Collection[int]) -> None:
    unknown = sorted({box[f"{kind}_id"] for box in boxes} - set(known))
    if unknown:
        some = ", ".join(str(item) for item in unknown[:5]) + (" …" if len(unknown) > 5 else "")
        raise DataError(
            f"{where}: expected {kind} ids of the ground truth ({len(known)} known), "
            f"found {len(unknown)} unknown: {some}"
        )


def _refuse_bad_boxes(where: str, boxes: Sequence[Mapping[str, Any]]) -> None:
    for box in boxes:
        bbox = box["bbox"]  # plain Python: a large set has a million of them
        if len(bbox) != 4 or not all(map(math.isfinite, bbox)) or min(bbox[2:]) < 0:
            raise DataError(f"{where}: expected bbox as x, y, width, height, finite and not negative, found {box}")
