"""Arrivals and lengths follow the distributions that they are named after, and state their load exactly."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sglperf.workload.arrivals import mixed_lengths, ramp_times, renewal_times

counts = st.integers(1, 200)
seeds = st.integers(0, 2**32)


def gaps(count: int, variation: float, seeds: int) -> np.ndarray:
    """Gaps of so many patterns, the one that is left at the end included; shape (seeds, count + 1)."""
    times = [renewal_times(count, 1.0, variation=variation, seed=seed) for seed in range(seeds)]
    return np.diff(np.array(times), axis=1, prepend=0.0, append=1.0)


@given(counts, st.integers(1, 60), st.floats(0.3, 3), seeds)
def test_as_many_as_stated_in_the_time_stated(count, seconds, variation, seed):
    """Whatever the seed: so many arrivals, ascending, in that time."""
    for times in (
        renewal_times(count, seconds, variation=variation, seed=seed),
        ramp_times(count, seconds, seed=seed),
    ):
        assert len(times) == count
        assert list(times) == sorted(times)
        assert times[0] >= 0
        assert times[-1] <= seconds


@pytest.mark.parametrize("variation", [0.5, 1.0, 2.0])
def test_gaps_have_the_moments_of_gamma_draws_over_their_sum(variation):
    """Mean and coefficient of variation of the Dirichlet distribution that the documentation states."""
    count = 60
    found = gaps(count, variation, seeds=400)

    assert found.mean() == pytest.approx(1 / (count + 1))
    stated = count / ((count + 1) / variation**2 + 1)
    assert found.var() / found.mean() ** 2 == pytest.approx(stated, rel=0.05)


def test_poisson_arrivals_are_uniform_given_their_number():
    """Of a Poisson process of which the count is known, each arrival is anywhere with equal chance."""
    times = [time for seed in range(200) for time in renewal_times(30, 1.0, variation=1.0, seed=seed)]

    assert stats.kstest(times, "uniform").pvalue > 0.01


def test_bursts_are_more_uneven_than_poisson_arrivals_and_those_than_a_clock():
    """Index of dispersion of counts in a tenth of the time: variance over mean."""

    def dispersion(variation: float) -> float:
        counted = [
            np.histogram(renewal_times(100, 1.0, variation=variation, seed=seed), 10, (0, 1))[0]
            for seed in range(100)
        ]
        return float(np.var(counted) / np.mean(counted))

    even, poisson, bursty = map(dispersion, (0.1, 1.0, 2.0))
    assert even < 0.5 * poisson
    assert bursty > 2 * poisson


def test_a_ramp_rises_to_twice_its_mean_and_falls_again():
    """Arrivals in each sixth of the time: 1, 3, 5, 5, 3, 1 parts of eighteen."""
    times = [time for seed in range(200) for time in ramp_times(90, 6.0, seed=seed)]
    counted = np.histogram(times, 6, (0, 6))[0] / len(times)

    assert counted == pytest.approx(np.array([1, 3, 5, 5, 3, 1]) / 18, abs=0.01)


@given(counts, st.integers(1, 2000), seeds, seeds)
def test_lengths_are_the_same_ones_for_each_seed(count, median, seed, other):
    """A seed decides which request is long, never how much is asked for in all; no length leaves its bounds."""
    lengths = mixed_lengths(count, median, seed=seed)

    assert sorted(lengths) == sorted(mixed_lengths(count, median, seed=other))
    assert all(max(1, median // 4) <= length <= 4 * median for length in lengths)


def test_lengths_are_lognormal():
    """Median as stated; logarithms have the stated spread, but for what is clipped."""
    lengths = mixed_lengths(999, 1000, seed=0)
    logs = np.log(lengths)

    assert statistics.median(lengths) == 1000
    assert logs.std() == pytest.approx(0.6, rel=0.03)
    assert np.percentile(lengths, 90) / 1000 == pytest.approx(2.16, rel=0.02)


def test_patterns_are_fixed_for_all_time():
    """Baselines hold the hashes of these: another draw here makes every stored case incomparable."""
    assert renewal_times(4, 2.0, variation=1.0, seed="0 arrivals") == (0.246156, 0.593951, 1.003324, 1.380113)
    assert renewal_times(3, 2.0, variation=2.0, seed="0 arrivals") == (0.013395, 0.078417, 0.274276)
    assert ramp_times(3, 6.0, seed="0 arrivals") == (1.791776, 2.783263, 3.783193)
    assert mixed_lengths(8, 48, seed="0 prompts") == [28, 19, 36, 53, 121, 82, 64, 44]
