"""A family judged as a family: step-down max-t by random rotations.

Under "same build", the launch differences of all metrics are jointly normal with mean zero and *some*
covariance. Their joint law does not change when the launches are rotated, so the rotated data show what
the largest of the correlated statistics does by chance: no correlation has to be estimated, and the
error rate holds for any number of launches (Langsrud 2005, Stat. Comput. 15:53; Wu et al. 2010,
Bioinformatics 26:2176). Step-down as in Westfall & Young (1993), algorithm 2.8: family-wise control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sglperf.core.launches import FloatArray

ROTATIONS = 1999
ROTATIONS_OF_LARGE = 999
LARGE_FAMILY = 500
SEED = 20250711  # one fixed set of rotations: the same samples always get the same verdict
TIE = 1e-9


@dataclass(frozen=True)
class Block:
    """Metrics of one design, in orthonormal coordinates whose first axis is the effect.

    Attributes:
        coordinates: shape (metrics, df + 1); positive on the first axis means worse.
        prior_share, df: of the moderated variances, shape (metrics,).
        prior_variance: shape ().
    """

    coordinates: FloatArray
    prior_share: FloatArray
    df: FloatArray
    prior_variance: float


@dataclass(frozen=True)
class FamilyP:
    """Family-wise adjusted p values, shape (metrics,), in the order of the blocks.

    Attributes:
        worse, better: one-sided, each controlled over the whole family.
        rival: level that the other metrics' largest statistic exceeds with probability alpha, (metrics,)
            on the z scale: what a metric's own statistic has to beat.
    """

    worse: FloatArray
    better: FloatArray
    rival: float


def family_p(blocks: Sequence[Block], planned: int, alpha: float) -> FamilyP:
    """Adjusted p values for all metrics of ``blocks``, in a family of at least ``planned`` metrics."""
    metrics = sum(len(block.coordinates) for block in blocks)
    count = ROTATIONS if metrics <= LARGE_FAMILY else ROTATIONS_OF_LARGE
    observed = np.concatenate([_statistic(b, b.coordinates[:, :1])[:, 0] for b in blocks])
    rotated = np.concatenate([_rotated(b, count, index) for index, b in enumerate(blocks)])
    absent = planned - metrics
    return FamilyP(
        worse=_step_down(observed, rotated, _ghosts(rotated, absent)),
        better=_step_down(-observed, -rotated, _ghosts(-rotated, absent)),
        rival=float(np.quantile(rotated.max(axis=0), 1 - alpha)),
    )


def _rotated(block: Block, count: int, stream: int) -> FloatArray:
    """Statistics under ``count`` rotations; shape (metrics, count). Blocks rotate independently."""
    directions = _directions(block.coordinates.shape[1], count, stream)
    return _statistic(block, block.coordinates @ directions)


def _statistic(block: Block, effect: FloatArray) -> FloatArray:
    """Moderated t of ``effect`` (metrics, k) on the z scale, so that designs of unlike df compete fairly."""
    length = np.einsum("md,md->m", block.coordinates, block.coordinates)[:, None]
    own = np.maximum(length - effect**2, 0.0) / max(block.coordinates.shape[1] - 1, 1)
    share = block.prior_share[:, None]
    # A metric without any spread has nothing to divide by; the tiny addend keeps its order and its sign.
    squared = effect**2 / (share * block.prior_variance + (1 - share) * own + 1e-12 * length + 1e-300)
    return np.asarray(np.sign(effect) * _normal_from_t2(squared, block.df[:, None]), dtype=np.float64)


def _normal_from_t2(squared: FloatArray, df: FloatArray) -> FloatArray:
    """Wallace's normal deviate of a t value (1959, Ann. Math. Stat. 30:1124), from t²."""
    return np.asarray((8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(squared / df)), dtype=np.float64)


@lru_cache(maxsize=64)
def _directions(dimension: int, count: int, stream: int) -> FloatArray:
    """Uniform directions in ``dimension`` dimensions; shape (dimension, count)."""
    drawn = np.random.default_rng((SEED, dimension, stream)).standard_normal((dimension, count))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=0), dtype=np.float64)


def _ghosts(rotated: FloatArray, absent: int) -> FloatArray:
    """Largest statistic of the planned metrics that are absent, (count,).

    They are taken to behave like those present, but independently: columns in another order.
    """
    metrics, count = rotated.shape
    largest = np.full(count, -np.inf)
    random = np.random.default_rng((SEED, metrics))
    for ghost in range(max(absent, 0)):
        np.maximum(largest, rotated[ghost % metrics][random.permutation(count)], out=largest)
    return largest


def _step_down(observed: FloatArray, rotated: FloatArray, ghosts: FloatArray) -> FloatArray:
    """Each metric competes with those no more extreme than itself, and with the absent ones."""
    ascending = np.argsort(observed, kind="stable")
    rivals = np.maximum(np.maximum.accumulate(rotated[ascending], axis=0), ghosts)
    reached = (rivals >= observed[ascending, None] - TIE).sum(axis=1)
    p = (1 + reached) / (1 + rotated.shape[1])
    adjusted = np.empty(len(p))
    adjusted[ascending] = np.maximum.accumulate(p[::-1])[::-1]
    return np.asarray(adjusted, dtype=np.float64)
