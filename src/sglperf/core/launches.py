"""Launches × rounds to one figure per launch: what may be computed from, and how rounds are summed up.

The launch is the experimental unit: graph capture, autotuning and memory layout are drawn once per
launch, so its rounds share one draw and only their centre enters the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sglperf.errors import SampleError

Launches: TypeAlias = Sequence[Sequence[float]]
FloatArray: TypeAlias = NDArray[np.float64]

TRIMMED_SHARE = 0.2  # from each end; Tukey & McLaughlin (1963), Sankhyā A 25:331


def problem(launches: Launches, *, zero_is_possible: bool = False) -> tuple[str, str] | None:
    """Why nothing may be computed from ``launches``: a reason code and its sentence, or None.

    ``zero_is_possible`` is for counts: no cached token is a fact, a latency of zero is a broken clock.
    """
    if len(launches) == 0:
        return "no-launches", "no launch was measured"
    if any(len(rounds) == 0 for rounds in launches):
        return "empty-launch", f"launch {_first_empty(launches)} holds no round"
    try:
        values = [float(value) for rounds in launches for value in rounds]
    except (TypeError, ValueError) as error:
        return "not-a-number", f"a sample is not a number ({error})"
    return _bad_value(values, zero_is_possible)


def _first_empty(launches: Launches) -> int:
    return next(index for index, rounds in enumerate(launches) if len(rounds) == 0)


def _bad_value(values: list[float], zero_is_possible: bool) -> tuple[str, str] | None:
    lowest = min(values)
    if not math.isfinite(math.fsum(values)):
        bad = next((value for value in values if not math.isfinite(value)), math.inf)
        return "not-finite", f"a sample is {bad}"
    if lowest < 0 or (lowest == 0 and not zero_is_possible):
        return "not-positive", f"a sample is {lowest:g}"
    return None


def require_usable(launches: Launches, side: str) -> None:
    """Raise `SampleError`, naming ``side``, if no statistic may be computed from ``launches``."""
    found = problem(launches)
    if found:
        raise SampleError(f"{side}: {found[1]}; measure it again or leave the metric out")


def trimmed(rounds: int) -> int:
    """How many rounds are dropped at each end: a fifth, and at least one as soon as there are three."""
    return max(int(TRIMMED_SHARE * rounds), 1 if rounds >= 3 else 0)


def log_centres(launches: Sequence[Sequence[float]]) -> FloatArray:
    """Trimmed mean of the log rounds of each launch; shape (launches,). Launches may differ in length.

    Logarithms, because effects are ratios; trimmed, because one round in a hundred is struck by a
    spike; a mean and no median, because it keeps 90 % of the information in ten clean rounds.
    """
    lengths = np.fromiter((len(rounds) for rounds in launches), dtype=np.intp, count=len(launches))
    centres = np.empty(len(launches))
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        values = np.array([launches[row] for row in rows.tolist()], dtype=np.float64)
        kept = np.sort(np.log(values), axis=1)[:, trimmed(length) : length - trimmed(length)]
        centres[rows] = kept.mean(axis=1)
    return centres
