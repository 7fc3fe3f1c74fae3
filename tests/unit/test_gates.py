"""A round is believed only if everything that was asked came back and the instrument kept up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import observed, paced, request

from sglperf.core.gates import Asked, Gate, Limits, failed_gates
from sglperf.core.observation import RequestObservation, RoundObservation

LIMITS = Limits()
GOOD = paced(0.2, [0.01, 0.01, 0.01])
COLD = Asked((32,), (4,), cold=True)
WARM = replace(COLD, cold=False)


def codes(round_: RoundObservation, asked: Asked = COLD, limits: Limits = LIMITS) -> list[str]:
    return [gate.code for gate in failed_gates(round_, asked, limits)]


def asked_for(count: int) -> Asked:
    return Asked((32,) * count, (4,) * count, cold=True)


def test_a_round_as_it_was_meant_to_be_passes():
    """Every request back at its length, nothing from the cache, a client that was on time: no gate."""
    assert failed_gates(observed(GOOD, replace(GOOD, index=1)), asked_for(2), LIMITS) == ()


# Requests


@pytest.mark.parametrize(
    ("round_", "asked", "gate"),
    [
        (observed(GOOD), asked_for(2), Gate("request-missing", "1 of 2 requests came back")),
        (observed(), COLD, Gate("request-missing", "0 of 1 requests came back")),
        (observed(), asked_for(0), Gate("request-missing", "0 of 0 requests came back")),
        (observed(GOOD, GOOD), COLD, Gate("request-missing", "2 of 1 requests came back")),
        (
            observed(GOOD, replace(GOOD, index=1, error="HTTP 500: out of memory")),
            asked_for(2),
            Gate("request-failed", "request 1: HTTP 500: out of memory"),
        ),
        (observed(request(())), COLD, Gate("request-failed", "request 0 got no token")),
        (
            observed(request((0.1, 0.2), finish_reason="stop")),
            COLD,
            Gate("wrong-length", "request 0: asked 32 → 4 tokens, the server counted 32 → 2 (stop)"),
        ),
        (
            observed(replace(GOOD, prompt_tokens=31)),
            COLD,
            Gate("wrong-length", "request 0: asked 32 → 4 tokens, the server counted 31 → 4 (length)"),
        ),
        (
            observed(replace(GOOD, prompt_tokens=None, completion_tokens=None, finish_reason=None)),
            COLD,
            Gate("wrong-length", "request 0: asked 32 → 4 tokens, the server counted None → None (None)"),
        ),
    ],
)
def test_what_did_not_come_back_as_asked_is_named(round_, asked, gate):
    """The first culprit is named with what was asked and what came; one is enough."""
    assert failed_gates(round_, asked, LIMITS) == (gate,)


def test_a_failed_request_outranks_everything_that_follows_from_it():
    """Where a request failed, its missing counts, its cache and the client's lag are no further news."""
    failed = request((), error="connection reset", prompt_tokens=None, cached_tokens=7)

    assert codes(observed(failed, lag=9.0)) == ["request-failed"]


def test_a_missing_request_does_not_hide_why():
    """Requests lost and a request failed: both are said, the loss first."""
    failed = replace(GOOD, error="the server went away")

    assert codes(observed(failed), asked_for(2)) == ["request-missing", "request-failed"]


# The prefix cache


@pytest.mark.parametrize(
    ("cached", "expected"),
    [(0, []), (1, ["cache-not-cold"]), (32, ["cache-not-cold"]), (None, ["cache-unknown"])],
)
def test_a_cold_round_may_take_nothing_from_the_cache(cached, expected):
    """One hit spoils a cold round, and so does a server that does not say."""
    assert codes(observed(GOOD, replace(GOOD, index=1, cached_tokens=cached)), asked_for(2)) == expected


@pytest.mark.parametrize("cached", [0, 16, None])
def test_a_warm_round_may_hit(cached):
    """Where hits are meant, their number is a metric and no gate."""
    assert codes(observed(replace(GOOD, cached_tokens=cached)), WARM) == []


def test_cached_tokens_are_summed_in_the_sentence():
    """The sentence says how many prompt tokens of the round were not computed."""
    (gate,) = failed_gates(observed(*[replace(GOOD, cached_tokens=16)] * 2), asked_for(2), LIMITS)

    assert gate.sentence == "32 prompt tokens came from the prefix cache, though it had been flushed"


