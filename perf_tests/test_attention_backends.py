"""Attention backends side by side: as whole servers with the same model and workload, up together, round by round.

Each is judged against its own baseline; how many times faster one is than the other is shown beside that.
"""

from __future__ import annotations

import pytest

from sglperf import Answers, Decode, Measure, Prefill, Server

pytestmark = pytest.mark.backend


@pytest.mark.server("backends")
@pytest.mark.sweep("batch")
def test_decode_by_batch(server: Server, measure: Measure, batch: int) -> None:
    """A batch of this size decodes as fast as it did."""
    measure(Decode(streams=batch)).expect("inter_token_latency", "decode_throughput")


@pytest.mark.server("backends")
@pytest.mark.sweep("context_tokens")
def test_decode_by_context(server: Server, measure: Measure, context_tokens: int) -> None:
    """With this much in the KV cache, tokens keep coming as fast as they did."""
    measure(Decode(prompt_tokens=context_tokens)).expect("inter_token_latency")


@pytest.mark.server("backends")
@pytest.mark.sweep("context_tokens")
def test_prefill(server: Server, measure: Measure, context_tokens: int) -> None:
    """A cold prompt of this length is prefilled as fast as it was."""
    measure(Prefill(prompt_tokens=context_tokens)).expect("time_to_first_token", "prefill_throughput")


@pytest.mark.server("answers")
def test_same_answers(server: Server, measure: Measure) -> None:
    """Every backend gives the same greedy tokens, from the prefix cache too, but where rounding decides."""
    measure(Answers()).expect("diverging_answers")
