"""What is left of a round once its gates have spoken."""

from __future__ import annotations

from samples import observed, paced

from sglperf.core.gates import Gate
from sglperf.serving import believable

ROUND = observed(paced(0.1, [0.01] * 3), counters={"decode_tokens": 3.0})
LATE = Gate("client-lag", "late", timing_only=True)
SHORT = Gate("wrong-length", "short")


def test_a_good_round_yields_everything():
    """Without a failed gate every metric that occurred has its value."""
    assert {"inter_token_latency", "decode_tokens"} <= set(believable(ROUND, ()))


def test_spoilt_timings_leave_the_counts():
    """A gate about timings takes those and nothing else."""
    found = believable(ROUND, (LATE,))

    assert found["decode_tokens"] == 3.0
    assert not {name for name in found if "latency" in name or "throughput" in name or "time" in name}


def test_other_work_leaves_nothing():
    """A round that did something else has no value at all."""
    assert believable(ROUND, (LATE, SHORT)) == {}
