"""Every figure follows from the raw arrivals by its definition in docs/metrics.md."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import observed, paced, request

from sglperf.core.catalogue import METRICS
from sglperf.core.derive import derive, growth, token_gaps
from sglperf.core.metric import Kind
from sglperf.core.observation import RequestObservation, RoundObservation

# What a streaming client can see: chunks in order, each with at least one token.
gaps = st.floats(1e-5, 10.0)
chunks = st.tuples(gaps, st.integers(1, 5))


@st.composite
def requests(draw: st.DrawFn, least: int = 1, most: int = 12) -> RequestObservation:
    drawn = draw(st.lists(chunks, min_size=least, max_size=most))
    sent = draw(st.floats(0, 5))
    waits, counts = zip(*drawn, strict=True)
    return request((sent + np.cumsum(waits)).tolist(), np.cumsum(counts).tolist(), sent=sent)


rounds = st.lists(requests(), min_size=1, max_size=4).map(lambda some: observed(*some))


def moved(round_: RoundObservation, scale: float = 1.0, shift: float = 0.0) -> RoundObservation:
    """The same round on a clock that runs at another rate and was started at another time."""

    def on_that_clock(one: RequestObservation) -> RequestObservation:
        arrivals = tuple(at * scale + shift for at in one.arrivals)
        return replace(one, sent=one.sent * scale + shift, arrivals=arrivals)

    return replace(round_, requests=tuple(map(on_that_clock, round_.requests)))


# One request


def test_a_single_stream_gives_every_figure():
    """Four tokens after 0.1, 0.12, 0.14 and 0.19 s: each figure by hand."""
    values = derive(observed(request((0.1, 0.12, 0.14, 0.19))))

    assert values == pytest.approx(
        {
            "time_to_first_token": 0.1,
            "inter_token_latency": 0.02,
            "inter_token_latency_p99": 0.02 + 0.98 * 0.03,  # 0.98 of the way from the second to the third gap
            "decode_throughput": 3 / 0.09,
            "prefill_throughput": 320.0,
            "prompt_tokens": 32,
            "completion_tokens": 4,
            "cached_tokens": 0,
        }
    )


@pytest.mark.parametrize(
    ("arrivals", "tokens", "expected"),
    [
        ((0, 1, 4), (1, 2, 5), [1, 1, 1, 1]),  # a chunk of three shares its gap
        ((1, 2), (3, 5), [0.5, 0.5]),  # what came with the first chunk has no gap
        ((0, 1, 2), (1, 1, 2), [2]),  # a chunk without a token lengthens the wait for the next
        ((0, 1, 2), (0, 1, 2), [1]),  # and is no first token
        ((0, 3, 3), (1, 2, 3), [3, 0]),  # two chunks in one read
        ((5,), (1,), []),
        ((5,), (7,), []),
        ((), (), []),
    ],
)
def test_gaps_by_hand(arrivals, tokens, expected):
    """A gap belongs to every token after the first chunk's, shared evenly within a chunk."""
    assert token_gaps(request(arrivals, tokens)).tolist() == expected


@given(requests())
def test_gaps_account_for_all_time_and_every_token(one):
    """Gaps sum up to the time from the first chunk to the last, one for each token after the first chunk."""
    found = token_gaps(one)

    assert found.shape == (one.tokens[-1] - one.tokens[0],)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(one.arrivals[-1] - one.arrivals[0])


# Whole rounds


@given(rounds)
def test_figures_are_those_of_the_catalogue_and_can_be_judged(round_):
    """Whatever arrives, names are known, values finite, and those judged as timings positive."""
    values = derive(round_)

    assert set(values) <= set(METRICS)
    assert all(math.isfinite(value) for value in values.values())
    assert all(
        v > 0 for name, v in values.items() if METRICS[name].kind is Kind.TIMING and METRICS[name].judged
    )


@given(rounds, st.floats(0.1, 10), st.floats(0, 100))
def test_the_clocks_rate_scales_figures_by_their_unit_and_its_start_does_nothing(round_, scale, shift):
    """Seconds scale with the clock, rates against it, counts and ratios not at all."""
    power = {"s": 1, "s/tok": 1, "tok/s": -1, "ratio": 0, "tok": 0}
    before, after = derive(round_), derive(moved(round_, scale, shift))

    assert set(after) == set(before)
    for name, value in before.items():
        expected = value * scale ** power[METRICS[name].unit]
        assert after[name] == pytest.approx(expected, rel=1e-4, abs=1e-9), name


