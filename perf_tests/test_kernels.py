"""A forward pass kernel by kernel, in the target's own interpreter: each one checked, then timed with a cold cache."""

from __future__ import annotations

import pytest

from sglperf import DecodePass, Measure, PrefillPass, Server

pytestmark = [pytest.mark.kernel, pytest.mark.server("kernels")]

KERNELS = (
    "attention", "qkv_proj", "rope", "o_proj", "rms_norm", "gate_up_proj", "activation", "down_proj", "lm_head",
    "sampling",
)  # fmt: skip
TIMES = tuple(f"{kernel}_time" for kernel in KERNELS)
SHARES = tuple(f"{kernel}_limit_share" for kernel in KERNELS)
LAYER = ("attention_share", "gemm_share")
WHOLE = ("pass_coverage", "attention_bandwidth_share")


@pytest.mark.sweep("batch")
def test_decode_step(server: Server, measure: Measure, batch: int) -> None:
    """Each kernel of a decode step takes as long as it did, their sum too, and there are no more of them."""
    measure(DecodePass(streams=batch)).expect(*TIMES, "pass_kernel_time", "kernel_calls", *SHARES, *WHOLE)


@pytest.mark.sweep("context_tokens")
def test_decode_attention(server: Server, measure: Measure, context_tokens: int) -> None:
    """Attention over this much of the KV cache takes as long as it did."""
    measure(DecodePass(context_tokens=context_tokens)).expect(
        "attention_time", "attention_limit_share", "attention_bandwidth_share"
    )


@pytest.mark.sweep("context_tokens")
def test_prefill(server: Server, measure: Measure, context_tokens: int) -> None:
    """Each kernel of a cold prompt's prefill takes as long as it did."""
    measure(PrefillPass(new_tokens=context_tokens, context_tokens=context_tokens)).expect(
        *TIMES, "pass_kernel_time", "kernel_calls", *SHARES, *LAYER, *WHOLE
    )


def test_extend(server: Server, measure: Measure) -> None:
    """Attention of new tokens to a prefix that is in the cache takes as long as it did."""
    measure(PrefillPass()).expect("attention_time", "attention_limit_share")
