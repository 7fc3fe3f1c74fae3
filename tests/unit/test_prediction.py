"""Predictions of whole rounds, and what is said of a server that departs from one."""

from __future__ import annotations

import re

import pytest
from test_cache_model import text

from sglperf.core.cache_model import CacheShape
from sglperf.core.prediction import Departure, Sent, SentWave, departures, predict

SHAPE = CacheShape(16, 4096)
COLD_WARM = [SentWave(tuple(Sent(text(number, 100), (-1,)) for number in (1, 2, 1, 2)))]


def test_together_after_one_that_shares() -> None:
    """Requests in flight together are predicted where their order does not matter."""
    system = text(1, 64)
    waves = [
        SentWave((Sent(system + text(2, 10), (-1,)),)),
        SentWave(tuple(Sent(system + text(number, 20), (-1,)) for number in (3, 4, 5)), together=True),
    ]
    found = predict(SHAPE, waves)
    assert [one.cached_tokens for one in found.requests] == [0, 64, 64, 64]
    assert [one.shared_with for one in found.requests] == [None, 0, 0, 0]


def test_together_and_cold_is_refused() -> None:
    """Cold requests that share a prefix hit or miss by the server's timing, so nothing is predicted."""
    wave = SentWave(tuple(Sent(text(1, 64) + text(number, 20), (-1,)) for number in (3, 4)), together=True)
    with pytest.raises(ValueError, match="request 1 of 2 in flight together finds more or less in the cache"):
        predict(SHAPE, [wave])


def test_eviction_after_requests_together_is_refused() -> None:
    """Once requests were in flight together, their order of use is unknown, so nothing may be evicted after."""
    waves = [
        SentWave(tuple(Sent(text(number, 1000), (-1,)) for number in (1, 2, 3)), together=True),
        SentWave((Sent(text(4, 1200), (-1,)),)),
    ]
    with pytest.raises(ValueError, match="what is evicted depends on the order"):
        predict(SHAPE, waves)
    waves[1] = SentWave(waves[1].requests, flush=True)
    assert predict(SHAPE, waves).evicted_tokens == 0


def test_flush_forgets_what_could_be_shared() -> None:
    """After a flush nothing can be served, whatever was sent before."""
    prediction = predict(SHAPE, [*COLD_WARM, SentWave(COLD_WARM[0].requests[:1], flush=True)])
    assert [(one.cached_tokens, one.shared_tokens) for one in prediction.requests] == [
        (0, 0), (0, 0), (96, 96), (96, 96), (0, 0),
    ]  # fmt: skip


def test_as_predicted() -> None:
    """A server that does as predicted departs in nothing."""
    assert departures(predict(SHAPE, COLD_WARM), [0, 0, 96, 96], 0.0) == {}


@pytest.mark.parametrize(
    ("cached", "departure"),
    [
        (
            [0, 0, 80, 80],
            Departure(
                True,
                "cached-less",
                "request 2 (100 tokens, 96 shared with request 0): 80 cached, 96 predicted; "
                "2 of 4 requests differ, 192 → 160 in all",
            ),
        ),
        (
            [0, 0, 96, 112],
            Departure(
                True,
                "served-what-was-never-sent",
                "request 3 (100 tokens, 96 shared with request 1): 112 cached, 96 predicted; "
                "1 of 4 requests differ, 192 → 208 in all",
            ),
        ),
        (
            [0, 0, 80, 112],
            Departure(
                True,
                "served-what-was-never-sent",
                "request 3 (100 tokens, 96 shared with request 1): 112 cached, 96 predicted; "
                "2 of 4 requests differ, 192 → 192 in all",
            ),
        ),
        (
            [0, 16, 96, 80],
            Departure(
                True,
                "served-what-was-never-sent",
                "request 1 (100 tokens, 0 shared): 16 cached, 0 predicted; 2 of 4 requests differ, 192 → 192 in all",
            ),
        ),
    ],
)
def test_departures(cached: list[int], departure: Departure) -> None:
    """The first request that differs is named; more than was ever sent is worse, not better."""
    assert departures(predict(SHAPE, COLD_WARM), cached, 0.0) == {"cached_tokens": departure}


def test_more_kept_than_the_policy_would() -> None:
    """Serving more than predicted, of what was sent before, is an improvement."""
    prompts = [text(number, 500) for number in range(12)]
    prediction = predict(SHAPE, [SentWave(tuple(Sent(prompt, (-1,)) for prompt in prompts + prompts))])
    cached = [one.cached_tokens for one in prediction.requests]
    assert cached == [0] * 24
    found = departures(prediction, [*cached[:-1], 496], prediction.evicted_tokens - 100.0)
    assert not found["cached_tokens"].worse
    assert found["cached_tokens"].code == "cached-more"
    assert not found["evicted_tokens"].worse
    worse = departures(prediction, cached, prediction.evicted_tokens + 16.0)
    assert worse["evicted_tokens"].worse
    assert re.match(r"\d+ tokens evicted, the cache model evicts \d+", worse["evicted_tokens"].sentence)


def test_unknown_evictions_are_no_departure() -> None:
    """Where the server does not count evictions, nothing is said of them."""
    assert departures(predict(SHAPE, COLD_WARM), [0, 0, 96, 96], None) == {}