@given(rounds, st.randoms(use_true_random=False))
def test_the_order_of_requests_does_not_matter(round_, random):
    """Figures are of the round, so its requests may be listed in any order."""
    shuffled = list(round_.requests)
    random.shuffle(shuffled)

    assert derive(observed(*shuffled)) == pytest.approx(derive(round_))


def test_one_token_requests_have_no_gaps():
    """Where one token was generated, figures of the gaps are absent rather than zero."""
    values = derive(observed(request((0.2,), sent=0.1), request((0.5,), sent=0.3)))

    assert values == pytest.approx(
        {
            "time_to_first_token": 0.15,
            "prefill_throughput": 64 / 0.4,
            "prompt_tokens": 64,
            "completion_tokens": 2,
            "cached_tokens": 0,
        }
    )


def test_first_tokens_are_summed_up_by_their_median():
    """One request that waits long moves the time to first token of five by nothing."""
    waits = [0.1, 0.1, 0.1, 0.1, 9.0]

    assert derive(observed(*(request((wait,)) for wait in waits)))["time_to_first_token"] == 0.1


def test_p99_sees_a_stall_that_the_median_does_not():
    """Two gaps of a hundred at 50 ms leave the median at 5 ms and carry the 99th percentile."""
    values = derive(observed(paced(0.1, [0.005] * 98 + [0.05] * 2)))

    assert values["inter_token_latency"] == pytest.approx(0.005)
    assert values["inter_token_latency_p99"] == pytest.approx(0.05)


# The decode window


def test_throughput_counts_only_while_every_stream_decodes():
    """Streams of unequal length: from the last first token to the first last one, edges by their share of time."""
    steady = request(range(11))  # 3.5 tokens at 2.5 s, 7.5 at 6.5 s
    late = request((2.5, 4.5, 6.5))

    assert derive(observed(steady, late))["decode_throughput"] == pytest.approx((4 + 2) / 4)


def test_a_chunk_of_several_tokens_counts_in_full_inside_the_window():
    """Chunking changes neither throughput nor latency of a steady stream."""
    single = derive(observed(request(range(1, 14))))
    merged = derive(observed(request(range(1, 14, 4), (1, 5, 9, 13))))

    for name in ("decode_throughput", "inter_token_latency", "completion_tokens"):
        assert merged[name] == pytest.approx(single[name])


@given(st.integers(1, 8), st.integers(2, 30), st.floats(1e-3, 1.0), st.floats(0, 0.999))
def test_equal_streams_decode_at_streams_over_pace(streams, tokens, pace, stagger):
    """n streams with a token every t seconds are n / t tokens per second, however they are staggered."""
    starts = [1 + stagger * pace * index / streams for index in range(streams)]
    round_ = observed(*(paced(start, [pace] * (tokens - 1)) for start in starts))

    assert derive(round_)["decode_throughput"] == pytest.approx(streams / pace, rel=1e-6)


@pytest.mark.parametrize(
    "others",
    [
        (request((0.5,)),),  # one token: over before the other decodes on
        (paced(9.0, [1.0]),),  # begins when the other is done
        (paced(3.0, [1.0]),),  # begins at the very moment
    ],
)
def test_without_a_window_there_is_no_throughput(others):
    """Streams that never decode together have latencies, but no throughput of a full batch."""
    values = derive(observed(paced(1.0, [1.0, 1.0]), *others))

    assert "decode_throughput" not in values
    assert values["inter_token_latency"] == 1.0


# Growth


def line(start: float, slope: float, tokens: int) -> list[float]:
    return [start + slope * position for position in range(tokens)]


@given(st.floats(1e-3, 1.0), st.floats(-0.5, 4.0), st.integers(8, 40), st.integers(1, 3))
def test_growth_of_a_straight_line_is_its_end_over_its_beginning(start, growth, tokens, streams):
    """Latency that rises evenly by g over the generation has growth 1 + g, and the slope that this takes."""
    slope = growth * start / (tokens - 1)
    values = derive(observed(*[paced(0.1, line(start, slope, tokens))] * streams))

    assert values["inter_token_latency_slope"] == pytest.approx(slope, rel=1e-4, abs=1e-12)
    assert values["inter_token_latency_growth"] == pytest.approx(1 + growth, rel=1e-4)


