"""Promises of the comparison of one metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from sglperf.core.statistics import Comparison, Launches, compare
from sglperf.errors import SampleError

TIMES = st.floats(min_value=1e-6, max_value=1e3)
LAUNCH = st.lists(TIMES, min_size=1, max_size=7)
LAUNCHES = st.lists(LAUNCH, min_size=1, max_size=6)
SEVERAL = st.lists(LAUNCH, min_size=2, max_size=6)


def scaled(launches: Launches, factor: float) -> list[list[float]]:
    return [[value * factor for value in rounds] for rounds in launches]


def figures(found: Comparison) -> tuple[float, ...]:
    return found.ratio, found.low, found.high, found.p_value, found.detectable_effect


def test_paired_interval_is_the_t_interval_of_the_launch_log_ratios():
    """With one round a launch, a paired comparison is a t test of the log ratios of the pairs."""
    base, head = [1.0, 1.1, 0.95, 1.02], [1.08, 1.13, 1.04, 1.06]
    differences = np.log(head) - np.log(base)
    expected = stats.ttest_1samp(differences, 0.0)
    interval = expected.confidence_interval(0.95)

    found = compare([[v] for v in base], [[v] for v in head], paired=True)

    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert found.spread == pytest.approx(differences.std(ddof=1) / math.sqrt(2))
    assert (found.df, found.n_base, found.n_head) == (3.0, 4, 4)


def test_stored_interval_is_the_two_sample_t_interval_of_the_launches():
    """Against a stored baseline, a comparison is a two-sample t test of the launches' log centres."""
    base, head = [1.0, 1.1, 0.95], [1.08, 1.13, 1.04, 1.06, 1.2]
    expected = stats.ttest_ind(np.log(head), np.log(base))
    interval = expected.confidence_interval(0.9)

    found = compare([[v] for v in base], [[v] for v in head], alpha=0.1)

    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert found.df == 6.0


def test_more_rounds_add_no_degrees_of_freedom():
    """Rounds inside a launch share its draw, so repeating them sharpens nothing."""
    base, head = [[1.0], [1.1], [0.95]], [[1.08], [1.13], [1.04]]

    few = compare(base, head)
    many = compare([rounds * 50 for rounds in base], [rounds * 50 for rounds in head])

    assert figures(many) == pytest.approx(figures(few))


def test_one_spiked_round_in_ten_moves_the_ratio_by_less_than_the_rounds_differ():
    """A round ten times as long as the others does not drag its launch along."""
    rounds = [1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99, 1.02, 0.98]
    clean = [rounds, rounds, rounds]
    spiked = [[10.0, *rounds[1:]], rounds, rounds]

    assert compare(clean, spiked).ratio == pytest.approx(1.0, abs=0.002)


def test_surplus_launches_of_a_paired_design_are_left_out():
    """Only complete pairs count, in order."""
    base, head = [[1.0], [1.1], [0.95], [9.0]], [[1.08], [1.13], [1.04]]

    assert compare(base, head, paired=True) == compare(base[:3], head, paired=True)


def test_centres_carry_the_unit_of_the_metric():
    """The centres are geometric means in the metric's own unit."""
    found = compare([[2.0], [8.0]], [[4.0], [16.0]])

    assert (found.base_center, found.head_center) == pytest.approx((4.0, 8.0))


def test_identical_launches_give_a_finite_answer():
    """Zero variance on both sides leaves finite figures and the right conclusion."""
    same = compare([[1.0]] * 3, [[1.0]] * 3)
    slower = compare([[1.0]] * 3, [[1.02]] * 3)

    assert (same.ratio, same.p_value) == (1.0, 1.0)
    assert slower.low > 1.019
    assert slower.p_value < 1e-6


