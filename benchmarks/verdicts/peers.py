"""Other tools' rules, each called from its own package: a score for "slower" and the threshold it is held against.

A score is the rule's main continuous setting, solved for: the array is flagged when the score passes the
threshold. So a rule can be read at its nominal setting, and at the setting that gives it a wanted false-alarm
rate. Peers get the two lists they are made for: all rounds of base and of head; benchmatrix, whose unit is a
process, the median of each launch, in pairs.
"""

from __future__ import annotations

import importlib
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

Launches: TypeAlias = Sequence[Sequence[float]]
Score: TypeAlias = Callable[[Launches, Launches], float]
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Peer:
    """A rule of another tool.

    Attributes:
        name: of the tool, with the setting that is turned.
        needs: the module without which there is no row.
        score: of (base, head); higher is slower.
        threshold: the nominal one; flagged at or above it.
        ported: the rule is written down here, because the tool is not a Python package.
    """

    name: str
    needs: str
    score: Score
    threshold: float
    ported: bool = False

    @property
    def missing(self) -> str:
        """Why it cannot be called; empty if it can."""
        try:
            importlib.import_module(self.needs)
        except ImportError as error:
            return str(error)
        return ""


@cache
def _module(name: str) -> Any:
    return importlib.import_module(name)


def _flat(launches: Launches) -> list[float]:
    return [value for rounds in launches for value in rounds]


def asv(base: Launches, head: Launches) -> float:
    """Ratio of medians where asv finds the samples different (Mann–Whitney, p < 0.002); the setting is its factor."""
    left, right = _flat(base), _flat(head)
    compute_stats = _module("asv_runner.statistics").compute_stats
    (before, one), (after, other) = compute_stats(left, 1), compute_stats(right, 1)
    different = _module("asv._stats").is_different(left, right, one, other)
    return float(after / before) if different else 0.0


def pyperf(base: Launches, head: Launches) -> float:
    """pyperf's pooled t score."""
    return -float(_module("pyperf._utils").tscore(_flat(base), _flat(head)))


def mann_whitney(base: Launches, head: Launches) -> float:
    """One minus the p of "head is larger"; half of benchstat's two-sided 5 %."""
    return 1 - float(stats.mannwhitneyu(_flat(head), _flat(base), alternative="greater").pvalue)


def criterion(base: Launches, head: Launches) -> float:
    """criterion.rs: lower end of the bootstrapped 95 % interval of the change, where the bootstrapped t has p < 0.05.

    Ported from its analysis/compare.rs and stats/univariate (mixed resampling for the t distribution). The
    setting is its noise threshold.
    """
    left, right = np.array(_flat(base)), np.array(_flat(head))
    random = np.random.default_rng(0)
    pooled = np.concatenate([left, right])
    mixed = pooled[random.integers(0, len(pooled), (BOOTSTRAPS, len(pooled)))]
    chance = _t(mixed[:, : len(right)], mixed[:, len(right) :])
    p = np.mean(np.abs(chance) >= abs(_t(right[None], left[None])[0]))
    means = [one[random.integers(0, len(one), (BOOTSTRAPS, len(one)))].mean(axis=1) for one in (left, right)]
    return float(np.quantile(means[1] / means[0] - 1, 0.025)) if p < 0.05 else -1.0


def _t(one: Any, other: Any) -> Any:
    error = one.var(axis=1, ddof=1) / one.shape[1] + other.var(axis=1, ddof=1) / other.shape[1]
    return (one.mean(axis=1) - other.mean(axis=1)) / np.sqrt(error)


def nvbench(base: Launches, head: Launches) -> float:
    """Relative gap between the robust intervals [minimum, third quartile]; the setting is clear_gap_relative."""
    robust = _module("cuda.bench.scripts.nvbench_compare_robust")
    robust.load_nvbench_compare_tooling(load_color=False)
    reference, compared = (robust.compute_timing_interval_from_samples(_flat(side)) for side in (base, head))
    return float(robust.compute_frac_diff_interval(reference, compared)[0])


def benchmatrix(base: Launches, head: Launches) -> float:
    """Nearer end, in per cent slower, of the paired BCa interval of the ratio of medians; the setting is its tolerance."""
    left, right = ([statistics.median(rounds) for rounds in side] for side in (base, head))
    interval = _module("benchmatrix.bench_statistics").bootstrap_paired_median_ratio_interval(
        left, right, lower_is_better=True, confidence_level=0.95, resamples=BOOTSTRAPS, random_seed=1
    )
    return -math.inf if interval.high is None else -float(interval.high)


# Otava's result changes with its max_pvalue in steps of its own, so the setting is found on a ladder.
OTAVA_LADDER = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, *(10.0**-power for power in range(4, 31)))


def otava(base: Launches, head: Launches) -> float:
    """- log10 of the smallest max_pvalue at which the series base + head has a change point upwards."""
    series = [*_flat(base), *_flat(head)]
    low, high = 0, len(OTAVA_LADDER)
    while low < high:
        middle = (low + high) // 2
        if _rises(series, OTAVA_LADDER[middle]):
            low = middle + 1
        else:
            high = middle
    return -math.log10(OTAVA_LADDER[low - 1]) if low else -1.0


def _rises(series: list[float], max_pvalue: float) -> bool:
    points, _ = _module("otava.analysis").compute_change_points(
        series, window_len=50, max_pvalue=max_pvalue, min_magnitude=0.0
    )
    return any(point.stats.forward_rel_change() > 0 for point in points)


def pytest_benchmark(base: Launches, head: Launches) -> float:
    """Per cent by which the median rose; the setting is N of ``median:N%``."""
    return (statistics.median(_flat(head)) / statistics.median(_flat(base)) - 1) * 100


PEERS = (
    Peer("asv 'factor'", "asv", asv, 1.1),
    Peer("pyperf 't'", "pyperf", pyperf, 1.98),
    Peer("Mann–Whitney 'p' (benchstat)", "scipy.stats", mann_whitney, 0.975),
    Peer("criterion 'noise threshold' (port)", "numpy", criterion, 0.01, ported=True),
    Peer("NVBench robust 'clear gap'", "cuda.bench.scripts.nvbench_compare_robust", nvbench, 0.005),
    Peer("benchmatrix 'tolerance'", "benchmatrix", benchmatrix, 5.0),
    Peer("Otava 'max p'", "otava", otava, 3.0),
    Peer("pytest-benchmark 'median:N%'", "pytest_benchmark", pytest_benchmark, 5.0),
)
