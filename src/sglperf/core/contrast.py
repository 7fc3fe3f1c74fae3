"""Servers of one build that differ in one setting, compared pair by pair: how many times faster is one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sglperf.core.launches import Launches
from sglperf.core.metric import Better, Metric
from sglperf.core.statistics import Comparison, compare


@dataclass(frozen=True)
class Contrast:
    """One metric of one workload on two servers. It carries no verdict: that one is faster is no regression.

    Attributes:
        model, group: names of the model and of the comparison, which says what the servers have in common.
        reference, other: what sets them apart.
        workload, metric: what was measured.
        comparison: of the other server with the reference, of launches that were paired.
    """

    model: str
    group: str
    reference: str
    other: str
    workload: str
    metric: str
    comparison: Comparison

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


def estimate(launches: Sequence[Sequence[float]], *, alpha: float) -> tuple[float, float, float] | None:
    """A figure with the ends of its interval, from launches of one server; None where there are none.

    The geometric mean of the launches; the interval is (0, inf) where a single one does not tell how they spread.
    """
    if not launches:
        return None
    one = [[1.0]] * len(launches)
    found = compare(one, launches, alpha=alpha, paired=True)
    return found.ratio, found.low, found.high
