"""Variance shared across the metrics of a run: empirical Bayes, as limma does for genes.

Three launches know little about their own spread; twenty metrics measured on the same launches know
a good deal together. Model: each metric's variance is drawn from a scaled inverse χ² with ``df`` and
``variance`` (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3). Correlated metrics repeat each other, so
the prior is told how much: see `docs/verdicts.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sglperf.core.launches import FloatArray

# Half a pseudo-metric whose variance differs from the others' by a factor of two either way, so that a
# handful of metrics that happen to agree is not taken for proof that all metrics spread alike.
SCEPTICAL_METRICS = 0.5
SCEPTICAL_DF = 4.0
OUTLIER = 1e-3  # a variance less likely than this under the prior is left to speak for itself
MOST_DF = 1e6


@dataclass(frozen=True)
class Prior:
    """What a run's other metrics say about the variance of one.

    Attributes:
        variance: the typical variance (of log values).
        df: how many degrees of freedom that is worth against a metric's own.
        df_of_variance: degrees of freedom from which ``variance`` itself was estimated; correlated
            metrics have few, however many they are.
    """

    variance: float
    df: float
    df_of_variance: float


NO_PRIOR = Prior(variance=1.0, df=0.0, df_of_variance=np.inf)


@dataclass(frozen=True)
class Moderated:
    """Variances after sharing; arrays of shape (metrics,).

    Attributes:
        variance: the moderated variance.
        df: degrees of freedom that a t statistic with it has.
        prior_share: weight of the prior in it, 0 to 1.
        prior_variance: the prior's variance.
    """

    variance: FloatArray
    df: FloatArray
    prior_share: FloatArray
    prior_variance: float


def shared_correlation(residuals: FloatArray) -> float:
    """Mean squared correlation between metrics, corrected for few degrees of freedom.

    ``residuals`` has shape (metrics, df), in orthonormal coordinates. Under independence a sample
    correlation has mean square 1/df, which is taken off.
    """
    metrics, df = residuals.shape
    lengths = np.sqrt(np.einsum("md,md->m", residuals, residuals))
    if metrics < 2 or df < 2 or not lengths.all():
        return 1.0 if metrics > 1 else 0.0
    directions = residuals / lengths[:, None]
    gram = directions.T @ directions  # df × df: the sum of squared correlations without a metrics² matrix
    mean_square = (float(np.sum(gram**2)) - metrics) / (metrics * (metrics - 1))
    return float(np.clip((df * mean_square - 1) / (df - 1), 0.0, 1.0))


def fit_prior(variances: FloatArray, df: int, correlation: float) -> Prior:
    """Prior from ``variances`` (metrics,) with ``df`` each and a mean squared ``correlation``.

    Method of moments on log variances; metrics whose variance is an outlier are left out of a second fit.
    """
    if len(variances) < 2 or df < 1:
        return NO_PRIOR
    first = _fit(variances, df, correlation)
    usual = ~_outlying(variances, df, first)
    return first if usual.all() or usual.sum() < 2 else _fit(variances[usual], df, correlation)


def moderate(variances: FloatArray, df: int, prior: Prior) -> Moderated:
    """Weigh each metric's own variance with the prior; an outlier keeps to its own."""
    share = np.where(_outlying(variances, df, prior), 0.0, prior.df / (prior.df + df))
    return Moderated(
        variance=share * prior.variance + (1 - share) * variances,
        df=_total_df(share, df, prior),
        prior_share=share,
        prior_variance=prior.variance,
    )


def _fit(variances: FloatArray, df: int, correlation: float) -> Prior:
    metrics = len(variances)
    own = float(special.polygamma(1, df / 2))  # variance of the log of a χ² with df
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    # Correlated metrics err together, so their sample variance misses the common part of the error.
    beyond_chance = float(np.var(logs, ddof=1)) - (1 - correlation) * own
    sceptical = float(special.polygamma(1, SCEPTICAL_DF / 2))
    weight = metrics - 1
    spread = (weight * max(beyond_chance, 0.0) + SCEPTICAL_METRICS * sceptical) / (weight + SCEPTICAL_METRICS)
    prior_df = min(2 * inverse_trigamma(spread), MOST_DF)
    centre = float(logs.mean()) + float(special.digamma(prior_df / 2)) - np.log(prior_df / 2)
    common = own * (correlation + (1 - correlation) / metrics)
    return Prior(float(np.exp(centre)), prior_df, 2 * inverse_trigamma(common))


def _outlying(variances: FloatArray, df: int, prior: Prior) -> NDArray[np.bool_]:
    if prior.df == 0:
        return np.zeros(len(variances), dtype=np.bool_)
    tail = special.fdtrc(df, prior.df, variances / prior.variance)
    return np.asarray(tail < OUTLIER, dtype=np.bool_)


def _total_df(share: FloatArray, df: int, prior: Prior) -> FloatArray:
    """Satterthwaite: relative variance of the weighted sum; with independent metrics it is df + prior.df."""
    shared_error = (share**2 + 2 * share * (1 - share)) / prior.df_of_variance
    prior_error = np.divide(share**2, prior.df, out=np.zeros_like(share), where=share > 0)
    return np.asarray(1 / (prior_error + shared_error + (1 - share) ** 2 / df), dtype=np.float64)


def inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    if value < 1e-7:
        return 1 / value if value > 0 else MOST_DF
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x
