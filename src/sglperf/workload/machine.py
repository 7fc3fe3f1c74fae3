"""What the machine can do by itself, measured in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglperf.workload.plan import RoundPlan
from sglperf.workload.shapes import Workload


@dataclass(frozen=True)
class MachineSpeed(Workload):
    """Copies, a matrix product, small operations and a piece of Python, in the target's own interpreter."""

    kind: ClassVar[str] = "machine-speed"
    worker: ClassVar[str | None] = "machine_speed"

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:  # noqa: ARG002 - nothing is sent to a server
        return RoundPlan(())

    @property
    def label(self) -> str:
        return self.kind

    @property
    def longest(self) -> int:
        return 0
