"""The environment check as one value: what is here, what it is called, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sglperf.core.fingerprint import Fingerprint, fingerprint
from sglperf.core.machine import Gpus, Installation, Machine
from sglperf.core.readiness import AreaReadiness, Finding, cautions, readiness


@dataclass(frozen=True)
class NamedSet:
    """A GPU set (driver's indices; empty for the CPU) and the fingerprint of running on it."""

    gpu_set: tuple[int, ...]
    fingerprint: Fingerprint


@dataclass(frozen=True)
class EnvironmentCheck:
    """A machine, a target's installation, and what follows from them.

    Attributes:
        sets: the CPU, the first usable GPU, and all usable GPUs where there are several.
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
        tuple(NamedSet(chosen, fingerprint(machine, chosen)) for chosen in _sets(machine.gpus)),
        readiness(machine, installation),
        cautions(machine),
    )


def _sets(gpus: Gpus) -> Iterator[tuple[int, ...]]:
    usable = tuple(gpu.index for gpu in gpus.usable)
    yield ()
    if usable:
        yield usable[:1]
    if len(usable) > 1:
        yield usable
