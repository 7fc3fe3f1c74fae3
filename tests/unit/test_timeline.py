"""A request's life on one clock, from made-up answers of the server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import ask, measured_round, observed, paced, server

from sglperf.core.catalogue import METRICS
from sglperf.core.derive import derive, latency_curve
from sglperf.core.gates import Asked, Gate, Limits, failed_gates
from sglperf.core.observation import RequestObservation, RoundObservation
from sglperf.core.timeline import PHASES, disagreement, phase_values, timelines
from sglperf.evidence import Measured
from sglperf.measurements import Measurements
from sglperf.plan import make_plan
from sglperf.report.sparkline import sparkline
from sglperf.report.timeline import timeline_parts
from sglperf.serving import believable
from sglperf.workload.shapes import Lifecycle

BEGAN = 1_800_000_000.0
TOLD = Asked((32,), (11,), cold=True, timeline=True)


def life(
    *, ahead: float = 0.0, behind: float = 0.0, took: float | None = 0.117, index: int = 0
) -> RequestObservation:
    """Sent at 1, its first token at 1.020 and then ten more, 10 ms apart; over at 1.121."""
    begin = BEGAN + ahead + 1
    said = {
        "request_received_ts": begin + 0.002,
        "api_server_dispatch_finish_ts": begin + 0.003,
        "forward_entry_time": begin + 0.005 + behind,
        "prefill_finished_time": begin + 0.018,
        **({} if took is None else {"e2e_latency": took}),
    }
    return paced(1.020, [0.010] * 10, sent=1.0, finished=1.121, server=said, index=index)


def lived(*requests: RequestObservation) -> RoundObservation:
    round_ = observed(*requests)
    return replace(round_, client=replace(round_.client, began=BEGAN))


def codes(gates: tuple[Gate, ...]) -> list[str]:
    return [gate.code for gate in gates]


def test_phases_follow_one_another():
    """From sending to the response's end, without a gap."""
    (found,) = timelines(lived(life()))
    assert found.phases == pytest.approx(
        {
            "arrive": 0.002,
            "prepare": 0.001,
            "queue": 0.002,
            "prefill": 0.013,
            "return": 0.002,
            "decode": 0.100,
            "finish": 0.001,
        },
        abs=1e-6,
    )
    assert sum(found.phases.values()) == pytest.approx(0.121)


def test_a_rounds_phases_are_its_median_requests():
    """One that waited longer moves nothing."""
    values = derive(lived(life(), life(behind=0.004, index=1), life(index=2)))
    assert values["phase_queue"] == pytest.approx(0.002, abs=1e-6)
    assert values["time_to_batch"] == pytest.approx(0.003, abs=1e-6)
    assert {f"phase_{name}" for name in PHASES} | {"time_to_batch"} <= set(values) & set(METRICS)


def test_a_scheduler_that_is_quicker_than_the_note_of_it():
    """The two are processes of their own: that is no contradiction, and no time in a queue."""
    values = phase_values(lived(life(behind=-0.0025)))
    assert values["phase_queue"] == 0
    assert values["time_to_batch"] == values["phase_prepare"] == pytest.approx(0.0005, abs=1e-6)
    assert disagreement(timelines(lived(life(behind=-0.0025)))) == pytest.approx(0.001, abs=1e-6)
    assert disagreement(timelines(lived(life(behind=-0.010)))) == pytest.approx(0.007, abs=1e-6)


@pytest.mark.parametrize("lacking", ["request_received_ts", "prefill_finished_time"])
def test_a_moment_that_is_not_told_leaves_no_timeline(lacking: str):
    """A phase would have no end; the gate says what to do, and takes only the phases away."""
    request = life()
    request = replace(request, server={name: at for name, at in request.server.items() if name != lacking})
    round_ = lived(request)
    assert phase_values(round_) == {}
    (gate,) = failed_gates(round_, TOLD, Limits())
    assert gate.code == "no-server-times"
    assert not gate.spoils("time_to_first_token")
    assert gate.spoils("phase_queue")
    assert gate.spoils("time_to_batch")
    assert believable(round_, [gate]) == derive(round_)


def test_a_client_that_did_not_note_the_time():
    """Rounds of an older journal have no wall-clock time."""
    assert timelines(observed(life())) == ()


