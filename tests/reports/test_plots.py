"""Figures decode, have the promised size, show something, and are the same bytes every time."""

from collections.abc import Callable

import cv2
import matplotlib
import numpy as np
import pytest

from mobile_centernet.evaluation.coco_eval import MapResult
from mobile_centernet.reports.plots import ap_bars, class_frequencies, confusion_figure, pr_curves, training_curves
from mobile_centernet.reports.style import DPI, WIDTH

thresholds = np.linspace(0, 1, 101)


def measured(*, scale: float = 1.0, classes: int = 3) -> MapResult:
    names = [f"class {label}" for label in range(classes)]
    precision = {name: np.where(thresholds >= 0.5 * scale, 0.0, 0.9) for name in names}
    ap50 = {**{name: float(precision[name].mean()) for name in names}, "absent": None}
    return MapResult(0.45 * scale, 0.2 * scale, 0.3 * scale, ap50, precision, thresholds, dict.fromkeys(names, 5), 2)


RESULTS = {"teacher": measured(), "student": measured(scale=0.8)}
RECORDS = [
    {"epoch": epoch, "train/size": 5 / (epoch + 1), "val/map50": 0.1 * epoch} | ({"val/size": 1.0} if epoch else {})
    for epoch in range(4)
]
FIGURES: dict[str, Callable[[], bytes]] = {
    "pr_curves": lambda: pr_curves(RESULTS),
    "ap_bars": lambda: ap_bars(RESULTS),
    "training_curves": lambda: training_curves(RECORDS),
    "confusion": lambda: confusion_figure(np.arange(16).reshape(4, 4), ("a", "b", "c")),
    "class_frequencies": lambda: class_frequencies({"a": 1000, "b": 0}, {"a": 1.0, "b": 1.0}),
}


def pixels(png: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_a_png_that_shows_something_and_never_changes(name):
    png = FIGURES[name]()
    assert png.startswith(b"\x89PNG")
    image = pixels(png)
    assert image.shape[1] == round(WIDTH * DPI)
    assert image.shape[0] > 200
    assert (image[0, 0] == 255).all()
    assert 0.002 < (image != 255).any(-1).mean() < 0.9
    assert FIGURES[name]() == png


def test_the_users_own_matplotlib_settings_neither_leak_in_nor_out():
    expected = ap_bars(RESULTS)
    with matplotlib.rc_context({"font.size": 30, "figure.dpi": 20}):
        assert ap_bars(RESULTS) == expected
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_every_number_of_classes_has_its_panels(classes):
    results = {"student": measured(classes=classes)}
    assert pixels(pr_curves(results)).shape[1] == round(WIDTH * DPI)
    rows = -(-classes // 2)
    assert pixels(pr_curves(results)).shape[0] == pytest.approx(
        (0.4 + 2 * rows * (1.5 if classes == 1 else 1)) * DPI, abs=1
    )


def test_teacher_and_student_keep_their_colours():
    image = pixels(ap_bars(RESULTS)).reshape(-1, 3)
    for rgb in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)):
        assert (image == rgb[::-1]).all(-1).sum() > 1000


def test_longer_bars_for_more_boxes():
    image = pixels(class_frequencies({"many": 100_000, "few": 10}))
    blue = (image == (0xB2, 0x72, 0x00)).all(-1).sum(1)
    middle = np.flatnonzero(blue)[[0, -1]]
    assert blue[middle[0]] > 2 * blue[middle[1]]


def test_names_with_dollar_signs_are_not_taken_for_formulas():
    assert pixels(class_frequencies({"$x_{": 3, "_y$": 5})).any()


def test_gaps_and_a_single_epoch_are_drawn():
    assert pixels(training_curves([{"epoch": 0, "val/map50": 0.5}])).any()
    assert pixels(training_curves([{"epoch": 0, "loss": 1.0}, {"epoch": 1, "val/map50": float("nan")}])).any()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: pr_curves({}),
        lambda: ap_bars({"student": measured(classes=0)}),
        lambda: training_curves([]),
        lambda: training_curves([{"epoch": 0}]),
        lambda: confusion_figure(np.zeros((3, 3), np.int64), ("a",)),
        lambda: class_frequencies({}),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(ValueError, match="expected"):
        draw()
