"""Prefill: time to the first token and throughput by prompt length, and what the prefix cache saves, exactly."""

from __future__ import annotations

import pytest

from sglperf import Measure, Prefill, Repeat, Server

pytestmark = pytest.mark.prefill


@pytest.mark.sweep("prompt_tokens")
def test_time_to_first_token(server: Server, measure: Measure, prompt_tokens: int) -> None:
    """A cold prompt of this length gets its first token as soon as it did."""
    measure(Prefill(prompt_tokens=prompt_tokens)).expect("time_to_first_token")


@pytest.mark.sweep("prompt_tokens")
def test_prefill_throughput(server: Server, measure: Measure, prompt_tokens: int) -> None:
    """Cold prompts of this length are prefilled at as many tokens per second as they were."""
    measure(Prefill(prompt_tokens=prompt_tokens)).expect("prefill_throughput")


@pytest.mark.sweep("prompt_tokens")
def test_work(server: Server, measure: Measure, prompt_tokens: int) -> None:
    """Prefill computes each cold prompt token once and nothing else."""
    measure(Prefill(prompt_tokens=prompt_tokens)).expect(
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "prefill_tokens",
        "decode_tokens",
        "kv_capacity_tokens",
    )


def test_prefix_reuse(server: Server, measure: Measure) -> None:
    """A repeated prompt comes from the prefix cache to the token, and only the rest is computed."""
    measure(Repeat()).expect("cached_tokens", "prefill_tokens", "completion_tokens")