# The instrument


@pytest.mark.parametrize(
    ("lag", "late"),
    [(0.0, False), (0.0049, False), (0.0051, True), (math.nan, True), (math.inf, True)],
)
def test_the_client_may_be_late_by_a_share_of_what_it_times(lag, late):
    """Half of a 10 ms latency is the bound; a lag that is not a number is no lag within it."""
    assert codes(observed(GOOD, lag=lag)) == ["client-lag"] * late


def test_the_bound_itself_passes():
    """The floor of 2 ms is allowed, for latencies however short."""
    short = paced(0.1, [1e-4] * 3)

    assert codes(observed(short, lag=0.002)) == []
    assert codes(observed(short, lag=0.0021)) == ["client-lag"]


@pytest.mark.parametrize(("lag", "late"), [(0.04, False), (0.06, True)])
def test_without_gaps_the_time_to_first_token_is_what_is_timed(lag, late):
    """In a prefill round half of the wait, 50 ms of 100, is the bound."""
    waits = [request((0.1,), index=index) for index in range(3)]
    asked = Asked((32,) * 3, (1,) * 3, cold=True)

    assert codes(observed(*waits, lag=lag), asked) == ["client-lag"] * late


def test_the_limits_are_the_callers():
    """A stricter share moves the bound, and the sentence holds both figures."""
    (gate,) = failed_gates(
        observed(GOOD, lag=0.003), COLD, Limits(client_lag_share=0.2, client_lag_floor=0.0)
    )

    assert gate.code == "client-lag"
    assert "late by 3.0 ms (p99), more than 2.0 ms" in gate.sentence


def test_a_round_that_is_warm_and_late_fails_both_gates():
    """Independent reasons are all given, in the order in which to look into them."""
    assert codes(observed(replace(GOOD, cached_tokens=1), lag=1.0)) == ["cache-not-cold", "client-lag"]


@pytest.mark.parametrize(
    ("share", "busy"), [(None, False), (0.0, False), (0.25, False), (0.26, True), (math.nan, True)]
)
def test_a_neighbour_on_the_processors_spoils_a_round(share, busy):
    """A quarter of the processors may be used by others; where the system does not tell, nothing is held against it."""
    assert codes(observed(GOOD, foreign_cpu=share)) == ["host-busy"] * busy


counts = st.none() | st.integers(0, 40)


@given(
    st.lists(
        st.builds(
            lambda arrivals, error, prompt, completion, cached: request(
                sorted(arrivals),
                error=error,
                prompt_tokens=prompt,
                completion_tokens=completion,
                cached_tokens=cached,
            ),
            st.lists(st.floats(0.01, 9), max_size=4),
            st.none() | st.just("failed"),
            counts,
            counts,
            counts,
        ),
        max_size=3,
    ),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(0, 3),
)
def test_any_round_gets_an_answer(requests: list[RequestObservation], lag: float, count: int):
    """Whatever fields are missing, gates answer, each code once and each sentence on one line."""
    failed = failed_gates(observed(*requests, lag=lag), asked_for(count), LIMITS)

    assert len({gate.code for gate in failed}) == len(failed)
    assert all(gate.sentence and "\n" not in gate.sentence for gate in failed)
    complete = len(requests) == count > 0 and all(
        one.arrivals and not one.error and (one.prompt_tokens, one.completion_tokens) == (32, 4)
        for one in requests
    )
    assert failed or complete


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        ({"prompt_tokens_total": 64.0, "cached_tokens_total": 16.0, "generation_tokens_total": 2.0}, []),
        ({"prompt_tokens_total": 65.0}, ["counters-disagree"]),
        ({"cached_tokens_total": 0.0}, ["counters-disagree"]),
        ({"generation_tokens_total": 3.0}, ["counters-disagree"]),
        ({}, []),
    ],
)
def test_the_servers_two_counts_must_agree(counters, expected):
    """What the responses add up to and what the counters rose by are one number; a counter that is absent says nothing."""
    round_ = observed(request([0.1]), request([0.1], cached_tokens=16), counters=counters)

    assert codes(round_, Asked((32, 32), (1, 1), cold=False)) == expected
