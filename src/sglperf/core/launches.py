"""Launches × rounds to one figure per launch: what may be computed from, and how rounds are summed up.

The launch is the experimental unit: graph capture, autotuning and memory layout are drawn once per
launch, so its rounds share one draw and only their centre enters the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sglperf.errors import SampleError

Launches: TypeAlias = Sequence[Sequence[float]]
FloatArray: TypeAlias = NDArray[np.float64]

# Rounds count up to this many standard deviations from their launch's median: a psi function of Huber's (1964,
# Ann. Math. Stat. 35:73) in one step, that keeps 99 % of the information in clean normal rounds.
FARTHEST = 2.5
MAD_OF_NORMAL = 0.6745  # median absolute deviation of a standard normal


def center(launches: Launches) -> float:
    """The figure that stands for a side in a table: the median over launches of each launch's median round."""
    return median(median(launch) for launch in launches if len(launch))


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


def log_centres(metrics: Sequence[Launches]) -> FloatArray:
    """Robust mean of the log rounds of each launch, shape (metrics, launches); launches may differ in length.

    Every metric brings all its launches, as many as the others. Logarithms, because effects are ratios;
    robust, because one round in a hundred is struck by a spike; not the median, because that wastes a
    third of clean rounds. How far a round may lie is learned from all launches of its metric together.
    """
    logs = np.sort(_padded(metrics), axis=2)
    lengths = np.isfinite(logs).sum(axis=2, keepdims=True)
    middle = np.concatenate([(lengths - 1) // 2, lengths // 2], axis=2)
    median = np.take_along_axis(logs, middle, axis=2).mean(axis=2, keepdims=True)
    deviations = logs - median
    reach = FARTHEST * _round_spread(np.abs(deviations), lengths)
    clipped = np.clip(deviations, -reach, reach)
    return np.asarray(median[:, :, 0] + np.nansum(clipped, axis=2) / lengths[:, :, 0], dtype=np.float64)


def _padded(metrics: Sequence[Launches]) -> FloatArray:
    """Log rounds, (metrics, launches, most rounds), NaN where a launch has fewer."""
    lengths = {len(rounds) for launches in metrics for rounds in launches}
    if len(lengths) == 1:
        return np.asarray(np.log(np.array(metrics, dtype=np.float64)), dtype=np.float64)
    padded = np.full((len(metrics), len(metrics[0]), max(lengths)), np.nan)
    for metric, launches in enumerate(metrics):
        for launch, rounds in enumerate(launches):
            padded[metric, launch, : len(rounds)] = np.log(rounds)
    return padded


def _round_spread(deviations: FloatArray, lengths: NDArray[np.intp]) -> FloatArray:
    """Standard deviation of a metric's rounds about their launch, (metrics, 1, 1), by the median deviation.

    A launch's median takes one of its deviations away: the smallest is not counted, the others grow.
    """
    rounds = deviations.shape[2]
    counted = np.sort(deviations * np.sqrt(lengths / np.maximum(lengths - 1, 1)), axis=2)[:, :, 1:]
    counted = np.sort(counted.reshape(len(deviations), -1), axis=1)
    many = np.maximum((lengths[:, :, 0] - 1).sum(axis=1), 1)
    if rounds == 1:
        return np.zeros((len(deviations), 1, 1))
    middle = np.stack([(many - 1) // 2, many // 2], axis=1)
    return np.asarray(
        np.take_along_axis(counted, middle, axis=1).mean(axis=1)[:, None, None] / MAD_OF_NORMAL,
        dtype=np.float64,
    )
