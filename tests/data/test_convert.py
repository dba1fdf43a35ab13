"""Class maps and box checks, each on a box whose fate can be told by eye."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.data.annotations import Action, Box, Frame, FrameState
from mobile_centernet.data.convert import ClassMap, convert
from mobile_centernet.errors import DataError

SIZE = (720, 1280)
PAPER = ClassMap(
    ("vehicle", "pedestrian", "scooter", "bicycle"),
    {"car": "vehicle", "bus": "vehicle", "truck": "vehicle", "person": "pedestrian", "pedestrian": "pedestrian",
     "bike": "bicycle", "bicycle": "bicycle", "motor": "scooter", "motorcycle": "scooter",
     "rider": None, "traffic light": None, "traffic sign": None, "train": None},
)  # fmt: skip


def frame(*boxes: Box, **changes: object) -> Frame:
    state = FrameState.LABELLED if boxes else FrameState.EMPTY
    return replace(Frame(Path("a.jpg"), "a", "a", "train", state, boxes), **changes)


def convert_one(*xyxy: float, category: str = "car", size: tuple[int, int] = SIZE):
    return convert(frame(Box(category, xyxy)), PAPER, size)


def kinds(converted) -> list[tuple[str, str]]:
    return [(finding.kind, str(finding.action)) for finding in converted.findings]


def test_categories_become_labels():
    boxes = [Box(category, (0, 0, 10, 10)) for category in ("truck", "person", "motor", "bike", "bicycle")]
    assert convert(frame(*boxes), PAPER, SIZE).labels.tolist() == [0, 1, 2, 3, 3]


def test_a_good_box_stays_exactly_as_it_is():
    converted = convert_one(1125.902264, 133.184488, 1156.978645, 210.875445)
    assert converted.boxes.tolist() == [[1125.902264, 133.184488, 1156.978645, 210.875445]]
    assert converted.findings == ()
    assert converted.state is FrameState.LABELLED


def test_a_category_without_class_is_dropped_and_counted():
    boxes = [Box("traffic light", (0, 0, 9, 9))] * 2 + [Box("rider", (0, 0, 9, 9)), Box("car", (0, 0, 9, 9))]
    converted = convert(frame(*boxes), PAPER, SIZE)
    assert converted.dropped == {"traffic light": 2, "rider": 1}
    assert len(converted.boxes) == 1
    assert len(converted.ignore_boxes) == 0
    assert converted.findings == ()


def test_a_category_without_class_can_be_an_ignore_region():
    converted = convert(frame(Box("rider", (1, 2, 9, 9))), replace(PAPER, unmapped="ignore"), SIZE)
    assert converted.ignore_boxes.tolist() == [[1, 2, 9, 9]]
    assert converted.dropped == {}


@pytest.mark.parametrize("unmapped", ["drop", "ignore"])
def test_an_unknown_category_is_a_finding_and_an_ignore_region(unmapped):
    converted = convert(
        frame(Box("car", (0, 0, 9, 9)), Box("rickshaw", (1, 2, 9, 9))), replace(PAPER, unmapped=unmapped), SIZE
    )
    assert converted.ignore_boxes.tolist() == [[1, 2, 9, 9]]
    (finding,) = converted.findings
    assert (finding.kind, finding.action, finding.item) == ("unknown_category", Action.IGNORED, "a#1")
    assert finding.found == "rickshaw"


def test_a_box_that_its_source_ignores_is_ignored_whatever_its_category():
    crowd = Box("car", (0, 0, 90, 90), ignore=True)
    stranger = Box("other vehicle", (5, 5, 90, 90), ignore=True)
    converted = convert(frame(crowd, stranger), PAPER, SIZE)
    assert converted.ignore_boxes.tolist() == [[0, 0, 90, 90], [5, 5, 90, 90]]
    assert len(converted.boxes) == 0
    assert converted.findings == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_a_coordinate_that_is_no_finite_number(bad, place):
    xyxy = [10.0, 10.0, 50.0, 50.0]
    xyxy[place] = bad
    converted = convert_one(*xyxy)
    assert kinds(converted) == [("nan_box", "quarantined")]
    assert len(converted.boxes) == 0


@pytest.mark.parametrize("xyxy", [(50, 20, 10, 40), (10, 40, 50, 20), (50, 40, 10, 20)])
def test_an_inverted_box_is_swapped(xyxy):
    converted = convert_one(*xyxy)
    assert kinds(converted) == [("inverted_box", "repaired")]
    assert converted.boxes.tolist() == [[10, 20, 50, 40]]


@pytest.mark.parametrize(
    ("xyxy", "clipped"),
    [
        ((-30, 10, 50, 50), [0, 10, 50, 50]),
        ((10, -2, 50, 50), [10, 0, 50, 50]),
        ((1200, 10, 1290, 50), [1200, 10, 1280, 50]),
        ((10, 10, 50, 900), [10, 10, 50, 720]),
    ],
)
def test_a_box_that_reaches_outside_is_clipped(xyxy, clipped):
    converted = convert_one(*xyxy)
    assert kinds(converted) == [("outside_box", "repaired")]
    assert converted.boxes.tolist() == [clipped]


def test_rounding_of_up_to_a_pixel_at_the_border_is_clipped_without_a_finding():
    converted = convert_one(-0.4, -1, 1281, 720.3)
    assert converted.findings == ()
    assert converted.boxes.tolist() == [[0, 0, 1280, 720]]


@pytest.mark.parametrize("xyxy", [(1300, 10, 1400, 50), (-100, -100, -50, -50), (1279.5, 10, 1400, 50)])
def test_a_box_with_nothing_left_inside_is_quarantined(xyxy):
    assert kinds(convert_one(*xyxy)) == [("outside_box", "quarantined")]


@pytest.mark.parametrize("xyxy", [(10, 10, 10, 10), (10, 10, 10.9, 50), (10, 10, 50, 10.5), (0, 0, 0, 0)])
def test_a_box_below_one_pixel_is_quarantined(xyxy):
    assert kinds(convert_one(*xyxy)) == [("tiny_box", "quarantined")]


def test_exactly_one_pixel_is_a_box():
    assert convert_one(10, 10, 11, 11).boxes.tolist() == [[10, 10, 11, 11]]


def test_an_inverted_box_outside_says_both():
    converted = convert_one(50, 20, -10, 40)
    assert kinds(converted) == [("inverted_box", "repaired"), ("outside_box", "repaired")]
    assert converted.boxes.tolist() == [[0, 20, 50, 40]]


def test_a_dropped_category_is_not_checked():
    assert convert_one(math.nan, 0, 0, 0, category="traffic sign").findings == ()


def test_a_finding_names_the_number_of_its_box():
    boxes = [Box("car", (0, 0, 9, 9))] * 3 + [Box("car", (math.nan, 0, 9, 9))]
    (finding,) = convert(frame(*boxes), PAPER, SIZE).findings
    assert finding.item == "a#3"
    assert finding.found == "nan, 0, 9, 9"


def test_states_of_a_frame():
    good, dropped, nan = (
        Box("car", (0, 0, 9, 9)), Box("rider", (0, 0, 9, 9)), Box("car", (math.nan, 0, 9, 9)),
    )  # fmt: skip
    assert convert(frame(good, nan), PAPER, SIZE).state is FrameState.LABELLED
    assert convert(frame(dropped), PAPER, SIZE).state is FrameState.EMPTY
    assert convert(frame(), PAPER, SIZE).state is FrameState.EMPTY
    assert convert(frame(state=FrameState.UNLABELLED), PAPER, SIZE).state is FrameState.UNLABELLED


@pytest.mark.parametrize("lost", [(math.nan, 0, 9, 9), (0, 0, 0, 0), (2000, 2000, 2100, 2100)])
def test_a_frame_whose_only_object_was_lost_is_no_verified_negative(lost):
    converted = convert(frame(Box("car", lost), Box("rider", (0, 0, 9, 9))), PAPER, SIZE)
    assert converted.state is FrameState.UNLABELLED


def test_labels_of_a_resized_copy_are_scaled():
    converted = convert(frame(Box("car", (960, 540, 1920, 1080)), declared_size=(1080, 1920)), PAPER, SIZE)
    assert kinds(converted) == [("size_mismatch", "repaired")]
    assert converted.boxes.tolist() == [[640, 360, 1280, 720]]


def test_labels_of_another_picture_are_quarantined():
    turned = frame(Box("car", (10, 10, 50, 50)), Box("car", (1, 1, 5, 5)), declared_size=(1280, 720))
    converted = convert(turned, PAPER, SIZE)
    assert kinds(converted) == [("size_mismatch", "quarantined")]
    assert converted.state is FrameState.UNLABELLED
    assert converted.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("orientation", "says_so"), [(1, False), (3, False), (5, True), (6, True), (7, True), (8, True)]
)
def test_labels_of_a_picture_turned_by_exif_say_so(orientation, says_so):
    turned = frame(Box("car", (10, 10, 50, 50)), declared_size=(1280, 720))
    (finding,) = convert(turned, PAPER, SIZE, orientation).findings
    assert (finding.expected, finding.found[:8]) == ("1280x720", "720x1280")
    assert (f"EXIF orientation {orientation} turns it" in finding.found) is (orientation >= 5)


def test_a_claim_of_no_size_is_ignored():
    converted = convert(frame(Box("car", (10, 10, 50, 50)), declared_size=(0, 0)), PAPER, SIZE)
    assert kinds(converted) == [("size_mismatch", "ignored")]
    assert len(converted.boxes) == 1


def test_a_true_claim_says_nothing():
    assert convert(frame(Box("car", (10, 10, 50, 50)), declared_size=SIZE), PAPER, SIZE).findings == ()


def test_the_map_knows_categories_in_any_spelling():
    spelled = ClassMap(("light",), {" Traffic  Light ": "light"})
    assert convert(frame(Box("traffic light", (0, 0, 9, 9))), spelled, SIZE).labels.tolist() == [0]


@pytest.mark.parametrize(
    ("classes", "mapping", "message"),
    [
        (("car",), {"car": "car", "bus": "vehicle"}, "found the mapping to vehicle"),
        (("car", "car"), {"car": "car"}, "found twice: car"),
        (("car", "tram"), {"car": "car"}, "found none for tram"),
        ((), {}, "at least one class"),
        (("car",), {"car": "car", "CAR": None}, "category once, found twice: car"),
    ],
)
def test_a_wrong_class_list_is_one_clear_error(classes, mapping, message):
    with pytest.raises(DataError, match=message):
        ClassMap(classes, mapping)


def test_an_unknown_policy_is_refused():
    with pytest.raises(DataError, match="drop or ignore, found 'background'"):
        ClassMap(("car",), {"car": "car"}, unmapped="background")


coordinate = st.one_of(st.floats(-3000, 3000), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1280.0]))
category = st.sampled_from(["car", "rider", "person", "rickshaw"])
box = st.builds(Box, category, st.tuples(*[coordinate] * 4), st.booleans())


@given(st.lists(box, max_size=8), st.sampled_from(["drop", "ignore"]))
def test_every_box_is_accounted_for_and_every_kept_one_is_sound(boxes, unmapped):
    converted = convert(frame(*boxes), replace(PAPER, unmapped=unmapped), SIZE)
    quarantined = [finding for finding in converted.findings if finding.action is Action.QUARANTINED]
    kept = np.concatenate([converted.boxes, converted.ignore_boxes])
    assert len(kept) + len(quarantined) + converted.dropped.total() == len(boxes)
    assert len(converted.boxes) == len(converted.labels)
    assert (kept[:, 2:] - kept[:, :2] >= 1).all()
    assert (kept >= 0).all()
    assert (kept <= [1280, 720, 1280, 720]).all()