def test_agreeing_clocks_pass():
    """The last token's way to the client is no part of the server's own time."""
    assert disagreement(timelines(lived(life()))) == pytest.approx(0.001, abs=1e-6)
    assert failed_gates(lived(life()), TOLD, Limits()) == ()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("request_", "apart"),
    [
        (life(ahead=-0.012), 0.010),  # received before it was sent
        (life(ahead=0.012), 0.010),  # done with the prompt after its token was seen
        (life(behind=0.023), 0.010),  # scheduled after it was done
        (life(took=0.100), 0.018),  # the server says that it was quicker
        (life(took=0.140), 0.022),  # … or slower
    ],
)
def test_contradicting_clocks_are_a_gate(request_: RequestObservation, apart: float, told: bool):
    """Where the story is asked for, a contradiction takes it away, and nothing that the client timed by itself."""
    round_ = lived(request_)
    assert disagreement(timelines(round_)) == pytest.approx(apart, abs=0.0015)
    gates = failed_gates(round_, replace(TOLD, timeline=told), Limits())
    assert codes(gates) == (["clocks-disagree"] if told else [])
    values = believable(round_, gates)
    assert ("phase_queue" in values) == (not told)
    assert {"time_to_first_token", "inter_token_latency", "completion_tokens"} <= set(values)


def test_the_curve_goes_by_what_a_step_reads():
    """The second token's step reads the prompt and the first token."""
    request = paced(1.0, [0.010, 0.011, 0.012])
    assert np.array(latency_curve(observed(request))) == pytest.approx(
        np.array([(33, 0.010), (34, 0.011), (35, 0.012)])
    )
    assert latency_curve(observed(request, replace(request, prompt_tokens=33))) == ()
    assert latency_curve(observed(paced(1.0, []))) == ()


def test_a_long_curve_is_reduced():
    """To sixteen points, each the median of its stretch: a spike does not show."""
    gaps = [0.010] * 160
    gaps[7] = 1.0
    points = latency_curve(observed(paced(1.0, gaps)))
    assert len(points) == 16
    assert [latency for _, latency in points] == pytest.approx([0.010] * 16)
    assert points[0][0] == pytest.approx(33 + 4.5)


def shown(curve: tuple[tuple[float, float], ...]) -> list[str]:
    shape = Lifecycle(64, 11, 1)
    asks = [ask("time_to_batch", area="lifecycle", workload=shape), ask("phase_prefill", workload=shape)]
    values = {**derive(lived(life())), "inter_token_latency_slope": 1e-6}
    rounds = [measured_round(0, values, index=index, like=asks[0], curve=curve) for index in range(3)]
    plan = make_plan(asks, launches=1, rounds=3, warmup_rounds=0, seed=0)
    measured = Measured(plan, Measurements(rounds=rounds), {"head": {}})
    lines: list[str] = []
    for part in timeline_parts(measured):
        columns = getattr(part, "columns", None)
        lines += (
            [str(part)]
            if columns is None
            else map(" | ".join, zip(*(one.cells for one in columns), strict=True))
        )
    return lines


def test_a_life_as_it_is_shown():
    """Once per workload: each phase after the one before, with a bar on the way to the first token."""
    lines = shown(((70.0, 0.010), (74.0, 0.012)))
    assert lines[1] == f"lifecycle-p64-n11-r1 · {server().label} · tiny"
    assert lines[2] == "arrive | 0 | 2.000 ms | ████"
    assert lines[4].startswith("queue | 3.000 ms | 2.000 ms |       ████")
    assert lines[6] == f"return | 18.00 ms | 2.000 ms | {' ' * 36}████"
    assert lines[7] == "decode | 20.00 ms | 100.0 ms | "
    assert lines[-1] == (
        "inter-token latency with 70 to 74 tokens in the KV cache: ▁█ (10.00 ms to 12.00 ms), fitted slope 1.000 µs/tok"
    )


def test_without_a_curve_there_is_a_table():
    """Prompts of unequal lengths have no position in common."""
    assert shown(())[-1].startswith("finish | ")


def test_sparkline():
    """Levels by value; a flat one stays low."""
    assert sparkline([1, 1, 1]) == "▁▁▁"
    assert sparkline([0, 0.5, 1]) == "▁▅█"
