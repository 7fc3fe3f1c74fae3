"""Figures: estimated from launches, kept as JSON, and the newest of each case."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from samples import figure
from scipy import stats

from sglperf.core.catalogue import METRICS
from sglperf.core.estimate import estimate
from sglperf.core.figure import Figure, newest

LATENCY, SLOPE = METRICS["inter_token_latency"], METRICS["inter_token_latency_slope"]
TIMES = st.floats(min_value=1e-6, max_value=1e3)
SEVERAL = st.lists(st.lists(TIMES, min_size=1, max_size=5), min_size=2, max_size=6)


# Estimated


def test_a_figure_is_the_geometric_mean_of_its_launches():
    """With the t interval of their logarithms."""
    launches = [2.0, 8.0, 4.0]
    expected = stats.ttest_1samp(np.log(launches), 0.0).confidence_interval(0.9)

    found = estimate([[value] for value in launches], LATENCY, alpha=0.1)

    assert found == pytest.approx((4.0, math.exp(expected.low), math.exp(expected.high)))


def test_rounds_count_once_a_launch():
    """A launch with more rounds weighs no more than another."""
    found = estimate([[2.0] * 9, [8.0]], LATENCY, alpha=0.05)

    assert found is not None
    assert found[0] == pytest.approx(4.0)


def test_a_single_launch_does_not_tell_how_they_spread():
    """However many rounds it has, its interval is open at both ends."""
    assert estimate([[3.0, 3.0, 3.0]], LATENCY, alpha=0.05) == (pytest.approx(3.0), 0.0, math.inf)


def test_no_launch_gives_no_figure():
    """There is nothing to estimate."""
    assert estimate([], LATENCY, alpha=0.05) is None


@given(SEVERAL, st.floats(0.01, 100))
def test_a_figure_lies_in_its_interval_in_any_unit(launches, factor):
    """And scales with what was measured."""
    one = estimate(launches, LATENCY, alpha=0.05)
    other = estimate([[value * factor for value in rounds] for rounds in launches], LATENCY, alpha=0.05)

    assert one is not None
    assert one[1] <= one[0] <= one[2]
    assert other == pytest.approx(tuple(value * factor for value in one), rel=1e-6)


def test_the_interval_of_a_figure_holds_the_truth_as_often_as_it_says():
    """Five launches that spread by 5 % about 3: 95 % of intervals hold it."""
    source = np.random.default_rng(2)
    held = 0
    for _ in range(2000):
        found = estimate((3 * np.exp(source.normal(0, 0.05, (5, 1)))).tolist(), LATENCY, alpha=0.05)
        assert found is not None
        held += found[1] <= 3 <= found[2]

    assert 0.935 < held / 2000 < 0.965


def test_what_may_be_zero_or_less_is_averaged():
    """A slope has no logarithm: the t interval of the launches' means, those below zero among them."""
    launches = [[-1e-6, 3e-6], [2e-6], [-4e-6]]
    means = [1e-6, 2e-6, -4e-6]
    expected = stats.ttest_1samp(means, 0.0).confidence_interval(0.9)

    found = estimate(launches, SLOPE, alpha=0.1)
    assert found == pytest.approx((np.mean(means), expected.low, expected.high))


def test_one_launch_of_what_may_be_zero_or_less():
    """Nothing is ruled out, on either side."""
    assert estimate([[-2e-6, 4e-6]], SLOPE, alpha=0.05) == (pytest.approx(1e-6), -math.inf, math.inf)


def test_what_may_be_zero_or_less():
    """Slopes and exponents, of which no ratio can be taken, and which so carry no verdict."""
    signed = {name for name, metric in METRICS.items() if metric.signed}

    assert signed == {"inter_token_latency_slope", "prefix_match_exponent", "prefix_eviction_exponent"}
    assert not any(METRICS[name].judged for name in signed)


# Kept


@pytest.mark.parametrize(
    "one",
    [
        figure(),
        figure(low=0.0, high=math.inf, launches=1),
        figure(low=-math.inf, high=math.inf, gpu=None, links="cpu", over=None),
    ],
)
def test_a_figure_comes_back_from_json(one):
    """An end that reaches to infinity is left out there, and no bound when it is read."""
    text = orjson.dumps(asdict(one)).decode()
    kept = TypeAdapter(Figure).validate_python(json.loads(text, parse_constant=pytest.fail))

    assert kept == replace(one, low=-math.inf if one.low == -math.inf else one.low)
    assert kept.bounded == one.bounded == (one.high != math.inf)


# The newest


def test_the_latest_run_tells_a_case():
    """Whatever it says, and in whatever order the runs are read."""
    old = figure(1.1, 1.2, run="20260101-000000-9")
    new = figure(1.0, 1.5, run="20260102-000000-1")

    assert newest([old, new]) == newest([new, old]) == (new,)


def test_a_launch_alone_does_not_displace_an_interval():
    """It says less than what was known; where nothing else is known, the latest one stands."""
    sure = figure(run="20260101-000000-1")
    quick = figure(0.0, math.inf, run="20260102-000000-1")
    quicker = figure(0.0, math.inf, run="20260103-000000-1")

    assert newest([sure, quick, quicker]) == (sure,)
    assert newest([quicker, quick]) == (quicker,)
    assert newest([quick, replace(sure, run="20260104-000000-1")]) == (
        replace(sure, run="20260104-000000-1"),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"machine": "1x-h100"}, {"model": "gemma"}, {"config": "flashinfer-page16-tp0"}, {"server": "fa3"},
        {"over": None}, {"per_gpu": True}, {"workload": "decode-s1"}, {"metric": "decode_throughput"},
    ],
)  # fmt: skip
def test_another_case_is_not_displaced(change):
    """Machine, model, server, what it is compared with, workload and metric make a case."""
    assert len(newest([figure(), figure(run="20260102-000000-1", **change)])) == 2


@pytest.mark.parametrize("change", [{"sglang": "0.5.24"}, {"launches": 9}, {"value": 1.16}])
def test_the_same_case_again(change):
    """A later version is the one that is spoken of."""
    assert len(newest([figure(), figure(run="20260102-000000-1", **change)])) == 1
