"""The environment: that nothing is missing, what the machine can do without SGLang, and how a server starts on it.

A machine that became slower explains whatever else became slower on it.
"""

from __future__ import annotations

import pytest

from sglperf import AREAS, Environment, MachineSpeed, Measure, Prefill, Server

pytestmark = pytest.mark.env


@pytest.mark.exact
@pytest.mark.parametrize("area", AREAS)
def test_ready(environment: Environment, area: str) -> None:
    """Nothing is missing that the area's tests need on the profile's device."""
    environment.require(area)


@pytest.mark.server("machine")
def test_machine_speed(server: Server, measure: Measure) -> None:
    """The machine copies, multiplies, launches operations and runs Python as fast as it did."""
    transfers = ("host_to_device_bandwidth", "device_to_host_bandwidth") if server.device == "cuda" else ()
    measure(MachineSpeed()).expect(
        "copy_bandwidth", "matmul_rate", "launch_overhead", "python_time", *transfers
    )


def test_start(server: Server, measure: Measure) -> None:
    """A server is up as soon as it was, with as much room in its KV cache."""
    measure(Prefill(prompt_tokens=16, requests=1)).expect("startup_seconds", "kv_capacity_tokens")
