"""From launches of one server to a figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from scipy import special

from sglperf.core.launches import Launches
from sglperf.core.metric import Metric
from sglperf.core.statistics import compare

Estimate: TypeAlias = tuple[float, float, float]
"""A value, and the lower and upper end of its interval."""


def estimate(launches: Launches, metric: Metric, *, alpha: float) -> Estimate | None:
    """A figure with the ends of its interval, from launches of one server; None where there is none.

    The geometric mean of the launches; the arithmetic one of a metric that may be zero or less. The interval is
    unbounded where a single launch does not tell how they spread.
    """
    if not launches:
        return None
    if metric.signed:
        return _arithmetic(launches, alpha)
    one = [[1.0]] * len(launches)
    found = compare(one, launches, alpha=alpha, paired=True)
    return found.ratio, found.low, found.high


def _arithmetic(launches: Sequence[Sequence[float]], alpha: float) -> Estimate:
    """A t interval of the mean; a launch counts by the mean of its rounds."""
    centers = [math.fsum(rounds) / len(rounds) for rounds in launches]
    count = len(centers)
    mean = math.fsum(centers) / count
    if count < 2:
        return mean, -math.inf, math.inf
    variance = math.fsum((center - mean) ** 2 for center in centers) / (count - 1)
    half = float(special.stdtrit(count - 1, 1 - alpha / 2)) * math.sqrt(variance / count)
    return mean, mean - half, mean + half
