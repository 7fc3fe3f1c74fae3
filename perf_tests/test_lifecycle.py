"""One request alone on the server, from its arrival to its last token: where its time goes."""

from __future__ import annotations

import pytest

from sglperf import DecodeTrace, Lifecycle, Measure, PrefillTrace, Server

pytestmark = pytest.mark.lifecycle

SHARES = tuple(f"step_{group}_share" for group in ("attention", "gemm", "norm", "collective", "rest"))
CALLS = ("step_operators", "step_kernels", "step_syncs")


def test_phases(server: Server, measure: Measure) -> None:
    """Each phase before the first token takes as long as it did."""
    measure(Lifecycle()).expect(
        "time_to_batch",
        "phase_arrive",
        "phase_prepare",
        "phase_queue",
        "phase_prefill",
        "phase_return",
        "phase_decode",
        "phase_finish",
    )


def test_tokens(server: Server, measure: Measure) -> None:
    """Tokens come as fast as they did, and get no slower than they did as the KV cache fills."""
    measure(Lifecycle()).expect(
        "time_to_first_token",
        "inter_token_latency",
        "inter_token_latency_growth",
        "inter_token_latency_slope",
    )


def test_work(server: Server, measure: Measure) -> None:
    """The server computes what was asked for and nothing else."""
    measure(Lifecycle()).expect("cached_tokens", "prefill_tokens", "decode_tokens")


def test_prefill_pass(server: Server, measure: Measure) -> None:
    """The pass over a prompt calls, launches and waits no more often than it did, for the same kinds of work."""
    measure(PrefillTrace(prompt_tokens=512)).expect(*CALLS, *SHARES)


def test_decode_step(server: Server, measure: Measure) -> None:
    """So does a decode step."""
    measure(DecodeTrace()).expect(*CALLS, *SHARES)
