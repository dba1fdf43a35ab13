"""mAP as COCO defines it, with labelled and verified-empty frames only. hotcoco matches boxes and counts.

hotcoco gives what pycocotools gives, ties included; the tests hold both to the same answers. It is handed detections in
a fixed order, so that equal scores do not make a number depend on who wrote them first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, TypedDict

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from mobile_centernet.data.annotations import FrameState
from mobile_centernet.errors import DataError

IOUS = np.linspace(0.5, 0.95, 10)
"""COCO's thresholds; the first is that of mAP@0.5."""

MAX_DETECTIONS = 100  # per frame and class; the decoder emits no more than 100 a frame
RECALLS = np.linspace(0.0, 1.0, 101)

AreaRange = tuple[float, float]
"""Smallest and largest box area that counts, in square pixels of the stored frame, both ends included."""

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
    `map50_95`: COCO's own AP, the mean over IOUS of what `map50` is at 0.5.
    `ar100`: COCO's average recall over IOUS, with at most 100 detections a frame and class.
    `precision`: class -> float64 [101], interpolated precision at the thresholds `recall` [101].
    `counts`: class -> ground-truth boxes that had to be found (ignore regions are not counted).
    `images`: frames evaluated.
    """

    map50: float
    map50_95: float
    ar100: float
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
    counts = count_boxes(ground_truth, classes, area_range)
    images = len(evaluated_images(ground_truth))
    if not any(counts.values()):
        raise DataError(
            "mAP is undefined without ground truth: expected a labelled box to find, "
            f"found none in {images} labelled or verified-empty frames"
        )
    evaluation = match_boxes(ground_truth, results, classes, area_range, IOUS)
    evaluation.accumulate()
    assert evaluation.eval is not None  # noqa: S101 it was just accumulated
    known = [bool(counts[name]) for name in classes]
    by_threshold = np.asarray(evaluation.eval["precision"], np.float64)[:, :, :, 0, 0]  # [IoU, recall, class]
    recall = np.asarray(evaluation.eval["recall"], np.float64)[:, known, 0, 0]
    by_class = by_threshold[0].T
    precision = {name: row for name, row in zip(classes, by_class, strict=True) if counts[name]}
    ap50 = {name: float(precision[name].mean()) if name in precision else None for name in classes}
    map50 = float(np.mean([value for value in ap50.values() if value is not None]))
    map50_95, ar100 = float(by_threshold[:, :, known].mean()), float(recall.mean())
    return MapResult(map50, map50_95, ar100, ap50, precision, RECALLS, counts, images)


def evaluated_images(ground_truth: CocoDocument) -> list[Mapping[str, Any]]:
    """The frames about which something is known: labelled ones and verified-empty ones."""
    return [image for image in ground_truth["images"] if image.get("state") != FrameState.UNLABELLED]


def restricted(ground_truth: CocoDocument, images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of these of its images alone.

    Of the evaluated images it is what pycocotools needs for the same mAP: an image without boxes is background to it.
    """
    kept = {image["id"] for image in images}
    annotations = [row for row in ground_truth["annotations"] if row["image_id"] in kept]
    return {**ground_truth, "images": list(images), "annotations": annotations}


def count_boxes(
    ground_truth: CocoDocument, classes: Sequence[str], area_range: AreaRange = ALL_AREAS
) -> dict[str, int]:
    """Boxes that have to be found in the evaluated frames, per class. Raises DataError as `evaluate_map50` does."""
    _, label, bbox, crowd = _truth(ground_truth, classes)
    area = bbox[:, 2] * bbox[:, 3]
    wanted = ~crowd & (area >= area_range[0]) & (area <= area_range[1])
    return dict(zip(classes, np.bincount(label[wanted], minlength=len(classes)).tolist(), strict=True))


def is_ignored(annotation: Mapping[str, Any]) -> bool:
    """Whether the annotation is an ignore region: finding or missing it counts for nothing."""
    return bool(annotation.get("iscrowd"))


