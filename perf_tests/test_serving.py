"""Serving many users at once: throughput in a closed loop, latency and goodput in open ones, and where the server saturates.

Figures are of a round's steady window, which is found by rule. docs/serving.md tells how.
"""

from __future__ import annotations

import pytest

from sglperf import ClosedLoop, Measure, OpenLoop, Saturation, Server

pytestmark = pytest.mark.serving

SHOWN = ("request_throughput", "queue_time", "batch_size")


@pytest.mark.sweep("concurrency")
def test_closed_loop(server: Server, measure: Measure, concurrency: int) -> None:
    """With so many requests always in flight, as many tokens come out as did, and none of them stalls for longer."""
    measure(ClosedLoop(concurrency=concurrency)).expect(
        "output_throughput", "time_to_first_token", "inter_token_latency_p99", *SHOWN
    )


def test_open_loop(server: Server, measure: Measure) -> None:
    """Requests that arrive at random are answered as soon as they were, and for most of them no later."""
    measure(OpenLoop()).expect(
        "time_to_first_token",
        "time_to_first_token_p90",
        "time_to_first_token_p99",
        "inter_token_latency",
        *SHOWN,
    )


def test_bursts(server: Server, measure: Measure) -> None:
    """When they come in bursts, as many of them as before are served within the objective."""
    measure(OpenLoop(arrivals="bursty")).expect("time_to_first_token_p90", "goodput", *SHOWN)


def test_ramp(server: Server, measure: Measure) -> None:
    """While the load rises to twice its mean and falls again, requests wait no longer than they did."""
    measure(OpenLoop(arrivals="ramp")).expect("time_to_first_token_p90", *SHOWN)


def test_saturation(server: Server, measure: Measure) -> None:
    """The server keeps its objective up to as high a rate as it did."""
    measure(Saturation()).expect("saturation_rate")


@pytest.mark.sweep("concurrency")
def test_work(server: Server, measure: Measure, concurrency: int) -> None:
    """However requests are batched, each token is computed once and none is given up on the way."""
    measure(ClosedLoop(concurrency=concurrency)).expect(
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "prefill_tokens",
        "decode_tokens",
        "retractions",
    )
