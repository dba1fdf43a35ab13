"""Which frames are worth a label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.detections import Detections
from mobile_centernet.field.criteria import Criteria, usefulness
from mobile_centernet.field.view import BITS, FrameView, distances
from tests.helpers.harvests import CLASSES, NOON, found, frame

THRESHOLDS = dict.fromkeys(CLASSES, 0.3)
SIZE = (96, 160)
CAR = ("vehicle", 0.9, 40, 40, 60, 60)
SEEN = FrameView.of(frame(0))


def criteria(**changes: float) -> Criteria:
    settings = {"margin": 0.1, "rare_share": 0.0, "near_bits": 24, "novel_bits": 256, **changes}
    return Criteria(**settings)  # type: ignore[arg-type]


def judged(judge: Criteria, detections: Detections, at: float = NOON, size: tuple[int, int] = SIZE) -> dict[str, float]:
    return judge.judge(SEEN, size, detections, THRESHOLDS, at)


@pytest.mark.parametrize(("score", "doubt"), [(0.3, 0.5), (0.35, 0.25), (0.25, 0.25), (0.45, 0), (0.15, 0), (0.9, 0)])
def test_scores_near_their_threshold_are_uncertain_by_how_near_they_are(score: float, doubt: float) -> None:
    reasons = judged(criteria(), found(("vehicle", score, 40, 40, 60, 60)))
    assert reasons.get("uncertain", 0) == pytest.approx(doubt, abs=1e-6)


def test_several_doubts_add_up_to_one() -> None:
    rows = [("vehicle", 0.3, 40.0 + 9 * place, 40, 60, 60) for place in range(5)]
    assert judged(criteria(), found(*rows))["uncertain"] == 1


@pytest.mark.parametrize(
    ("later", "at", "size", "flickers"),
    [
        ((), 0.2, SIZE, True),  # it vanished in the middle of the frame
        ((("vehicle", 0.9, 44, 42, 64, 62),), 0.2, SIZE, False),  # it moved
        ((("vehicle", 0.31, 44, 42, 64, 62),), 0.2, SIZE, False),  # still shown
        ((("bicycle", 0.9, 40, 40, 60, 60),), 0.2, SIZE, True),  # its class changed
        ((), 3.0, SIZE, False),  # too long ago
        ((), -3.0, SIZE, False),  # the clock was set back
        ((), 0.2, (192, 320), False),  # another camera mode
    ],
)
def test_what_comes_or_goes_between_neighbours_away_from_the_border_flickers(
    later: tuple[tuple[str, float, float, float, float, float], ...], at: float, size: tuple[int, int], flickers: bool
) -> None:
    judge = criteria()
    assert "flicker" not in judged(judge, found(CAR))
    assert ("flicker" in judged(judge, found(*later), NOON + at, size)) == flickers
    back = criteria()
    judged(back, found(*later))
    assert ("flicker" in judged(back, found(CAR), NOON + at, size)) == flickers  # and the other way round


def test_what_leaves_over_the_border_does_not_flicker() -> None:
    judge = criteria()
    judged(judge, found(("vehicle", 0.9, 140, 40, 159, 60)))
    assert "flicker" not in judged(judge, found(), NOON + 0.2)


def test_a_class_that_hardly_any_frame_shows_is_rare_and_a_common_one_is_not() -> None:
    judge = criteria(rare_share=0.1)
    reasons = [judged(judge, found(CAR), NOON + second) for second in range(50)]
    assert not any("rare" in each for each in reasons)
    assert judged(judge, found(CAR, ("bicycle", 0.9, 80, 40, 99, 60)), NOON + 60)["rare"] == pytest.approx(1 - 10 / 51)


def test_a_view_that_was_taken_is_no_reason_and_a_new_one_is() -> None:
    judge = criteria(novel_bits=64)
    first = judge.judge(SEEN, SIZE, found(), THRESHOLDS, NOON)
    assert list(first) == ["novel"]
    judge.take(SEEN)
    noisy = FrameView.of(
        (frame(0).astype(int) + np.random.default_rng(0).integers(-4, 5, (96, 160, 3))).clip(0, 255).astype("uint8")
    )
    assert judge.judge(noisy, SIZE, found(("vehicle", 0.3, 40, 40, 60, 60)), THRESHOLDS, NOON + 9) == {}
    assert "novel" in judge.judge(FrameView.of(frame(1)), SIZE, found(), THRESHOLDS, NOON + 18)


def test_it_remembers_the_newest_views_only() -> None:
    judge = criteria(memory=2)
    views = [FrameView.of(frame(seed)) for seed in range(3)]
    for view in views:
        judge.take(view)
    assert [
        bool(judge.judge(view, SIZE, found(("vehicle", 0.3, 40, 40, 60, 60)), THRESHOLDS, 0)) for view in views
    ] == [
        True,
        False,
        False,
    ]


def test_another_release_begins_anew() -> None:
    judge = criteria()
    judged(judge, found(CAR))
    other = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("tram",))
    assert judge.judge(SEEN, SIZE, other, {"tram": 0.5}, NOON + 0.1) == {}


@given(values=st.dictionaries(st.sampled_from(["uncertain", "flicker", "rare", "novel"]), st.floats(0, 1)))
def test_usefulness_is_a_share_and_grows_with_each_reason(values: dict[str, float]) -> None:
    whole = usefulness(values)
    assert 0 <= whole < 1
    for name in values:
        assert usefulness({other: value for other, value in values.items() if other != name}) <= whole


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (96, 160), (1080, 1920), (2, 1000)])
def test_any_frame_has_a_view(size: tuple[int, int]) -> None:
    view = FrameView.of(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    assert view.bits.shape == (BITS // 8,) and 0 <= view.brightness <= 1 and 0 <= view.sharpness < 10


def test_the_hash_survives_another_size_and_brightness_and_tells_views_apart() -> None:
    small = frame(0)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    bits = [FrameView.of(image).bits for image in (small, large, small // 2 + 20, frame(1))]
    same, darker, other = distances(bits[0], np.stack(bits[1:])).tolist()
    assert same < 12 and darker < 12 and other > 80


def test_blur_is_less_sharp_and_night_less_bright() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    blurred = np.stack([np.roll(image, step, axis=1) for step in range(8)]).mean(axis=0).astype(np.uint8)
    day, dull, night = FrameView.of(image), FrameView.of(blurred), FrameView.of(image // 4)
    assert dull.sharpness < day.sharpness - 1 and night.brightness < day.brightness / 3


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_frame_is_said_to_be_none(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a frame uint8"):
        FrameView.of(frame)
