"""Box arithmetic, numpy only. Boxes are xyxy in absolute pixels, a COCO bbox is xywh (left, top, width, height)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def xyxy_to_xywh(boxes: NDArray[Any]) -> NDArray[Any]:
    """Boxes [..., 4] as COCO has them, of the same dtype; a box that is inside out has width or height 0."""
    return np.concatenate([boxes[..., :2], np.maximum(boxes[..., 2:] - boxes[..., :2], 0)], axis=-1)


def xywh_to_xyxy(boxes: NDArray[Any]) -> NDArray[Any]:
    """The corners [..., 4] of COCO's boxes, of the same dtype."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def box_area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas [...] of boxes xyxy [..., 4]."""
    area: NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area


def box_iou(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    areas: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    crowd: NDArray[np.bool_] | bool = False,
) -> NDArray[np.float64]:
    """Intersection over union, as pycocotools computes it.

    Args:
        ours, theirs: xyxy, [..., 4] each; leading axes broadcast, so [M, 1, 4] and [N, 4] give all pairs [M, N].
        areas: of `ours` and of `theirs`, where they are known more exactly than from the corners (COCO's w·h).
        crowd: where `theirs` is a crowd: the share of our box that lies in it, instead.

    Returns:
        0..1, 0 where boxes do not touch or one is empty.
    """
    width = np.minimum(ours[..., 2], theirs[..., 2]) - np.maximum(ours[..., 0], theirs[..., 0])
    height = np.minimum(ours[..., 3], theirs[..., 3]) - np.maximum(ours[..., 1], theirs[..., 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    own, other = areas or (box_area(ours), box_area(theirs))
    union = np.where(crowd, own, own + other - shared)
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return iou


def boxes_to_original(
    boxes: NDArray[np.float32], input_size: tuple[int, int], original_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Carry boxes [..., 4] (xyxy, input pixels) back to pixels of the original image, clipped to that image.

    Both sizes are (height, width). The inverse of the straight stretch from an image to the input.
    """
    input_wh = np.array(input_size[::-1] * 2, np.float32)
    original_wh = np.array(original_size[::-1] * 2, np.float32)
    original = np.clip(boxes * (original_wh / input_wh), 0, original_wh)
    return original.astype(np.float32)
