"""Pixels and boxes must move together: checked by drawing rectangles and finding them again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobile_centernet.data.training.augment import (
    Augmentation,
    ignore_mask,
    recolour,
    view_of,
    warp_boxes,
    warp_image,
)
from mobile_centernet.images import resize

FRAME, INPUT = (180, 320), (160, 288)


def drawn(box: tuple[int, int, int, int]) -> np.ndarray:
    """A black frame with one white rectangle whose edges lie on `box`."""
    x1, y1, x2, y2 = box
    image = np.zeros((*FRAME, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    return image


def found(image: np.ndarray) -> tuple[float, float, float, float]:
    """The rectangle's edges to a fraction of a pixel: how much of each border pixel is white counts."""
    weight = image[..., 0].astype(float) / 255
    columns, rows = weight.max(axis=0), weight.max(axis=1)
    x1, y1 = np.flatnonzero(columns > 0)[0], np.flatnonzero(rows > 0)[0]
    width, height = columns.sum(), rows.sum()
    x_centre = (columns * (np.arange(len(columns)) + 0.5)).sum() / width
    y_centre = (rows * (np.arange(len(rows)) + 0.5)).sum() / height
    assert x1 >= 0 and y1 >= 0
    return (x_centre - width / 2, y_centre - height / 2, x_centre + width / 2, y_centre + height / 2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    x=st.integers(120, 180),
    y=st.integers(60, 100),
    w=st.integers(12, 60),
    h=st.integers(12, 40),
)
def test_a_drawn_box_is_where_its_warped_box_says(seed: int, x: int, y: int, w: int, h: int) -> None:
    box = (x, y, x + w, y + h)
    view = view_of(FRAME, INPUT, Augmentation(scale=(0.6, 1.4), shift=0.1), np.random.default_rng(seed))
    boxes, seen = warp_boxes(np.array([box], np.float32), view, INPUT)
    assert seen.tolist() == [True]
    np.testing.assert_allclose(found(warp_image(drawn(box), view, INPUT)), boxes[0], atol=0.75)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frame=st.tuples(st.integers(9, 400), st.integers(9, 400)))
def test_a_view_lies_in_the_frame_and_in_the_input_and_is_never_empty(seed: int, frame: tuple[int, int]) -> None:
    view = view_of(frame, INPUT, Augmentation(scale=(0.3, 3.0), shift=0.4), np.random.default_rng(seed))
    for (x1, y1, x2, y2), (height, width) in ((view.crop, frame), (view.target, INPUT)):
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


def test_the_straight_view_is_the_resize_of_evaluation() -> None:
    image = np.random.default_rng(0).integers(0, 255, (*FRAME, 3), np.uint8)
    np.testing.assert_array_equal(
        warp_image(image, view_of(FRAME, INPUT, None, np.random.default_rng(0)), INPUT), resize(image, INPUT)
    )


def test_a_frame_that_shrinks_is_averaged_and_none_of_its_pixels_skipped() -> None:
    lines = np.zeros((*FRAME, 3), np.uint8)
    lines[:, ::4] = 200  # one column of four
    view = view_of(FRAME, (45, 80), Augmentation(scale=(1, 1), shift=0, flip=0), np.random.default_rng(0))
    np.testing.assert_array_equal(warp_image(lines, view, (45, 80)), 50)


def test_straight_boxes_by_hand() -> None:
    boxes, _ = warp_boxes(
        np.array([[0, 0, 320, 180], [160, 90, 320, 180]], np.float32),
        view_of(FRAME, INPUT, None, np.random.default_rng(0)),
        INPUT,
    )
    np.testing.assert_allclose(boxes, [[0, 0, 288, 160], [144, 80, 288, 160]], atol=1e-4)


def test_mirroring_twice_is_no_mirroring() -> None:
    mirror = Augmentation(scale=(1, 1), shift=0, flip=1)
    view = view_of(FRAME, INPUT, mirror, np.random.default_rng(0))
    boxes, _ = warp_boxes(np.array([[32, 18, 64, 90]], np.float32), view, INPUT)
    np.testing.assert_allclose(boxes, [[288 - 57.6, 16, 288 - 28.8, 80]], atol=1e-3)


def test_boxes_out_of_view_are_not_seen() -> None:
    view = view_of(FRAME, INPUT, Augmentation(scale=(1.4, 1.4), shift=0), np.random.default_rng(0))
    boxes, seen = warp_boxes(np.array([[0, 0, 10, 10], [150, 80, 170, 100]], np.float32), view, INPUT)
    assert seen.tolist() == [False, True]
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 288).all() and (boxes[:, [1, 3]] <= 160).all()


def test_no_boxes() -> None:
    boxes, seen = warp_boxes(np.zeros((0, 4), np.float32), view_of(FRAME, INPUT, None, np.random.default_rng(0)), INPUT)
    assert boxes.shape == (0, 4) and seen.shape == (0,)


def test_recolour_changes_colours_and_not_places() -> None:
    image = drawn((100, 60, 200, 120)) // 2 + 40
    changed = recolour(image, Augmentation(), np.random.default_rng(3))
    assert changed.dtype == np.uint8 and changed.shape == image.shape
    assert len(np.unique(changed.reshape(-1, 3), axis=0)) == 2
    assert (changed != image).any()


def test_recolour_with_strength_zero_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    np.testing.assert_array_equal(recolour(image, Augmentation(colour=0, lighting=0), np.random.default_rng(0)), image)


@pytest.mark.parametrize(("box", "cells"), [((4, 4, 8, 8), 1), ((5, 5, 7, 7), 1), ((3, 3, 9, 9), 9)])
def test_ignore_mask_covers_every_touched_cell(box: tuple[int, int, int, int], cells: int) -> None:
    assert ignore_mask(np.array([box], np.float32), (8, 8), 4).sum() == cells
