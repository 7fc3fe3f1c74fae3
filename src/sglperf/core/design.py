"""How launches are laid out, and the geometry that follows: effect, residuals, relabellings."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sglperf.core.launches import FloatArray

MOST_LABELLINGS = 1024  # all of them up to here, beyond it a fixed draw of as many
SEED = 20250711


@dataclass(frozen=True)
class Design:
    """How many launches, and whether they come in pairs. Surplus launches of a paired design are left out."""

    n_base: int
    n_head: int
    paired: bool

    @property
    def pairs(self) -> int:
        """Complete pairs."""
        return min(self.n_base, self.n_head)

    @property
    def df(self) -> int:
        """Degrees of freedom that the launch-to-launch variance has of its own."""
        return self.pairs - 1 if self.paired else self.n_base + self.n_head - 2

    @property
    def scale(self) -> float:
        """Standard error of the log ratio per unit of launch-to-launch standard deviation."""
        return math.sqrt(2 / self.pairs if self.paired else 1 / self.n_base + 1 / self.n_head)

    @property
    def labellings(self) -> int:
        """In how many ways the launches could have been called base and head, each as likely as the other."""
        return 2**self.pairs if self.paired else math.comb(self.n_base + self.n_head, self.n_head)

    def coordinates(self, base: FloatArray, head: FloatArray) -> FloatArray:
        """Orthonormal coordinates, shape (metrics, df + 1): the standardized effect, then the residuals.

        ``base`` (metrics, launches of base) and ``head`` (metrics, launches of head) are log centres. Under
        "same build" every coordinate has the launch-to-launch variance.
        """
        compared = (head - base) / math.sqrt(2) if self.paired else np.concatenate([base, head], axis=1)
        return np.asarray(compared @ _basis(self), dtype=np.float64)

    def relabelled(self) -> FloatArray:
        """The direction of the effect under each labelling, shape (df + 1, labellings); the first is the real one."""
        return _relabelled(self)


def launches_missing(design: Design) -> str:
    """What is missing before a verdict is possible; empty if nothing is.

    Three degrees of freedom, or two where pairs take out what both sides share: below that a t
    quantile is so large that an alarm says more about the few launches than about the build.
    """
    if design.paired:
        return "" if design.pairs >= 3 else f"{3 - design.pairs} more launch pair(s)"
    if design.n_base < 2:
        return "a baseline of 2 or more launches"
    return "" if design.df >= 3 else f"{3 - design.df} more launch(es)"


@lru_cache(maxsize=256)
def _basis(design: Design) -> FloatArray:
    """Orthonormal columns: the effect's contrast first, then what is left when means are taken out."""
    if design.paired:
        known = np.ones((design.pairs, 1))
    else:
        real = _contrasts(design, np.arange(design.n_base, design.n_base + design.n_head)[None, :])
        known = np.column_stack([real[0], np.ones(real.shape[1])])
    q, r = np.linalg.qr(np.column_stack([known, np.eye(len(known))]))
    basis = q[:, [0, *range(known.shape[1], len(known))]]
    basis[:, 0] *= np.sign(r[0, 0])
    return np.asarray(basis, dtype=np.float64)


@lru_cache(maxsize=64)
def _relabelled(design: Design) -> FloatArray:
    signs = _signs(design) if design.paired else _contrasts(design, _heads(design))
    directions = (signs / np.linalg.norm(signs, axis=1, keepdims=True)) @ _basis(design)
    return np.asarray(directions.T, dtype=np.float64)


def _signs(design: Design) -> FloatArray:
    if design.labellings <= MOST_LABELLINGS:
        return np.array(list(itertools.product([1.0, -1.0], repeat=design.pairs)))
    drawn = np.random.default_rng((SEED, design.pairs)).choice([1.0, -1.0], (MOST_LABELLINGS, design.pairs))
    drawn[0] = 1.0
    return drawn


def _heads(design: Design) -> NDArray[np.intp]:
    """Which launches are called head, one labelling a row, the real one first."""
    total = design.n_base + design.n_head
    if design.labellings <= MOST_LABELLINGS:
        return np.array(list(itertools.combinations(range(total), design.n_head)))[::-1]
    random = np.random.default_rng((SEED, design.n_base, design.n_head))
    drawn = random.permuted(np.tile(np.arange(total), (MOST_LABELLINGS, 1)), axis=1)[:, : design.n_head]
    drawn[0] = np.arange(design.n_base, total)
    return drawn


def _contrasts(design: Design, heads: NDArray[np.intp]) -> FloatArray:
    rows = np.full((len(heads), design.n_base + design.n_head), -1 / design.n_base)
    np.put_along_axis(rows, heads, 1 / design.n_head, axis=1)
    return rows
