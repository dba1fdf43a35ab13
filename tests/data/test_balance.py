"""Equation 4 of the paper, on numbers small enough to check by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.data.balance import class_weights


def test_hand_computed():
    # r = 1, 16, 81; with gamma 0.75: 1, 8, 27, so the excess over 1 is 0, 7, 26.
    assert class_weights([1296, 81, 16], w_max=10, gamma=0.75) == pytest.approx([1, 9 * 7 / 26 + 1, 10])


def test_ivslab_counts_of_the_competition():
    # By the published counts: r = 6.655, 3.234, 51.377 for pedestrian, scooter, bicycle against vehicle.
    vehicle, pedestrian, scooter, bicycle = class_weights([497843, 74806, 153928, 9690])
    assert (vehicle, bicycle) == (1, pytest.approx(10))
    assert pedestrian == pytest.approx(9 * (6.65512**0.75 - 1) / (51.3770**0.75 - 1) + 1, rel=1e-5)
    assert scooter == pytest.approx(9 * (3.23426**0.75 - 1) / (51.3770**0.75 - 1) + 1, rel=1e-5)


def test_equal_counts_weigh_one_each():
    assert class_weights([7, 7, 7]) == [1, 1, 1]
    assert class_weights([7]) == [1]


def test_a_class_without_boxes_weighs_one_and_is_named():
    with pytest.warns(UserWarning, match=r"class number \[1\]"):
        assert class_weights([100, 0, 10]) == pytest.approx([1, 1, 10])


def test_no_boxes_at_all():
    with pytest.warns(UserWarning, match=r"\[0, 1\]"):
        assert class_weights([0, 0]) == [1, 1]


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="counts from 0"):
        class_weights([3, -1])


@given(st.lists(st.integers(1, 10**7), min_size=2, max_size=12), st.floats(1, 100), st.floats(0.1, 2))
def test_rarer_never_weighs_less(counts, w_max, gamma):
    weights = class_weights(counts, w_max, gamma)
    by_count = [weight for _, weight in sorted(zip(counts, weights, strict=True), reverse=True)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(by_count))
    assert min(weights) == pytest.approx(1)
    assert max(weights) == pytest.approx(w_max if len(set(counts)) > 1 else 1)


@given(st.lists(st.integers(1, 10**5), min_size=2, max_size=8), st.integers(2, 50))
def test_only_ratios_count(counts, factor):
    assert class_weights([count * factor for count in counts]) == pytest.approx(class_weights(counts))
