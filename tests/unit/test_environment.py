"""What the environment's tests ask, and what is said where the machine itself became slower."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from machines import CPU_ONLY, H100_X8, INSTALLED
from samples import ask, compared, server

from sglperf.asking import answered, request
from sglperf.core.catalogue import MACHINE, METRICS
from sglperf.core.environment_check import check_environment
from sglperf.core.machine import Installation, Machine
from sglperf.core.readiness import AREAS
from sglperf.core.verdict import Status, Verdict
from sglperf.environment import Environment
from sglperf.machine_note import machine_note
from sglperf.plan import Ask, Load, Plan, make_plan
from sglperf.settings import Settings
from sglperf.target.build import Target
from sglperf.workload.machine import MachineSpeed
from sglperf.workload.plan import RoundPlan


def environment(
    machine: Machine = CPU_ONLY, installation: Installation = INSTALLED, device: str = "cpu", ranks: int = 1
) -> Environment:
    return Environment(check_environment(machine, installation), device, ranks)


# Ready or not


@pytest.mark.parametrize("area", AREAS)
def test_what_is_there_is_enough(area):
    """On the profile's device, whatever the other one lacks."""
    environment(ranks=2).require(area)
    environment(H100_X8, device="cuda", ranks=2).require(area)


def test_what_is_missing_fails_with_the_sentence():
    """Everything that the area lacks, each with the next action."""
    lacking = replace(INSTALLED, unmet=("torch==2.14.1 (2.13.0 is installed)",), python_headers=False)

    with pytest.raises(pytest.fail.Exception) as caught:
        environment(installation=lacking).require("backend")
    assert str(caught.value) == (
        "SGLang requires torch==2.14.1 (2.13.0 is installed): pip install that there, or name another --target; "
        "flex_attention needs Python.h: apt install python3-dev"
    )


def test_the_profiles_device_counts():
    """A GPU profile on a machine without one fails; its CPU engine would be ready."""
    with pytest.raises(pytest.fail.Exception, match="needs a GPU"):
        environment(device="cuda").require("decode")


def test_tp_is_asked_for_by_the_profile():
    """Where no TP set has several ranks, nothing is asked of it; where one has, it must be there."""
    alone = replace(CPU_ONLY, host=replace(CPU_ONLY.host, available_cpus=1))

    with pytest.raises(pytest.skip.Exception):
        environment(alone, ranks=1).require("tp")
    with pytest.raises(pytest.fail.Exception, match="TP needs two CPUs"):
        environment(alone, ranks=2).require("tp")


# The machine's speed

SAID = {
    "copy_bytes_per_second": 3e10,
    "matmul_flops_per_second": 4e11,
    "launch_seconds": 1e-6,
    "python_seconds": 2e-3,
}
ON_GPU = {"to_device_bytes_per_second": 5e10, "from_device_bytes_per_second": 6e10}
LOAD = Load(MachineSpeed(), RoundPlan(()), "machine-speed-seed0")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_worker_is_told_the_device(device):
    """And how long each timing may take."""
    settings = cast("Settings", SimpleNamespace(kernel_seconds=0.2))

    asked = request(settings, server(device=device), cast("Target", None), LOAD)
    assert asked == {"device": device, "budget": 0.2}


@pytest.mark.parametrize("gpu", [False, True])
def test_the_answer_has_a_metric_each(gpu):
    """Each by its own name, copies to and from a GPU only where there is one, and how they were timed."""
    said: dict[str, Any] = {**SAID, **(ON_GPU if gpu else {}), "method": "a clock"}
    found = answered(server(), MachineSpeed(), said)

    expected = {"copy_bandwidth": 3e10, "matmul_rate": 4e11, "launch_overhead": 1e-6, "python_time": 2e-3}
    if gpu:
        expected |= {"host_to_device_bandwidth": 5e10, "device_to_host_bandwidth": 6e10}
    assert found.values == expected
    assert (found.method, found.gates) == ("a clock", ())
    assert set(expected) <= set(MACHINE) <= set(METRICS)


def test_nothing_is_sent_to_a_server():
    """A worker measures it, whatever the model."""
    workload = MachineSpeed()

    assert workload.plan(seed=0, vocab_size=1).requests == ()
    assert (workload.worker, workload.label, workload.longest) == ("machine_speed", "machine-speed", 0)


# The note

COPY, PYTHON = (ask(name, area="env", workload=MachineSpeed()) for name in ("copy_bandwidth", "python_time"))
LATENCY, COUNT = ask("inter_token_latency"), ask("cached_tokens")


def plan(*asks: Ask) -> Plan:
    return make_plan(asks, launches=2, rounds=1, warmup_rounds=1, seed=0)


def judged(*regressed: Ask, others: tuple[Ask, ...] = ()) -> dict[str, Verdict]:
    worse = compared(1.25, 1.2, 1.3)
    return {one.name: Verdict(Status.REGRESSED, "significant-worse", "worse", worse) for one in regressed} | {
        one.name: Verdict(Status.INCONCLUSIVE, "needs-launches", "?", worse) for one in others
    }


def test_a_slower_machine_is_said_beside_what_regressed():
    """Each of its figures that is worse, with its interval."""
    everything = plan(COPY, PYTHON, LATENCY)

    assert list(machine_note(everything, judged(COPY, LATENCY, others=(PYTHON,)))) == [
        "this machine is slower without SGLang, too: copy_bandwidth 1.25 of what it was (1.20 … 1.30). "
        "What else regressed may come from that"
    ]
    (both,) = machine_note(everything, judged(COPY, PYTHON, LATENCY))
    assert both.count("of what it was") == 2


@pytest.mark.parametrize(
    ("regressed", "others"),
    [((COPY, PYTHON), (LATENCY,)), ((LATENCY,), (COPY, PYTHON)), ((COPY, COUNT), (LATENCY,)), ((), (COPY, LATENCY))],
)  # fmt: skip
def test_nothing_is_said_without_both(regressed, others):
    """A machine that is slower alone has its own verdict; a count does not come from it."""
    assert list(machine_note(plan(COPY, PYTHON, LATENCY, COUNT), judged(*regressed, others=others))) == []


def test_what_was_not_judged_is_no_matter():
    """A case without a verdict, as a figure that is only shown."""
    assert list(machine_note(plan(COPY, LATENCY), judged(LATENCY))) == []
