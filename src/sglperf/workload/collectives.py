"""Collective operations of a TP set, measured in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglperf.workload.plan import RoundPlan
from sglperf.workload.shapes import Workload


@dataclass(frozen=True)
class AllReduce(Workload):
    """The all-reduce that ends each attention and each feed-forward layer: every rank's part of the hidden states.

    Attributes:
        ranks: of the TP set. It is part of the label, so that only sets of one size are compared with one another.
        tokens: of a pass: sequences of a decode step, or new tokens of a prefill; None takes the profile's.
    """

    ranks: int = 2
    tokens: int | None = None
    kind: ClassVar[str] = "allreduce"
    worker: ClassVar[str | None] = "collectives"

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:  # noqa: ARG002 - no server is sent anything
        return RoundPlan(())

    @property
    def label(self) -> str:
        return f"{self.kind}-n{self.ranks}-t{self.tokens}"

    @property
    def longest(self) -> int:
        return 0
