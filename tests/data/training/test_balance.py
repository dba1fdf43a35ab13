"""Equation 4 of the paper, on numbers small enough to check by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobile_centernet.data.training.balance import ClassShare, class_shares, class_weights, draw, repeat_factors


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


LABELS = [np.array(own, np.int64) for own in ([0], [0, 0, 1], [0], [0], [0, 2], [0], [0], [], [0], [0])]
"""Ten frames: class 0 in nine, classes 1 and 2 in one each, one empty frame; class 3 in none."""


def test_repeat_factors_by_hand():
    factors = repeat_factors(LABELS, 4, threshold=0.4)
    assert factors.tolist() == [1, 2, 1, 1, 2, 1, 1, 1, 1, 1]  # sqrt(0.4 / 0.1)
    assert repeat_factors(LABELS, 4, threshold=0.0).tolist() == [1] * 10
    assert repeat_factors(LABELS, 4, threshold=0.1).tolist() == [1] * 10


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ValueError, match=r"share of the frames, 0\.\.1"):
        repeat_factors(LABELS, 4, threshold)


def test_what_sampling_does_to_the_classes_by_hand():
    shares = class_shares(LABELS, 4, repeat_factors(LABELS, 4, threshold=0.4))
    common, rare = shares[0], shares[1]
    assert common == ClassShare(*(pytest.approx(share) for share in (10 / 12, 13 / 17, 9 / 10, 11 / 12)))
    assert rare == ClassShare(*(pytest.approx(share) for share in (1 / 12, 2 / 17, 1 / 10, 2 / 12)))
    assert shares[2] == rare
    assert shares[3] == ClassShare(0, 0, 0, 0)


def test_without_frames_nothing_is_shared():
    assert class_shares([], 1, np.array([])) == (ClassShare(0, 0, 0, 0),)


@given(st.lists(st.floats(1, 8), min_size=1, max_size=40), st.integers(0, 10**6))
def test_an_epoch_draws_each_frame_as_often_as_its_share_rounded_up_or_down(factors, seed):
    drawn, copies = draw(np.array(factors), np.random.default_rng(seed))
    expected = np.array(factors) / sum(factors) * len(factors)
    times = np.bincount(drawn, minlength=len(factors))
    assert len(drawn) == len(factors)
    assert (times >= np.floor(expected - 1e-9)).all() and (times <= np.ceil(expected + 1e-9)).all()
    assert sorted(zip(drawn.tolist(), copies.tolist(), strict=True)) == [
        (frame, copy) for frame, count in enumerate(times) for copy in range(count)
    ]


def test_over_many_epochs_the_mean_is_the_share():
    factors = repeat_factors(LABELS, 4, threshold=0.4)
    epochs = 2000
    times = sum(np.bincount(draw(factors, np.random.default_rng(epoch))[0], minlength=10) for epoch in range(epochs))
    np.testing.assert_allclose(times / epochs, factors / factors.sum() * 10, atol=0.05)