def match_boxes(
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    classes: Sequence[str],
    area_range: AreaRange,
    ious: NDArray[np.float64],
) -> COCOeval:
    """hotcoco's matches of the evaluated frames, by frame and class, at each of `ious` [T]; not yet accumulated.

    Raises DataError as `evaluate_map50` does, but not where there is nothing to find.
    """
    frame, label, bbox, crowd = _truth(ground_truth, classes)
    found_frame, found_label, found_bbox, rows = _columns("results", results, ground_truth, classes)
    score = np.fromiter(map(itemgetter("score"), rows), np.float64, len(rows))
    if not np.isfinite(score).all():
        bad = rows[int(np.flatnonzero(~np.isfinite(score))[0])]
        raise DataError(f"results: expected a finite score, found {bad['score']} in {bad}")
    order = np.lexsort((*found_bbox.T[::-1], -score, found_frame, found_label))
    known = sorted(image["id"] for image in evaluated_images(ground_truth))
    images = [{"id": image, "width": 0, "height": 0} for image in known]
    numbers = list(range(1, len(classes) + 1))
    categories = [{"id": number, "name": name} for number, name in zip(numbers, classes, strict=True)]
    truth = COCO.from_arrays(
        images, categories, frame, label + 1, bbox, area=bbox[:, 2] * bbox[:, 3], iscrowd=crowd.astype(np.int64)
    )
    table = np.column_stack((found_frame, found_bbox, score, found_label + 1))[order]
    found = truth.load_res(table) if len(table) else COCO.from_arrays(images, categories, [], [], np.empty((0, 4)))
    evaluation = COCOeval(truth, found, "bbox")
    parameters = evaluation.params
    parameters.iou_thrs, parameters.max_dets = ious.tolist(), [MAX_DETECTIONS]
    parameters.area_rng, parameters.area_rng_lbl = [list(area_range)], ["all"]
    parameters.img_ids, parameters.cat_ids = known, numbers
    evaluation.params = parameters
    evaluation.evaluate()
    return evaluation


def _truth(
    ground_truth: CocoDocument, classes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Image id, label, bbox and whether it is an ignore region, of each annotation of an evaluated frame."""
    expected = {label + 1: name for label, name in enumerate(classes)}
    found = {category["id"]: category["name"] for category in ground_truth["categories"]}
    if found != expected:
        raise DataError(f"ground truth: expected the categories {expected}, found {found}")
    frame, label, bbox, rows = _columns("ground truth", ground_truth["annotations"], ground_truth, classes)
    return frame, label, bbox, np.fromiter(map(is_ignored, rows), bool, len(rows))


def _columns(
    where: str, rows: Sequence[Mapping[str, Any]], ground_truth: CocoDocument, classes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Sequence[Mapping[str, Any]]]:
    """Image ids, labels and bboxes [N, 4] of the rows on evaluated frames, and these rows.

    Raises DataError for a frame or category that the ground truth does not know, and for a bbox that is none.
    """
    frame = np.fromiter(map(itemgetter("image_id"), rows), np.int64, len(rows))
    label = np.fromiter(map(itemgetter("category_id"), rows), np.int64, len(rows)) - 1
    for kind, ids, known in (
        ("image", frame, {image["id"] for image in ground_truth["images"]}),
        ("category", label + 1, set(range(1, len(classes) + 1))),
    ):
        if unknown := sorted(set(np.unique(ids).tolist()) - known):
            some = ", ".join(str(item) for item in unknown[:5]) + (" …" if len(unknown) > 5 else "")
            raise DataError(
                f"{where}: expected {kind} ids of the ground truth ({len(known)} known), "
                f"found {len(unknown)} unknown: {some}"
            )
    evaluated = [image["id"] for image in evaluated_images(ground_truth)]
    if len(evaluated) < len(ground_truth["images"]):
        kept = np.flatnonzero(np.isin(frame, evaluated))
        frame, label, rows = frame[kept], label[kept], [rows[i] for i in kept.tolist()]
    bboxes = list(map(itemgetter("bbox"), rows))
    if set(map(len, bboxes)) - {4}:
        raise _bad_box(where, next(row for row in rows if len(row["bbox"]) != 4))
    bbox = np.fromiter(chain.from_iterable(bboxes), np.float64, 4 * len(rows)).reshape(-1, 4)
    bad = ~np.isfinite(bbox).all(axis=1) | (bbox[:, 2:] < 0).any(axis=1)
    if bad.any():
        raise _bad_box(where, rows[int(np.flatnonzero(bad)[0])])
    return frame, label, bbox, rows


def _bad_box(where: str, row: Mapping[str, Any]) -> DataError:
    return DataError(f"{where}: expected bbox as x, y, width, height, finite and not negative, found {row}")
