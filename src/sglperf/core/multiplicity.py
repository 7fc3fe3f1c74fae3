"""A family judged as a family: step-down max-t by random rotations, confirmed by relabelling the launches.

*Rotations.* Under "same build" the launch differences of all metrics are jointly normal with mean zero
and *some* covariance. Their joint law does not change when the launches are rotated, so the rotated data
show what the largest of the correlated statistics does by chance: no correlation has to be estimated, and
three launches are enough (Langsrud 2005, Stat. Comput. 15:53; Wu et al. 2010, Bioinformatics 26:2176).

*Relabelling.* Launches are not always normal: they have modes, outliers, drift. Whatever their law, had the
same launches been called base and head otherwise, the result would have been as likely. An alarm must be
among the alpha most extreme of these labellings too (Fisher 1935; Westfall & Young 1993, algorithm 2.8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sglperf.core.launches import FloatArray

ROTATIONS = 1999
ROTATIONS_OF_LARGE = 499
LARGE_FAMILY = 500
FINEST = (
    5  # rotations per 1/alpha, so that a p of a fifth of alpha exists: a single launch is held against that
)
SEED = 20250711  # one fixed set of rotations: the same samples always get the same verdict
TIE = 1e-9


@dataclass(frozen=True)
class Block:
    """Metrics of one design, in orthonormal coordinates whose first axis is the effect.

    Attributes:
        coordinates: shape (metrics, df + 1); positive on the first axis means worse.
        prior_share, df: of the moderated variances, shape (metrics,).
        prior_variance: of the moderated variances.
        relabelled: directions of the effect under every labelling, shape (≤ df + 1, labellings), the
            real one first; missing axes are not touched by labels.
    """

    coordinates: FloatArray
    prior_share: FloatArray
    df: FloatArray
    prior_variance: float
    relabelled: FloatArray


@dataclass(frozen=True)
class FamilyP:
    """Family-wise adjusted p values, shape (metrics,), in the order of the blocks.

    Attributes:
        worse, better: one-sided, each controlled over the whole family.
        rival: normal deviate that the largest statistic of the family exceeds by chance with
            probability alpha.
    """

    worse: FloatArray
    better: FloatArray
    rival: float


def family_p(blocks: Sequence[Block], planned: int, alpha: float) -> FamilyP:
    """Adjusted p values for all metrics of ``blocks``, in a family of at least ``planned`` metrics.

    ``alpha`` is the level they will be held against: too few launches to relabel for it must be the most
    extreme labelling there is.
    """
    metrics = sum(len(block.coordinates) for block in blocks)
    count = max(ROTATIONS if metrics <= LARGE_FAMILY else ROTATIONS_OF_LARGE, math.ceil(FINEST / alpha))
    observed = np.concatenate([_statistic(block, block.coordinates[:, :1])[:, 0] for block in blocks])
    rotated = np.concatenate([_rotated(block, count, index) for index, block in enumerate(blocks)])
    rival = float(np.quantile(rotated.max(axis=0), 1 - alpha))
    relabelled = [_relabelled(block) for block in blocks]
    worse, better = (
        np.maximum(
            _rotation_p(sign * observed, sign * rotated, planned), _objections(relabelled, sign, alpha)
        )
        for sign in (1, -1)
    )
    return FamilyP(worse, better, rival)


def _statistic(block: Block, effect: FloatArray) -> FloatArray:
    """Moderated t of ``effect`` (metrics, k) on the z scale, so that designs of unlike df compete fairly."""
    length = np.einsum("md,md->m", block.coordinates, block.coordinates)[:, None]
    squares = effect**2
    own_share = (1 - block.prior_share[:, None]) / max(block.coordinates.shape[1] - 1, 1)
    variance = np.maximum(length - squares, 0.0)
    variance *= own_share
    # A metric without any spread has nothing to divide by; the tiny addend keeps its order and its sign.
    variance += block.prior_share[:, None] * block.prior_variance + 1e-12 * length + 1e-300
    squares /= variance
    return np.copysign(_normal_from_t2(squares, block.df[:, None]), effect)


def _normal_from_t2(squares: FloatArray, df: FloatArray) -> FloatArray:
    """Wallace's normal deviate of a t value (1959, Ann. Math. Stat. 30:1124), from t², in its place."""
    squares /= df
    np.log1p(squares, out=squares)
    np.sqrt(squares, out=squares)
    squares *= np.sqrt(df) * (8 * df + 1) / (8 * df + 3)
    return squares


# Rotations


def _rotated(block: Block, count: int, stream: int) -> FloatArray:
    """Statistics under ``count`` rotations; shape (metrics, count). Blocks rotate independently."""
    directions = _directions(block.coordinates.shape[1], count, stream)
    return _statistic(block, block.coordinates @ directions)


@lru_cache(maxsize=64)
def _directions(dimension: int, count: int, stream: int) -> FloatArray:
    """Uniform directions in ``dimension`` dimensions; shape (dimension, count)."""
    drawn = np.random.default_rng((SEED, dimension, stream)).standard_normal((dimension, count))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=0), dtype=np.float64)


def _rotation_p(observed: FloatArray, rotated: FloatArray, planned: int) -> FloatArray:
    reached, drawn = _step_down(observed, rotated, _ghosts(rotated, planned - len(observed)))
    return np.asarray((1 + reached) / (1 + drawn), dtype=np.float64)


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


# Relabelling


def _relabelled(block: Block) -> FloatArray:
    """Statistics under every labelling, (metrics, labellings), the real one first."""
    return _statistic(block, block.coordinates[:, : len(block.relabelled)] @ block.relabelled)


def _objections(relabelled: Sequence[FloatArray], sign: int, alpha: float) -> FloatArray:
    """Share of labellings at least as extreme, where that speaks against an alarm at ``alpha``, else 0."""
    return np.concatenate([_objection(sign * statistics, alpha) for statistics in relabelled])


def _objection(relabelled: FloatArray, alpha: float) -> FloatArray:
    labellings = relabelled.shape[1]
    reached, _ = _step_down(relabelled[:, 0], relabelled, np.full(labellings, -np.inf))
    p = reached / labellings
    return np.where(p <= max(alpha, 1 / labellings) + TIE, 0.0, p)


def _step_down(observed: FloatArray, chance: FloatArray, ghosts: FloatArray) -> tuple[FloatArray, int]:
    """How often ``chance`` (metrics, count) reaches ``observed``, and count.

    Each metric competes with those no more extreme than itself, and with the absent ones.
    """
    ascending = np.argsort(observed, kind="stable")
    rivals = np.maximum(np.maximum.accumulate(chance[ascending], axis=0), ghosts)
    reached = (rivals >= observed[ascending, None] - TIE).sum(axis=1)
    adjusted = np.empty(len(observed))
    adjusted[ascending] = np.maximum.accumulate(reached[::-1])[::-1]
    return adjusted, chance.shape[1]
