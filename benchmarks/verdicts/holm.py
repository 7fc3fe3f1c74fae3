"""The yardstick for power: a moderated t on launches, as limma does it, under Holm's step-down."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from sglperf.core.moderation import fit_prior, moderate
from sglperf.core.statistics import panel
from sglperf.core.verdict import Case


def regressed(cases: Mapping[str, Case], alpha: float = 0.05) -> set[str]:
    """Cases that a one-sided moderated t under Holm calls slower; differences of pairs, or two samples.

    The prior is Smyth's (2004): metrics are taken to be independent.
    """
    sides = [(case.base or (), case.head) for case in cases.values()]
    paired = next(iter(cases.values())).paired
    metrics = panel(sides, [True] * len(sides), paired=paired)
    moderated = moderate(metrics.variances, metrics.df, fit_prior(metrics.variances, metrics.df, 0.0))
    effect = metrics.head.mean(axis=1) - metrics.base.mean(axis=1)
    t = effect / (np.sqrt(moderated.variance) * metrics.design.scale)
    p = stats.t.sf(t, moderated.df)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return {name for name, value in zip(cases, adjusted, strict=True) if value <= alpha}
