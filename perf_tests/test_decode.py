"""Decoding: latency of each token, its growth with the KV cache, and throughput by batch size."""

from __future__ import annotations

import pytest

from sglperf import Decode, Measure, Server

pytestmark = pytest.mark.decode


@pytest.mark.sweep("streams")
def test_inter_token_latency(server: Server, measure: Measure, streams: int) -> None:
    """Tokens keep coming as fast as they did, at the median and for the slowest one in a hundred."""
    measure(Decode(streams=streams)).expect("inter_token_latency", "inter_token_latency_p99")


@pytest.mark.sweep("streams")
def test_decode_throughput(server: Server, measure: Measure, streams: int) -> None:
    """A full batch decodes as many tokens per second as it did."""
    measure(Decode(streams=streams)).expect("decode_throughput")


@pytest.mark.sweep("streams")
def test_latency_growth(server: Server, measure: Measure, streams: int) -> None:
    """A token at the end of the generation costs no more, against one at its beginning, than it did."""
    measure(Decode(streams=streams)).expect("inter_token_latency_growth", "inter_token_latency_slope")


@pytest.mark.sweep("streams")
def test_time_to_first_token(server: Server, measure: Measure, streams: int) -> None:
    """Streams that start together get their first token as soon as they did."""
    measure(Decode(streams=streams)).expect("time_to_first_token")


@pytest.mark.sweep("streams")
def test_work(server: Server, measure: Measure, streams: int) -> None:
    """The server does the same work: tokens computed, tokens returned, nothing from the cache, the same KV capacity."""
    measure(Decode(streams=streams)).expect(
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "prefill_tokens",
        "decode_tokens",
        "kv_capacity_tokens",
    )