@given(st.sets(st.integers(0, 39), max_size=11), st.floats(2, 1000))
def test_spikes_do_not_move_growth(positions, factor):
    """Eleven of forty gaps may be struck, all upwards, and neither slope nor growth moves."""
    struck = [gap * (factor if at in positions else 1) for at, gap in enumerate(line(0.005, 0.0001, 40))]
    values = derive(observed(paced(0.1, struck)))

    assert values["inter_token_latency_slope"] == pytest.approx(0.0001)
    assert values["inter_token_latency_growth"] == pytest.approx(1 + 39 * 0.0001 / 0.005)


def test_streams_are_reduced_to_their_median_at_each_position():
    """One of three streams that slows down alone is not the batch slowing down."""
    flat, slowing = line(0.01, 0, 20), line(0.01, 0.001, 20)
    values = derive(observed(paced(0.1, flat), paced(0.1, flat), paced(0.1, slowing)))

    assert values["inter_token_latency_growth"] == pytest.approx(1)


def test_growth_reaches_as_far_as_the_shortest_stream():
    """Streams of unequal length are compared where all of them generate."""
    long, short = line(0.01, 0.001, 60), line(0.01, 0.001, 11)
    values = derive(observed(paced(0.1, long), paced(0.1, short)))

    assert values["inter_token_latency_growth"] == pytest.approx(2.0)


@pytest.mark.parametrize(("gap_count", "present"), [(7, False), (8, True)])
def test_growth_needs_eight_gaps(gap_count, present):
    """A line through fewer than eight points is not read."""
    values = derive(observed(paced(0.1, [0.01] * gap_count)))

    assert ("inter_token_latency_growth" in values) is present
    assert ("inter_token_latency_slope" in values) is present


@pytest.mark.parametrize("latencies", [[8, 7, 6, 5, 0.1, 0.1, 0.1, 0.1], [0] * 10])
def test_a_line_that_reaches_zero_has_a_slope_and_no_growth(latencies):
    """No ratio is taken of a fitted latency that is not positive."""
    values = derive(observed(paced(0.1, latencies)))

    assert "inter_token_latency_slope" in values
    assert "inter_token_latency_growth" not in values


# What the server did not say


def test_a_count_that_the_server_did_not_give_is_absent():
    """A sum over the requests that happen to have a count would pass for less work."""
    one, silent = request((0.1, 0.2)), request((0.1, 0.2), prompt_tokens=None, cached_tokens=None)
    values = derive(observed(one, silent))

    assert not {"prompt_tokens", "cached_tokens", "prefill_throughput"} & set(values)
    assert values["completion_tokens"] == 4


def test_counters_are_exact_values_and_zero_is_one_of_them():
    """A counter that stood still is zero; one that the server lacks is absent; others are not metrics."""
    values = derive(observed(request((0.1,)), counters={"prefill_tokens": 0.0, "evicted_tokens_total": 7.0}))

    assert values["prefill_tokens"] == 0
    assert "decode_tokens" not in values
    assert "evicted_tokens_total" not in values


def test_hits_and_misses_are_told_apart_by_what_was_cached():
    """Time to first token with and without the cache, and their ratio, where a round has both."""
    miss, hit = request([0.4]), request([0.1], cached_tokens=16)

    values = derive(observed(miss, hit, request([0.6]), request([0.2], cached_tokens=32)))

    assert values["time_to_first_token_miss"] == pytest.approx(0.5)
    assert values["time_to_first_token_hit"] == pytest.approx(0.15)
    assert values["prefix_cache_speedup"] == pytest.approx(0.5 / 0.15)
    assert "prefix_cache_speedup" not in derive(observed(miss))
    assert "prefix_cache_speedup" not in derive(observed(hit))


@given(st.floats(-0.5, 2.0), st.floats(1e-7, 1e-2))
def test_an_exponent_is_read_back(exponent, seconds):
    """Times that grow as a power of the number of nodes have that power as exponent, and its growth over a decade."""
    nodes = (100, 316, 1000)
    times = [seconds * (size / 1000) ** exponent for size in nodes]

    values = growth(nodes, match=times, evict=times[::-1])

    assert values["prefix_match_time"] == pytest.approx(seconds)
    assert values["prefix_match_exponent"] == pytest.approx(exponent, abs=1e-6)
    assert values["prefix_match_growth"] == pytest.approx(10**exponent)
    assert values["prefix_eviction_growth"] == pytest.approx(10**-exponent)
