"""What a terminal says of rounds under load."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from samples import ask, measured_round, outcome, server

from sglperf.core.knee import Probe
from sglperf.report.load import load_parts
from sglperf.report.sparkline import sparkline
from sglperf.workload.traffic import ClosedLoop, Saturation

LENGTHS = {
    "requests": 20,
    "prompt_tokens": 16,
    "new_tokens": 8,
    "ttft_objective_ms": 300,
    "tpot_objective_ms": 40,
}
CLOSED = ask("output_throughput", area="serving", workload=ClosedLoop().filled(LENGTHS))
SEARCH = ask("saturation_rate", area="serving", workload=Saturation(concurrency=4).filled(LENGTHS))


def test_a_line_for_each_load_under_its_server():
    """The mean of the rounds' batches over time, and the last search's rates in order, with the shares in time."""
    ended = outcome((CLOSED, [], None, None), (SEARCH, [], None, None))
    probes = (Probe(20.0, 0.95), Probe(28.28, 0.25), Probe(23.8, 0.5))
    ended.measured.measurements.rounds += [
        measured_round(0, {"output_throughput": 1.0}, like=CLOSED, batch_sizes=(0.0, 4.0, 8.0)),
        measured_round(1, {"output_throughput": 1.0}, like=CLOSED, batch_sizes=(0.0, 4.0, 6.0)),
        measured_round(0, {"saturation_rate": 20.6}, like=SEARCH, probes=probes),
        measured_round(0, {}, like=SEARCH, probes=probes[:1]),
        measured_round(0, {"output_throughput": 1.0}, like=CLOSED, side="base", batch_sizes=(9.0,)),
    ]

    assert list(load_parts(ended.measured)) == [
        "",
        f"under load on tiny · {server().label}: requests that decode, over time; rates tried",
        "  closed-c8-p16-n8-r20             ▁▅█ up to 7.0",
        "  saturation-c4-p16-n8-r20         20/s 95%, 23.8/s 50%, 28.3/s 25% in time",
    ]


def test_other_loads_are_not_mentioned():
    """A run without continuous load says nothing of it."""
    assert list(load_parts(outcome((ask(), [[0.01]], None, None)).measured)) == []


@given(st.lists(st.floats(0, 1e6), max_size=40))
def test_a_sparkline_has_a_character_for_each_value(values):
    """The highest is full, and zero is the lowest."""
    line = sparkline(values, low=0)

    assert len(line) == len(values)
    assert not values or max(values) == 0 or "█" in line
