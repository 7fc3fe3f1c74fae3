"""What is left of a round once its gates have spoken."""

from __future__ import annotations

from samples import observed, paced

from sglperf.core.gates import Gate
from sglperf.core.service import Objective, Service
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


def test_a_gate_about_one_metric_leaves_the_others():
    """What is said of the median latency says nothing of the slowest gap, or of counts."""
    gate = Gate("odd", "odd", metrics=("inter_token_latency",))
    every = believable(ROUND, ())

    assert believable(ROUND, (gate,)) == {
        name: value for name, value in every.items() if name != "inter_token_latency"
    }


def test_a_round_under_load_is_read_by_its_window():
    """Where the workload says so, the figures are those of load."""
    found = believable(ROUND, (), Service(Objective(1.0, 1.0)))

    assert "decode_throughput" not in found
    assert found["decode_tokens"] == 3.0


def test_other_work_leaves_nothing():
    """A round that did something else has no value at all."""
    assert believable(ROUND, (LATE, SHORT)) == {}
