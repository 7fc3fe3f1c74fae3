"""Tensor parallelism by class of links: one GPU beside a set of each class that the host has, and their all-reduce.

Each set is judged against its own baseline; speed-up and scaling efficiency over one GPU stand below the verdicts.
"""

from __future__ import annotations

import pytest

from sglperf import AllReduce, Decode, DecodeTrace, Measure, Prefill, Server

pytestmark = pytest.mark.tp


@pytest.mark.server("scaling")
@pytest.mark.sweep("streams")
def test_decode(server: Server, measure: Measure, streams: int) -> None:
    """A batch of this size decodes as fast as it did, on each set."""
    measure(Decode(streams=streams)).expect("inter_token_latency", "decode_throughput")


@pytest.mark.server("scaling")
@pytest.mark.sweep("prompt_tokens")
def test_prefill(server: Server, measure: Measure, prompt_tokens: int) -> None:
    """A cold prompt of this length is prefilled as fast as it was, on each set."""
    measure(Prefill(prompt_tokens=prompt_tokens)).expect("time_to_first_token", "prefill_throughput")


@pytest.mark.server("scaling")
@pytest.mark.sweep("streams")
def test_work(server: Server, measure: Measure, streams: int) -> None:
    """Each set computes as many tokens as it did, and holds as many."""
    measure(Decode(streams=streams)).expect(
        "completion_tokens", "prefill_tokens", "decode_tokens", "kv_capacity_tokens"
    )


@pytest.mark.server("scaling")
def test_step(server: Server, measure: Measure) -> None:
    """A decode step launches and waits no more often than it did; what part of it collectives take is shown."""
    measure(DecodeTrace(streams=8)).expect(
        "step_operators", "step_kernels", "step_syncs", "step_collective_share", "device_wait_share"
    )


@pytest.mark.server("allreduce")
@pytest.mark.sweep("message_tokens")
def test_allreduce(server: Server, measure: Measure, message_tokens: int) -> None:
    """Summing the hidden states of so many tokens over the set takes as long as it did."""
    measure(AllReduce(ranks=server.tp_size, tokens=message_tokens)).expect(
        "allreduce_time",
        "allreduce_streamed_time",
        "allreduce_bandwidth",
        "allreduce_bus_bandwidth",
        "allreduce_message",
    )