@pytest.mark.parametrize("paired", [True, False])
def test_a_single_launch_a_side_knows_no_spread(paired):
    """One launch a side yields a ratio, but neither an interval nor evidence."""
    found = compare([[1.0, 1.0]], [[3.0, 3.0]], paired=paired)

    assert found.ratio == pytest.approx(3.0)
    assert (found.low, found.high, found.p_value, found.detectable_effect) == (0.0, math.inf, 1.0, math.inf)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0, "fast", None])
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_value_that_is_no_time_is_refused_with_its_side(bad, side):
    """NaN, infinity, zero, negative values and non-numbers raise and name the side they came from."""
    good, broken = [[1.0, 1.1]], [[1.0, 1.0], [1.0, bad]]
    base, head = (broken, good) if side == "base" else (good, broken)

    with pytest.raises(SampleError, match=f"^{side}: "):
        compare(base, head)


@pytest.mark.parametrize("empty", [[], [[]], [[1.0], []]])
def test_missing_samples_are_refused(empty):
    """No launch, or a launch without a round, raises on either side."""
    with pytest.raises(SampleError, match=r"^head: (no launch|launch \d holds no round)"):
        compare([[1.0]], empty)
    with pytest.raises(SampleError, match=r"^base: (no launch|launch \d holds no round)"):
        compare(empty, [[1.0]])


@given(SEVERAL, SEVERAL, st.booleans(), st.floats(min_value=1e-3, max_value=1e3))
def test_the_unit_does_not_matter(base, head, paired, factor):
    """Scaling both sides by one factor changes no relative figure."""
    one = compare(base, head, paired=paired)
    other = compare(scaled(base, factor), scaled(head, factor), paired=paired)

    assert figures(other) == pytest.approx(figures(one), rel=1e-6, abs=1e-9)


@given(SEVERAL, SEVERAL, st.booleans())
def test_swapping_the_sides_inverts_the_ratio(base, head, paired):
    """Base against head is head against base, inverted, with the same p and detectable effect."""
    one, other = compare(base, head, paired=paired), compare(head, base, paired=paired)

    assert other.ratio == pytest.approx(1 / one.ratio, rel=1e-6)
    assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low), rel=1e-6)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-6, abs=1e-12)
    assert other.detectable_effect == pytest.approx(one.detectable_effect, rel=1e-6)


@given(SEVERAL, SEVERAL, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter(base, head, paired, random):
    """Shuffling the rounds inside launches changes nothing."""
    shuffled = [random.sample(list(rounds), len(rounds)) for rounds in head]

    assert compare(base, shuffled, paired=paired) == compare(base, head, paired=paired)


@given(SEVERAL, SEVERAL, st.randoms(use_true_random=False))
def test_the_order_of_unpaired_launches_does_not_matter(base, head, random):
    """Against a stored baseline, launches have no order."""
    shuffled = random.sample(base, len(base))

    assert figures(compare(shuffled, head)) == pytest.approx(figures(compare(base, head)), rel=1e-6, abs=1e-9)


@given(SEVERAL, SEVERAL, st.booleans(), st.floats(min_value=1.001, max_value=3.0))
def test_p_falls_as_the_effect_grows(base, head, paired, factor):
    """Moving head further away from base never makes the evidence weaker."""
    near = compare(base, head, paired=paired)
    assume(near.df > 0)
    away = factor if near.ratio >= 1 else 1 / factor
    far = compare(base, scaled(head, away), paired=paired)

    assert far.p_value <= near.p_value + 1e-12


@given(LAUNCHES, LAUNCHES, st.booleans())
def test_the_interval_holds_the_ratio_and_agrees_with_p(base, head, paired):
    """The ratio lies inside its interval, and the interval excludes 1 exactly when p is below alpha."""
    found = compare(base, head, paired=paired)
    assume(abs(found.p_value - found.alpha) > 1e-9)

    assert found.low <= found.ratio <= found.high
    assert (found.low > 1 or found.high < 1) == (found.p_value < found.alpha)
    assert found.detectable_effect > 0
