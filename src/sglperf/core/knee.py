"""Where a server saturates: a search for the highest rate at which it keeps its objective.

The rate is the goodput of a server in the sense of DistServe (Zhong et al., OSDI 2024, arXiv:2401.09670): the most that it
serves while so many of its requests meet their objective. Pure: told what came of each probe, it says which rate is next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# From one rate to the next while all that were tried lie on one side of the rate sought.
_STRIDE = 1.5


@dataclass(frozen=True)
class Probe:
    """What came of one rate.

    Attributes:
        rate: offered, requests per second.
        share: of the requests in question, that met the objective; 0 to 1.
    """

    rate: float
    share: float


@dataclass(frozen=True)
class Search:
    """Bisection on a logarithmic scale, once strides from the first rate have enclosed the one sought.

    Attributes:
        probes: how many rates are tried.
        share: of the requests that must meet the objective.
    """

    probes: int
    share: float = 0.9

    def next_rate(self, bound: float, done: Sequence[Probe]) -> float | None:
        """The rate to be tried next, requests per second; None once all probes are done.

        Args:
            bound: what a closed loop came to, requests per second; tried first.
        """
        if len(done) >= self.probes:
            return None
        kept, missed = self._kept(done), self._missed(done)
        if kept and missed:
            return math.sqrt(kept[-1].rate * missed[0].rate)
        if kept:
            return kept[-1].rate * _STRIDE
        return missed[0].rate / _STRIDE if missed else bound

    def rate(self, done: Sequence[Probe]) -> float | None:
        """The rate at which the share falls below what is asked, by interpolation; None where it lies outside of all.

        Between the two rates that enclose it, the share is taken to fall evenly with the logarithm of the rate.
        """
        kept, missed = self._kept(done), self._missed(done)
        if not kept or not missed:
            return None
        low, high = kept[-1], missed[0]
        part = (low.share - self.share) / (low.share - high.share)
        return float(low.rate * (high.rate / low.rate) ** part)

    def _kept(self, done: Sequence[Probe]) -> list[Probe]:
        """Below the lowest rate that was missed, ascending: one that is kept above it was luck."""
        lowest = min((probe.rate for probe in done if probe.share < self.share), default=math.inf)
        return sorted((probe for probe in done if probe.rate < lowest), key=_rate)

    def _missed(self, done: Sequence[Probe]) -> list[Probe]:
        return sorted((probe for probe in done if probe.share < self.share), key=_rate)


def _rate(probe: Probe) -> float:
    return probe.rate
