"""How many times faster one server is than another, with an interval that holds the truth as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import compared
from scipy import stats

from sglperf.core.catalogue import METRICS
from sglperf.core.contrast import Contrast, contrast_launches
from sglperf.core.statistics import Comparison

LATENCY, THROUGHPUT = METRICS["inter_token_latency"], METRICS["decode_throughput"]
TIMES = st.floats(min_value=1e-6, max_value=1e3)
SEVERAL = st.lists(st.lists(TIMES, min_size=1, max_size=5), min_size=2, max_size=6)


def contrast(comparison: Comparison) -> Contrast:
    return Contrast(
        "llama", "backends-page16-tp0", "triton", "flashinfer", "decode-s8", "a_metric", comparison
    )


# Speedup


def test_a_latency_that_is_halved_is_twice_as_good():
    """Its ratio is turned round, and the ends of its interval change places."""
    found = contrast(compared(0.5, 0.4, 0.8))

    assert found.comparison.lower_is_better
    assert found.speedup == pytest.approx((2.0, 1.25, 2.5))


def test_a_throughput_that_is_doubled_is_twice_as_good():
    """Its ratio is the speedup."""
    found = contrast_launches([[1.0], [1.0]], [[2.0], [2.1]], THROUGHPUT, alpha=0.05)

    assert found is not None
    assert contrast(found).speedup == (found.ratio, found.low, found.high)
    assert found.ratio > 2


def test_where_the_spread_is_unknown_nothing_is_ruled_out():
    """One launch each leaves (0, inf), whichever way is better."""
    for metric, value in ((LATENCY, 2.0), (THROUGHPUT, 0.5)):
        found = contrast_launches([[1.0]], [[value]], metric, alpha=0.05)
        assert found is not None
        assert contrast(found).speedup == (pytest.approx(0.5), 0.0, math.inf)


@given(SEVERAL, SEVERAL)
def test_a_latency_and_its_rate_have_the_same_speedup(reference, other):
    """Seconds a token or tokens a second: one says of the other server what the other says."""
    rates = [[[1 / value for value in rounds] for rounds in side] for side in (reference, other)]
    slower = contrast_launches(reference, other, LATENCY, alpha=0.05)
    faster = contrast_launches(*rates, THROUGHPUT, alpha=0.05)

    assert slower is not None
    assert faster is not None
    assert contrast(slower).speedup == pytest.approx(contrast(faster).speedup, rel=1e-6)


@given(SEVERAL, SEVERAL)
def test_the_speedup_lies_in_its_interval(reference, other):
    """Of either kind of metric, the lower end is the lower one."""
    for metric in (LATENCY, THROUGHPUT):
        found = contrast_launches(reference, other, metric, alpha=0.05)
        assert found is not None
        value, low, high = contrast(found).speedup
        assert low <= value * (1 + 1e-9)
        assert value <= high * (1 + 1e-9)


# Pairs


def test_launches_are_compared_pair_by_pair():
    """A t interval of the log ratios of launches that were up together, of the other to the reference."""
    reference, other = [1.0, 1.3, 0.9, 1.1], [1.1, 1.45, 0.98, 1.22]
    expected = stats.ttest_1samp(np.log(other) - np.log(reference), 0.0).confidence_interval(0.9)

    found = contrast_launches([[v] for v in reference], [[v] for v in other], LATENCY, alpha=0.1)

    assert found is not None
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.low < 1.1 < found.high
    assert (found.paired, found.lower_is_better, found.alpha) == (True, True, 0.1)


@pytest.mark.parametrize(("reference", "other"), [([], [[1.0]]), ([[1.0]], []), ([], [])])
def test_without_launches_there_is_no_contrast(reference, other):
    """A server that did not come up is compared with none."""
    assert contrast_launches(reference, other, LATENCY, alpha=0.05) is None


def test_the_interval_holds_the_true_ratio_as_often_as_it_says():
    """Five pairs that share what a launch draws, 10 %, and differ by 2 % of their own: 95 % of intervals hold 1.07."""
    source = np.random.default_rng(1)
    held, widths = 0, []
    for _ in range(2000):
        shared = source.normal(0, 0.10, 5)
        sides = np.exp(shared + source.normal(0, 0.02, (2, 5)) + [[0.0], [math.log(1.07)]])
        found = contrast_launches(*sides[:, :, None].tolist(), LATENCY, alpha=0.05)
        assert found is not None
        held += found.low <= 1.07 <= found.high
        widths.append(math.log(found.high / found.low))

    assert 0.935 < held / 2000 < 0.965
    # What the launches share is in no width: 2 t s √(2 / 5), where s is 2 %.
    assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(
        2 * stats.t.ppf(0.975, 4) * 0.02 * math.sqrt(2 / 5), rel=0.05
    )
