"""When requests of an open loop arrive and how long they are: seeded draws from named distributions. Pure.

Draws are conditioned on what a profile states, so that a seed changes the pattern and never the amount of load: exactly so
many requests arrive in exactly so many seconds, and their lengths are the distribution's own quantiles in shuffled order.
"""

from __future__ import annotations

import math
from itertools import accumulate
from random import Random
from statistics import NormalDist

LENGTH_SIGMA = 0.6
"""Of the logarithm of a length: one request in ten is more than 2.2 times as long as the median one."""
LENGTH_CLIP = 4
"""No length is more than so many times the median, or less than the median over it."""


def renewal_times(count: int, seconds: float, *, variation: float, seed: int | str) -> tuple[float, ...]:
    """Arrivals whose gaps are gamma distributed, as many as asked for in the time asked for.

    Args:
        count: arrivals.
        seconds: in which they fall.
        variation: coefficient of variation of the gaps. 1 is a Poisson process (given its count); more is burstier.
            Its inverse square is the shape of the gamma distribution, called burstiness by vLLM's benchmark; traces
            of services have gaps of this kind (BurstGPT, Wang et al. 2024, arXiv:2401.17644).

    Returns:
        Ascending times in (0, ``seconds``), to the microsecond; shape (count,). The gaps, with the one that is left
        at the end, are independent gamma draws over their sum: Dirichlet distributed, so their mean is exactly
        seconds / (count + 1) and the square of their coefficient of variation count / ((count + 1) / variation² + 1).
    """
    source, shape = Random(seed), variation**-2
    gaps = [source.gammavariate(shape, 1.0) for _ in range(count + 1)]
    ends = list(accumulate(gaps))
    return tuple(round(end / ends[-1] * seconds, 6) for end in ends[:-1])


def ramp_times(count: int, seconds: float, *, seed: int | str) -> tuple[float, ...]:
    """Arrivals of a Poisson process whose rate rises evenly from zero to twice its mean, and falls back to zero.

    Returns:
        Ascending times, shape (count,): those of a process of even rate, on a clock that runs as fast as the integral
        of the rate (Cinlar's time change): u of all arrivals have come at √(u/2) of the time in its first half.
    """
    even = renewal_times(count, 1.0, variation=1.0, seed=seed)
    return tuple(
        round(seconds * (math.sqrt(u / 2) if u < 0.5 else 1 - math.sqrt((1 - u) / 2)), 6) for u in even
    )


def mixed_lengths(count: int, median: int, *, seed: int | str) -> list[int]:
    """Lengths that are lognormally distributed around a median, clipped; the same ones for each seed, in another order.

    Returns:
        The quantiles at (i + ½) / count, rounded to tokens, none less than 1; shape (count,).
    """
    normal = NormalDist(sigma=LENGTH_SIGMA)
    least, most = max(1, median // LENGTH_CLIP), median * LENGTH_CLIP
    lengths = [
        min(most, max(least, round(median * math.exp(normal.inv_cdf((i + 0.5) / count)))))
        for i in range(count)
    ]
    Random(seed).shuffle(lengths)
    return lengths
