"""Where a detector is good and where it is not: mAP@0.5 by object size and by what a frame says about itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mobile_centernet.evaluation.coco_eval import (
    ALL_AREAS,
    AreaRange,
    CocoDocument,
    CocoResult,
    count_boxes,
    evaluate_map50,
    evaluated_images,
)

SIZES: Mapping[str, AreaRange] = {
    "small (under 32² px)": (0.0, 32.0**2),
    "medium (32² to 96² px)": (32.0**2, 96.0**2),
    "large (over 96² px)": (96.0**2, ALL_AREAS[1]),
}
"""COCO's three sizes, in pixels of the stored frame."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of an evaluation; `map50` is None where the part has no ground truth."""

    name: str
    images: int
    boxes: int
    map50: float | None


def measure_slice(
    name: str,
    ground_truth: CocoDocument,
    results: Sequence[CocoResult],
    classes: Sequence[str],
    area_range: AreaRange,
) -> Slice:
    """mAP@0.5 of the objects whose area is in `area_range`, as one slice."""
    images = len(evaluated_images(ground_truth))
    boxes = sum(count_boxes(ground_truth, classes, area_range).values())
    if not boxes:
        return Slice(name, images, 0, None)
    return Slice(name, images, boxes, evaluate_map50(ground_truth, results, classes, area_range=area_range).map50)


def slice_by_attribute(
    ground_truth: CocoDocument, results: Sequence[CocoResult], classes: Sequence[str], attribute: str
) -> list[Slice]:
    """mAP@0.5 for every value of a frame attribute (`timeofday`, `weather`, `scene`), sorted by value.

    Frames without the attribute form no slice; a data set that never states it gives an empty list.
    """
    stated = {image["id"]: image.get("attributes", {}).get(attribute) for image in ground_truth["images"]}
    known = {stated[image["id"]] for image in evaluated_images(ground_truth)} - {None}
    slices = []
    for value in sorted(known):
        part = {
            **ground_truth,
            "images": [image for image in ground_truth["images"] if stated[image["id"]] == value],
            "annotations": [item for item in ground_truth["annotations"] if stated.get(item["image_id"]) == value],
        }
        found = [result for result in results if stated.get(result["image_id"]) == value]
        slices.append(measure_slice(value, part, found, classes, ALL_AREAS))
    return slices
