"""Overlap scheduling: the host prepares the next step while the device computes this one, beside a server without it.

Both servers are up together and take their rounds in turn; how much faster the one with overlap is stands below the
verdicts. Last, each is traced: what its host does in a step, and how much of that the device hides.
"""

from __future__ import annotations

import pytest

from sglperf import Decode, DecodeTrace, Measure, Server

pytestmark = [pytest.mark.overlap, pytest.mark.server("overlap")]


@pytest.mark.sweep("streams")
def test_decode(server: Server, measure: Measure, streams: int) -> None:
    """Tokens keep coming as fast as they did, with the host's work hidden and without."""
    measure(Decode(streams=streams)).expect("inter_token_latency", "decode_throughput")


@pytest.mark.sweep("streams")
def test_work(server: Server, measure: Measure, streams: int) -> None:
    """Either way the server computes as many tokens as it did."""
    measure(Decode(streams=streams)).expect("completion_tokens", "prefill_tokens", "decode_tokens")


def test_step(server: Server, measure: Measure) -> None:
    """A decode step calls, launches and waits for the device no more often than it did."""
    measure(DecodeTrace(streams=8)).expect(
        "step_operators",
        "step_kernels",
        "step_syncs",
        "step_time",
        "step_host_time",
        "device_wait_share",
        "hidden_host_share",
    )
