"""A search for saturation plays a closed loop and probes, and stops at the first that cannot be believed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from queues import BatchServer
from samples import ask, server

from sglperf.core.gates import Gate
from sglperf.core.observation import RoundObservation
from sglperf.plan import Load, make_plan
from sglperf.searching import Searched, answered_rate, search
from sglperf.workload.traffic import Saturation

WORKLOAD = Saturation(
    requests=60, concurrency=16, prompt_tokens=48, new_tokens=24, ttft_objective_ms=200, tpot_objective_ms=25
)
SERVER = BatchServer()


def load_of(workload: Saturation = WORKLOAD) -> Load:
    asks = [ask("saturation_rate", workload=workload, config=server(max_total_tokens=10**6))]
    return make_plan(asks, launches=1, rounds=1, warmup_rounds=0, seed=1).loads(asks[0].config)[0]


def searched(
    machine: BatchServer = SERVER, workload: Saturation = WORKLOAD, fails: int | None = None
) -> Searched:
    """A search on a simulated server; round number ``fails`` fails a gate."""
    played: list[RoundObservation] = []

    def observe(load: Load) -> RoundObservation:
        played.append(machine.play(load.round))
        return played[-1]

    def failed(load: Load, seen: RoundObservation) -> tuple[Gate, ...]:
        return (Gate("host-busy", "a neighbour", timing_only=True),) if len(played) - 1 == fails else ()

    return search(load_of(workload), seed=1, observe=observe, failed=failed)


def test_the_rate_is_found_between_one_that_is_kept_and_one_that_is_not():
    """Four probes around the knee, below what the closed loop came to or not far above."""
    found = searched()

    assert found.gates == ()
    assert len(found.observations) == 5
    assert len(found.probes) == 4
    assert found.rate is not None
    kept = [probe.rate for probe in found.probes if probe.share >= 0.9]
    missed = [probe.rate for probe in found.probes if probe.share < 0.9]
    assert max(kept) <= found.rate <= min(missed)
    assert (
        0.3 * answered_rate(found.observations[0]) < found.rate < 1.4 * answered_rate(found.observations[0])
    )


@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_a_server_that_is_slower_by_a_factor_saturates_as_much_earlier(factor):
    """Every pass takes longer by the same factor, and as much longer is allowed: the rate sought falls by that factor."""
    slower = BatchServer(SERVER.step / factor, SERVER.each / factor, SERVER.prompt_token / factor)
    milder = replace(WORKLOAD, ttft_objective_ms=round(200 / factor), tpot_objective_ms=round(25 / factor))
    before, after = searched().rate, searched(slower, milder).rate

    assert before is not None
    assert after is not None
    assert after / before == pytest.approx(factor)


def test_sleeping_in_large_batches_is_seen():
    """Nothing changes below eight at once, and the rate at which that is exceeded for long is the new limit."""
    before, after = searched().rate, searched(replace(SERVER, slow_from=8, slow=0.1)).rate

    assert before is not None
    assert after is not None
    assert after < 0.9 * before


@pytest.mark.parametrize(("fails", "probes"), [(0, 0), (1, 0), (3, 2)])
def test_a_gate_ends_the_search(fails, probes):
    """What was seen until then is kept, and there is no figure."""
    found = searched(fails=fails)

    assert [gate.code for gate in found.gates] == ["host-busy"]
    assert len(found.observations) == fails + 1
    assert len(found.probes) == probes
    assert found.rate is None


@pytest.mark.parametrize(
    ("objective", "said"),
    [({"ttft_objective_ms": 1}, "no rate that was tried .* a milder one"), ({"ttft_objective_ms": 10**6, "tpot_objective_ms": 10**6}, "every rate that was tried .* more requests, or a stricter one")],
)  # fmt: skip
def test_an_objective_without_a_knee_is_said(objective, said):
    """Shares and rates are in the sentence, with what to change."""
    found = searched(workload=replace(WORKLOAD, **objective))

    (gate,) = found.gates
    assert gate.code == "knee-not-found"
    assert found.rate is None
    assert re.search(said, gate.sentence)
