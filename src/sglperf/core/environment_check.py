"""The environment check as one value: what is here, what it is called, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from sglperf.core.fingerprint import Fingerprint, fingerprint
from sglperf.core.gpu_sets import GpuSet, named_sets, representative_sets
from sglperf.core.machine import Gpus, Installation, Machine
from sglperf.core.readiness import AreaReadiness, Finding, cautions, readiness


@dataclass(frozen=True)
class NamedSet:
    """A GPU set (driver's indices; empty for the CPU), what it is called, and the fingerprint of running on it."""

    gpu_set: tuple[int, ...]
    fingerprint: Fingerprint
    name: str


@dataclass(frozen=True)
class EnvironmentCheck:
    """A machine, a target's installation, and what follows from them.

    Attributes:
        sets: the CPU, the sets that tensor parallelism is measured on, and all usable GPUs where none of these is.
        areas: what each area lacks.
        cautions: what makes timings doubtful without stopping a run.
    """

    machine: Machine
    installation: Installation
    sets: tuple[NamedSet, ...]
    areas: tuple[AreaReadiness, ...]
    cautions: tuple[Finding, ...]


def check_environment(machine: Machine, installation: Installation) -> EnvironmentCheck:
    """Draw the conclusions."""
    return EnvironmentCheck(
        machine,
        installation,
        tuple(NamedSet(one.gpus, fingerprint(machine, one.gpus), one.name) for one in _sets(machine.gpus)),
        readiness(machine, installation),
        cautions(machine),
    )


def _sets(gpus: Gpus) -> tuple[GpuSet, ...]:
    chosen = [one.gpus for one in representative_sets(gpus)]
    usable = tuple(gpu.index for gpu in gpus.usable)
    return (GpuSet("cpu", ()), *named_sets([*chosen, usable] if usable else [], gpus.topology))
