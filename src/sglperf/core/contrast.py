"""Servers of one build that differ in one setting, compared pair by pair: how many times faster is one?"""

from __future__ import annotations

from dataclasses import dataclass

from sglperf.core.launches import Launches
from sglperf.core.metric import Better, Metric
from sglperf.core.statistics import Comparison, compare
from sglperf.core.topology import LinkClass


@dataclass(frozen=True)
class Contrast:
    """One metric of one workload on two servers. It carries no verdict: that one is faster is no regression.

    Attributes:
        model, group: names of the model and of the comparison, which says what the servers have in common.
        reference, other: what sets them apart.
        workload, metric: what was measured.
        comparison: of the other server with the reference, of launches that were paired.
        reference_ranks, ranks: of each server's TP set.
        links: class of links of the other's TP set; ``cpu`` for ranks on a CPU.
        rate: whether the metric is so much a second, of which twice the GPUs could do twice as much.
    """

    model: str
    group: str
    reference: str
    other: str
    workload: str
    metric: str
    comparison: Comparison
    reference_ranks: int = 1
    ranks: int = 1
    links: str = LinkClass.SINGLE
    rate: bool = False

    @property
    def efficiency(self) -> tuple[float, float, float] | None:
        """Scaling efficiency, with the ends of its interval: speed-up over how many times as many GPUs there are.

        None where both have as many, and of a latency, which no number of GPUs divides by itself.
        """
        if not self.rate or self.ranks == self.reference_ranks:
            return None
        value, low, high = self.speedup
        more = self.ranks / self.reference_ranks
        return value / more, low / more, high / more

    @property
    def speedup(self) -> tuple[float, float, float]:
        """How many times better the other is, with the ends of its interval."""
        found = self.comparison
        if not found.lower_is_better:
            return found.ratio, found.low, found.high
        return 1 / found.ratio, _inverse(found.high), _inverse(found.low)


def _inverse(value: float) -> float:
    return 1 / value if value else float("inf")


def contrast_launches(
    reference: Launches, other: Launches, metric: Metric, *, alpha: float
) -> Comparison | None:
    """Launch i of one beside launch i of the other; None where there are none."""
    if not reference or not other:
        return None
    return compare(reference, other, lower_is_better=metric.better is Better.LOWER, alpha=alpha, paired=True)
