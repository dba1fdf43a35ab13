"""Box arithmetic: the same as pycocotools to the last bit, and there and back."""

import numpy as np
import pytest
from pycocotools import mask

from mobile_centernet.boxes import box_iou, boxes_to_original, xywh_to_xyxy, xyxy_to_xywh


def boxes(count: int, seed: int) -> np.ndarray:
    """xywh with whole and broken corners, so that some touch, some are equal and some are empty."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0, 60, (count, 4))
    found[::3] = found[::3].round(-1)
    return found


@pytest.mark.parametrize("crowd", [False, True])
def test_iou_is_that_of_pycocotools(crowd: bool) -> None:
    ours, theirs = boxes(60, 0), boxes(50, 1)
    areas = (ours[:, 2] * ours[:, 3])[:, None], theirs[:, 2] * theirs[:, 3]
    found = box_iou(xywh_to_xyxy(ours)[:, None], xywh_to_xyxy(theirs), areas, crowd)
    np.testing.assert_array_equal(found, mask.iou(ours, theirs, [int(crowd)] * len(theirs)))


def test_iou_of_pairs_by_hand() -> None:
    ours = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 9]], float)
    theirs = np.array([[5, 0, 15, 10], [10, 0, 20, 10], [5, 5, 5, 9]], float)
    np.testing.assert_allclose(box_iou(ours, theirs), [1 / 3, 0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_corners_and_sides_there_and_back(dtype: type) -> None:
    whole = boxes(30, 2).round().astype(dtype)
    corners = xywh_to_xyxy(whole)
    np.testing.assert_array_equal(xyxy_to_xywh(corners), whole)
    assert corners.dtype == xyxy_to_xywh(corners).dtype == dtype
    assert xyxy_to_xywh(np.empty((0, 4), dtype)).shape == (0, 4)


def test_a_box_inside_out_has_no_size() -> None:
    assert xyxy_to_xywh(np.array([[9, 2, 3, 8]])).tolist() == [[9, 2, 0, 6]]


def test_boxes_come_back_clipped_to_the_image() -> None:
    found = boxes_to_original(np.float32([[-4, 8, 32, 99]]), (32, 64), (64, 64))
    assert found.tolist() == [[0, 16, 32, 64]] and found.dtype == np.float32
