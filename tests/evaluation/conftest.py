"""Small COCO documents that can be checked by hand."""

from collections.abc import Callable
from typing import Any

import pytest

CLASSES = ("vehicle", "pedestrian")
Truth = Callable[..., dict[str, Any]]
Result = Callable[..., dict[str, Any]]


@pytest.fixture
def truth() -> Truth:
    """truth((image_id, label, bbox), ..., crowd=[(image_id, bbox)], states={image_id: state}, images=n)."""

    def build(
        *boxes: tuple[int, int, list[float]],
        crowd: tuple[tuple[int, list[float]], ...] = (),
        states: dict[int, str] | None = None,
        attributes: dict[int, dict[str, str]] | None = None,
        images: int = 2,
    ) -> dict[str, Any]:
        found = [(image, label + 1, bbox, 0) for image, label, bbox in boxes]
        found += [(image, label + 1, bbox, 1) for image, bbox in crowd for label in range(len(CLASSES))]
        return {
            "images": [
                {
                    "id": number,
                    "state": (states or {}).get(number, "labelled"),
                    "attributes": (attributes or {}).get(number, {}),
                }
                for number in range(1, images + 1)
            ],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)],
            "annotations": [
                {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": iscrowd}
                for number, (image, category, bbox, iscrowd) in enumerate(found, start=1)
            ],
        }

    return build


@pytest.fixture
def result() -> Result:
    """result(image_id, label, bbox, score)."""

    def build(image: int, label: int, bbox: list[float], score: float) -> dict[str, Any]:
        return {"image_id": image, "category_id": label + 1, "bbox": bbox, "score": score}

    return build
