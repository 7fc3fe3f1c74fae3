"""From launches to a comparison: ratio, interval, p, detectable effect. All in logs, launches as units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from sglperf.core.design import Design
from sglperf.core.launches import FloatArray, Launches, log_centres, require_usable
from sglperf.core.moderation import NO_PRIOR, Moderated, moderate

__all__ = ["Comparison", "Launches", "compare"]

POWER = 0.8  # at which `Comparison.detectable_effect` is stated
# No clock and no server repeats itself better than this; it keeps quantized samples from dividing by zero.
SMALLEST_SPREAD = 1e-4


@dataclass(frozen=True)
class Comparison:
    """How head differs from base.

    Attributes:
        ratio: head / base; 1.03 is 3 % more, whether or not that is worse.
        low, high: interval of the ratio at confidence ``1 - alpha``; (0, inf) when the spread is unknown.
        p_value: two-sided, of this metric alone, for "the ratio is 1".
        detectable_effect: smallest relative change for the worse that would have been called at the
            power `POWER`; inf when the spread is unknown.
        base_center, head_center: geometric mean of the launches, in the metric's unit.
        n_base, n_head: launches used.
        df: degrees of freedom behind the interval, with those borrowed from the run's other metrics.
        spread: relative standard deviation from launch to launch (0.02 is 2 %).
        paired: compared pair by pair; False also for interleaved launches whose pairs did not matter.
        lower_is_better: direction of the metric.
        alpha: one minus the interval's confidence; 0 for an exact metric.
        p_family: adjusted for the family it was judged in, one-sided in the direction of the change.
    """

    ratio: float
    low: float
    high: float
    p_value: float
    detectable_effect: float
    base_center: float
    head_center: float
    n_base: int
    n_head: int
    df: float
    spread: float
    paired: bool
    lower_is_better: bool
    alpha: float
    p_family: float | None = None

    @property
    def exact(self) -> bool:
        """Whether it compares values without noise."""
        return self.alpha == 0

    @property
    def worse(self) -> bool:
        """Whether the change, if it is one, is for the worse."""
        return self.ratio > 1 if self.lower_is_better else self.ratio < 1


@dataclass(frozen=True)
class Panel:
    """Metrics that share a design: log centres of their launches, and their place in the test's geometry.

    Attributes:
        design: launches used.
        base, head: log centres, shape (metrics, launches of that side).
        coordinates: shape (metrics, df + 1), see `Design.coordinates`.
        lower_is_better: direction of each metric.
    """

    design: Design
    base: FloatArray
    head: FloatArray
    coordinates: FloatArray
    lower_is_better: tuple[bool, ...]

    @property
    def df(self) -> int:
        """Degrees of freedom of each metric's launch-to-launch variance."""
        return int(self.coordinates.shape[1]) - 1

    @property
    def variances(self) -> FloatArray:
        """Launch-to-launch variance, (metrics,), not below what a clock can resolve."""
        residuals = self.coordinates[:, 1:]
        squares = np.einsum("md,md->m", residuals, residuals) / max(self.df, 1)
        return np.asarray(np.maximum(squares, SMALLEST_SPREAD**2), dtype=np.float64)

    def unpaired(self) -> Panel:
        """The same launches, compared side by side instead of pair by pair."""
        design = replace(self.design, paired=False)
        return replace(self, design=design, coordinates=design.coordinates(self.base, self.head))


def panel(
    sides: Sequence[tuple[Launches, Launches]], lower_is_better: Sequence[bool], *, paired: bool
) -> Panel:
    """Sum up the launches of (base, head) ``sides`` that have equal numbers of launches, already validated."""
    base, head = sides[0]
    design = Design(len(base), len(head), paired)
    complete = slice(design.pairs if paired else None)
    centres = log_centres([[*base[complete], *head[complete]] for base, head in sides])
    left, right = np.split(centres, [len(base[complete])], axis=1)
    used = Design(left.shape[1], right.shape[1], paired)
    return Panel(used, left, right, used.coordinates(left, right), tuple(lower_is_better))


def compare(
    base: Launches,
    head: Launches,
    *,
    lower_is_better: bool = True,
    min_effect: float = 0.0,
    alpha: float = 0.05,
    paired: bool = False,
) -> Comparison:
    """Compare one metric on its own: a t interval of the log ratio, launches as units.

    Args:
        base, head: launches, each a sequence of rounds; numbers of rounds and launches may differ.
        lower_is_better: direction of the metric.
        min_effect: smallest relative change that matters; a detectable effect is never below what
            would still have been judged irrelevant.
        alpha: one minus the confidence of the interval.
        paired: launch i of base and of head were measured as a pair.

    Raises:
        SampleError: a side has no launch, an empty launch, NaN, infinity, zero or a negative value.
    """
    require_usable(base, "base")
    require_usable(head, "head")
    one = panel([(base, head)], [lower_is_better], paired=paired)
    df = one.df
    moderated = moderate(one.variances, df, NO_PRIOR) if df else None
    critical = float(special.stdtrit(df, 1 - alpha / 2)) if df else math.inf
    return comparisons(one, moderated, critical, [min_effect], alpha)[0]


def comparisons(
    metrics: Panel,
    moderated: Moderated | None,
    critical: FloatArray | float,
    min_effects: Sequence[float],
    alpha: float,
) -> list[Comparison]:
    """One comparison per metric; ``moderated`` None means that the spread is unknown.

    ``critical`` is the t value that the decision rule asks for, from which the detectable effect follows.
    """
    left, right = metrics.base.mean(axis=1), metrics.head.mean(axis=1)
    effect = right - left
    found = _estimates(effect, metrics.design, moderated, critical, np.log1p(np.asarray(min_effects)), alpha)
    columns = [np.exp(effect), *found, np.exp(left), np.exp(right)]
    rows = zip(*(column.tolist() for column in columns), metrics.lower_is_better, strict=True)
    n_base, n_head = metrics.base.shape[1], metrics.head.shape[1]
    return [
        Comparison(
            ratio=ratio,
            low=low,
            high=high,
            p_value=p_value,
            detectable_effect=detectable,
            base_center=base_center,
            head_center=head_center,
            n_base=n_base,
            n_head=n_head,
            df=df,
            spread=spread,
            paired=metrics.design.paired,
            lower_is_better=lower_is_better,
            alpha=alpha,
        )
        for ratio, low, high, p_value, detectable, df, spread, base_center, head_center, lower_is_better in rows
    ]


def _estimates(
    effect: FloatArray,
    design: Design,
    moderated: Moderated | None,
    critical: FloatArray | float,
    irrelevant: FloatArray,
    alpha: float,
) -> tuple[FloatArray, ...]:
    """Low, high, p, detectable effect, df and spread, each (metrics,)."""
    if moderated is None:
        unknown, nothing = np.full(len(effect), math.inf), np.zeros_like(effect)
        return nothing, unknown, nothing + 1, unknown, nothing, unknown
    error, df = np.sqrt(moderated.variance) * design.scale, moderated.df
    half = special.stdtrit(df, 1 - alpha / 2) * error
    p_value = 2 * special.stdtr(df, -np.abs(effect) / error)
    # To be called, the estimate must pass the critical value, and the interval must not show irrelevance.
    called = np.maximum(critical * error, irrelevant - half)
    detectable = np.expm1(called + special.stdtrit(df, POWER) * error)
    return np.exp(effect - half), np.exp(effect + half), p_value, detectable, df, np.sqrt(moderated.variance)
