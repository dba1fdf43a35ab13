"""mAP@0.5 as COCO defines it (pycocotools finds the same), with labelled and verified-empty frames only."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.errors import DataError
from mobile_centernet.evaluation.matching import (
    RECALLS,
    AreaRange,
    BoxTable,
    Matched,
    interpolated_precision,
    match_detections,
)

CocoDocument = Mapping[str, Any]
"""A COCO annotation file as json.load returns it. Category ids are label + 1; an image may carry its `state`.

An annotation with `iscrowd` 1 is an ignore region: detections of its class that lie in it count as neither hits nor
false alarms. A prepared set writes a region once per class, so that it excuses every class.
"""

ALL_AREAS: AreaRange = (0.0, 1e10)


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
    """Average precision at IoU 0.5 by COCO's 101-point interpolation, at most 100 detections per frame and class.

    Frames whose state is `unlabelled` are left out, and so are results on them. The order of `results` does not
    matter: equal scores are ranked by position.

    Args:
        ground_truth: a COCO annotation file as `json.load` returns it, whose categories are `classes`, from id 1.
        results: detections in pixels of the frames, as COCO has them.
        classes: names by label.
        area_range: the smallest and the largest box that counts, in square pixels.

    Returns:
        The mean and each class's average precision in 0..1, with precision and recall and what they rest on.

    Raises:
        DataError: a result or an annotation names an unknown frame or category, a box or score is not a finite number,
            the categories are not `classes`, or no box at all has to be found, since mAP is then undefined.
    """
    matched = match_boxes(ground_truth, results, classes, area_range)
    boxes = matched.boxes.sum(axis=1).tolist()
    counts = dict(zip(classes, boxes, strict=True))
    images = matched.boxes.shape[1]
    if not any(boxes):
        raise DataError(
            "mAP is undefined without ground truth: expected a labelled box to find, "
            f"found none in {images} labelled or verified-empty frames"
        )
    precision = {
        name: interpolated_precision(matched.hit[matched.label == label], counts[name])
        for label, name in enumerate(classes)
        if counts[name]
    }
    ap50 = {name: float(precision[name].mean()) if name in precision else None for name in classes}
    map50 = float(np.mean([value for value in ap50.values() if value is not None]))
    return MapResult(map50, ap50, precision, RECALLS, counts, images)


def match_boxes(
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    classes: Sequence[str],
    area_range: AreaRange = ALL_AREAS,
) -> Matched:
    """Which detections are hits, in the evaluated frames, which are numbered in the order of their ids.

    Raises DataError as `evaluate_map50` does, but not where there is nothing to find.
    """
    expected = {label + 1: name for label, name in enumerate(classes)}
    categories = {category["id"]: category["name"] for category in ground_truth["categories"]}
    if categories != expected:
        raise DataError(f"ground truth: expected the categories {expected}, found {categories}")
    images = {image["id"] for image in ground_truth["images"]}
    for where, rows in (("ground truth", ground_truth["annotations"]), ("results", results)):
        _refuse_unknown(where, "image", rows, images)
        _refuse_unknown(where, "category", rows, expected)
    ids = sorted(image["id"] for image in evaluated_images(ground_truth))
    place = {image: number for number, image in enumerate(ids)}
    annotations = [row for row in ground_truth["annotations"] if row["image_id"] in place]
    crowd = np.fromiter(map(is_ignored, annotations), bool, len(annotations))
    detections = [row for row in results if row["image_id"] in place]
    score = np.fromiter((row["score"] for row in detections), np.float64, len(detections))
    truth, found = _boxes("ground truth", annotations, place), _boxes("results", detections, place)
    if not np.isfinite(score).all():
        bad = detections[int(np.flatnonzero(~np.isfinite(score))[0])]
        raise DataError(f"results: expected a finite score, found {bad['score']} in {bad}")
    return match_detections(truth, crowd, found, score, (len(classes), len(ids)), area_range)


def evaluated_images(ground_truth: CocoDocument) -> list[Mapping[str, Any]]:
    """The frames about which something is known: labelled ones and verified-empty ones."""
    return [image for image in ground_truth["images"] if image.get("state") != FrameState.UNLABELLED]


def count_boxes(
    ground_truth: CocoDocument, classes: Sequence[str], area_range: AreaRange = ALL_AREAS
) -> dict[str, int]:
    """Boxes that have to be found in the evaluated frames, per class. Raises DataError as `evaluate_map50` does."""
    boxes = match_boxes(ground_truth, [], classes, area_range).boxes.sum(axis=1).tolist()
    return dict(zip(classes, boxes, strict=True))


def is_ignored(annotation: Mapping[str, Any]) -> bool:
    """Whether the annotation is an ignore region: finding or missing it counts for nothing."""
    return bool(annotation.get("iscrowd"))


def _boxes(where: str, rows: Sequence[Mapping[str, Any]], place: Mapping[int, int]) -> BoxTable:
    """As arrays. Raises DataError for a bbox that is none."""
    bboxes = [row["bbox"] for row in rows]
    for row in rows if set(map(len, bboxes)) - {4} else ():
        if len(row["bbox"]) != 4:
            raise _bad_box(where, row)
    bbox = np.fromiter(chain.from_iterable(bboxes), np.float64, 4 * len(rows)).reshape(-1, 4)
    bad = ~np.isfinite(bbox).all(axis=1) | (bbox[:, 2:] < 0).any(axis=1)
    if bad.any():
        raise _bad_box(where, rows[int(np.flatnonzero(bad)[0])])
    frame = np.fromiter((place[row["image_id"]] for row in rows), np.int64, len(rows))
    label = np.fromiter((row["category_id"] - 1 for row in rows), np.int64, len(rows))
    return BoxTable(frame, label, bbox)


def _bad_box(where: str, row: Mapping[str, Any]) -> DataError:
    return DataError(f"{where}: expected bbox as x, y, width, height, finite and not negative, found {row}")


def _refuse_unknown(where: str, kind: str, boxes: Sequence[Mapping[str, Any]], known: Collection[int]) -> None:
    unknown = sorted({box[f"{kind}_id"] for box in boxes} - set(known))
    if unknown:
        some = ", ".join(str(item) for item in unknown[:5]) + (" …" if len(unknown) > 5 else "")
        raise DataError(
            f"{where}: expected {kind} ids of the ground truth ({len(known)} known), "
            f"found {len(unknown)} unknown: {some}"
        )
