"""Drawings show the boxes where they are and leave their input alone."""

import numpy as np
import pytest

from mobile_centernet.reports.drawing import BoxedImage, contact_sheet, draw_boxes, draw_closely
from mobile_centernet.reports.style import CLASS_COLOURS, TEXT_COLOURS, class_colour

CLASSES = ("vehicle", "pedestrian", "velosipēds")
BOXES = np.array([[20, 10, 60, 40], [70, 10, 90, 45]], np.float32)
LABELS = np.array([0, 2])
NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def grey(height: int = 50, width: int = 100) -> np.ndarray:
    return np.full((height, width, 3), 120, np.uint8)


def rgb(label: int) -> list[int]:
    return list(bytes.fromhex(class_colour(label)[1:]))


def test_box_is_drawn_in_its_class_colour_at_its_place():
    drawn = draw_boxes(grey(), BOXES, LABELS, CLASSES, width=200, named=False)
    assert drawn.shape == (100, 200, 3)
    assert drawn.dtype == np.uint8
    assert drawn[50, 40].tolist() == rgb(0)  # left edge of the first box, scaled by 2
    assert drawn[50, 180].tolist() == rgb(2)  # right edge of the second
    assert drawn[50, 80].tolist() == [120, 120, 120]  # inside the first


def test_the_input_stays_as_it_was():
    image = grey()
    draw_boxes(image, BOXES, LABELS, CLASSES, width=100)
    assert (image == 120).all()


def test_names_are_written_where_they_fit_and_differ_with_the_score():
    large, small = np.array([[10, 10, 90, 45]], np.float32), np.array([[10, 10, 14, 14]], np.float32)
    label, scores = np.array([0]), np.array([0.5], np.float32)
    plain = draw_boxes(grey(), large, label, CLASSES, named=False)
    assert (draw_boxes(grey(), large, label, CLASSES) != plain).any()
    assert (draw_boxes(grey(), large, label, CLASSES, scores) != draw_boxes(grey(), large, label, CLASSES)).any()
    np.testing.assert_array_equal(
        draw_boxes(grey(), small, label, CLASSES), draw_boxes(grey(), small, label, CLASSES, named=False)
    )


def test_frames_without_boxes_and_boxes_without_area_are_drawn():
    assert (draw_boxes(grey(), NO_BOXES, NO_LABELS, CLASSES, width=100) == 120).all()
    dot = np.array([[5, 5, 5, 5], [100, 50, 100, 50]], np.float32)
    assert (draw_boxes(grey(), dot, np.array([0, 1]), CLASSES, width=100) != 120).any()


def test_label_without_class_is_refused():
    with pytest.raises(ValueError, match="labels: expected 0 to 2, found 0 to 3"):
        draw_boxes(grey(), BOXES, np.array([0, 3]), CLASSES)


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (4, 2, 3)])
def test_contact_sheet_is_a_grid(count, rows, columns):
    frames = [BoxedImage(grey(), BOXES, LABELS)] * count
    sheet = contact_sheet(frames, CLASSES, columns=3, tile_size=(60, 120), legend=False)
    assert sheet.shape == (rows * 62 - 2, columns * 122 - 2, 3)
    with_legend = contact_sheet(frames, CLASSES, columns=3, tile_size=(60, 120))
    np.testing.assert_array_equal(with_legend[: len(sheet)], sheet)
    assert (with_legend[len(sheet) :] == rgb(1)).all(-1).any()  # the legend has every class, boxes or not


def test_portrait_frames_are_fitted_not_stretched():
    sheet = contact_sheet([BoxedImage(grey(200, 50), NO_BOXES, NO_LABELS)], CLASSES, tile_size=(60, 120), legend=False)
    assert ((sheet == 120).all(-1).any(0)).sum() == 15  # 60 px high, a quarter as wide
    assert (sheet[:, 0] == 238).all()


def test_contact_sheet_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([], CLASSES)


def test_text_on_every_class_colour_has_contrast_of_at_least_four_and_a_half():
    def luminance(colour: str) -> float:
        channels = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for background in CLASS_COLOURS:
        low, high = sorted([luminance(background), luminance(TEXT_COLOURS[background])])
        assert (high + 0.05) / (low + 0.05) >= 4.5
    assert class_colour(len(CLASS_COLOURS)) == class_colour(0)


@pytest.mark.parametrize(
    "box",
    [
        [40, 20, 48, 26],  # small, in the middle
        [0, 0, 6, 6],  # in a corner
        [95, 44, 99, 49],
        [0, 0, 100, 50],  # the whole frame
        [50, 20, 50, 20],  # without area
    ],
)
def test_a_close_view_has_its_size_and_holds_the_box(box):
    image = grey()
    drawn = draw_closely(image, np.array(box, np.float32), 1, BOXES, size=(90, 120))
    assert drawn.shape == (90, 120, 3) and (image == 120).all()
    assert (drawn == rgb(1)).all(axis=2).any()


def test_a_close_view_shows_the_neighbours_in_white():
    near, alone = (
        draw_closely(grey(), np.array([40, 20, 48, 26], np.float32), 0, others, size=(90, 120))
        for others in (np.array([[50, 20, 56, 28]], np.float32), NO_BOXES)
    )
    assert (near == 255).all(axis=2).any() and not (alone == 255).all(axis=2).any()


def test_a_close_view_shows_the_place_and_not_the_box_alone():
    """At least three times the box: the box itself fills at most a ninth of the view and a bit."""
    drawn = draw_closely(grey(), np.array([40, 20, 52, 29], np.float32), 0, NO_BOXES, size=(90, 120))
    rows, columns = np.nonzero((drawn == rgb(0)).all(axis=2))
    assert np.ptp(columns) <= 120 / 3 + 8 and np.ptp(rows) <= 90 / 3 + 8
