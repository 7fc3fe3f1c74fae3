"""Noise learned from launches of one and the same build (A/A): what they differ by, and what that does to verdicts.

Such launches can be called base and head in many ways, and each way shows what the method says when nothing has
changed. Splits overlap, so their share of alarms is a measured rate, not a proof; the proof is in docs/verdicts.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sglperf.core.launches import FloatArray, Launches, log_centres, require_usable
from sglperf.core.metric import Better, Metric
from sglperf.core.statistics import POWER
from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family
from sglperf.errors import SampleError

SPLITS = 400
SPLITS_OF_A_METRIC = 100  # for each size of change that is tried on it
STEP, STEPS = 1.1, 20  # up to six times what the verdicts state
SEED = 20261124
FEWEST = 4
"""Launches below which there is nothing to resample: two against two."""


@dataclass(frozen=True)
class Noise:
    """What launches of one build do to one metric.

    Attributes:
        launch_spread: relative standard deviation of a launch's value; 0.02 is 2 %.
        round_spread: relative standard deviation of the rounds inside a launch.
        false_alarms: share of splits in which the metric was called regressed or improved.
        detectable_effect: change for the worse that is called regressed in four splits of five; inf where no
            size is.
    """

    launch_spread: float
    round_spread: float
    false_alarms: float
    detectable_effect: float


@dataclass(frozen=True)
class Calibration:
    """The noise of a family of timings on one machine.

    Attributes:
        noise: case name → its noise.
        launches: how many it was learned from.
        n_base, n_head: launches on either side of a split.
        splits: how many were judged.
        regressed: share of splits in which any metric of the family was called regressed.
        improved: the same for improved.
        alpha: the rate that each of the two was to stay below.
    """

    noise: Mapping[str, Noise]
    launches: int
    n_base: int
    n_head: int
    splits: int
    regressed: float
    improved: float
    alpha: float


def calibrate(
    samples: Mapping[str, tuple[Metric, Launches]],
    policy: Policy,
    *,
    n_base: int,
    n_head: int,
    splits: int = SPLITS,
    splits_of_a_metric: int = SPLITS_OF_A_METRIC,
    seed: int = SEED,
) -> Calibration:
    """Judge random splits of the same launches as if they were base and head.

    Args:
        samples: case name → metric and rounds; launch i of every case is the same launch. Timings only.
        policy: of the verdicts that the calibration is for.
        n_base, n_head: launches on either side of a split; together no more than there are.
        splits, splits_of_a_metric: judged as they are, and with one metric made worse by a size.

    Raises:
        SampleError: too few launches, or values that no statistic may be computed from.
    """
    launches = min((len(rounds) for _, rounds in samples.values()), default=0)
    if launches < max(FEWEST, n_base + n_head):
        raise SampleError(
            f"{launches} launches with a timing cannot be split into {n_base} and {n_head}: "
            f"measure {max(FEWEST, n_base + n_head)} or more"
        )
    for name, (_, rounds) in samples.items():
        require_usable(rounds, name)
    judged = partial(judged_splits, samples, policy, n_base=n_base, n_head=n_head, seed=seed)
    outcomes = list(judged(splits=splits))
    tried = min(splits, splits_of_a_metric)

    def found(name: str, worse: float) -> float:
        """Share of splits in which a metric is called regressed once its head is made worse."""
        slower = judged(splits=tried, slower={name: 1 + worse})
        return sum(one[name].status is Status.REGRESSED for one in slower) / tried

    return Calibration(
        noise={
            name: _noise(rounds, [one[name] for one in outcomes], partial(found, name))
            for name, (_, rounds) in samples.items()
        },
        launches=launches,
        n_base=n_base,
        n_head=n_head,
        splits=splits,
        regressed=_share(outcomes, Status.REGRESSED),
        improved=_share(outcomes, Status.IMPROVED),
        alpha=policy.alpha,
    )


def judged_splits(
    samples: Mapping[str, tuple[Metric, Launches]],
    policy: Policy,
    *,
    n_base: int,
    n_head: int,
    splits: int,
    seed: int = SEED,
    slower: Mapping[str, float] | None = None,
) -> Iterator[dict[str, Verdict]]:
    """Verdicts on the whole family for one split after the other.

    Args:
        slower: case name → factor by which its head is made worse, to see whether that is found.
    """
    launches = min(len(rounds) for _, rounds in samples.values())
    factors = slower or {}
    for base, head in _splits(launches, n_base, n_head, splits, seed):
        cases = {
            name: Case(
                base=[rounds[index] for index in base],
                head=[_worse(metric, rounds[index], factors.get(name, 1.0)) for index in head],
                metric=metric,
            )
            for name, (metric, rounds) in samples.items()
        }
        yield judge_family(cases, policy)


def _splits(
    launches: int, n_base: int, n_head: int, splits: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    random = np.random.default_rng(seed)
    for _ in range(splits):
        drawn = random.permutation(launches)
        yield drawn[:n_base], drawn[n_base : n_base + n_head]


def _worse(metric: Metric, rounds: Sequence[float], factor: float) -> list[float]:
    return [value / factor if metric.better is Better.HIGHER else value * factor for value in rounds]


def _share(outcomes: list[dict[str, Verdict]], status: Status) -> float:
    return sum(any(verdict.status is status for verdict in one.values()) for one in outcomes) / len(outcomes)


def _noise(rounds: Launches, verdicts: list[Verdict], found: Callable[[float], float]) -> Noise:
    alarms = sum(verdict.status in (Status.REGRESSED, Status.IMPROVED) for verdict in verdicts)
    stated = [math.inf if one.comparison is None else one.comparison.detectable_effect for one in verdicts]
    return Noise(
        launch_spread=float(np.std(log_centres([rounds])[0], ddof=1)),
        round_spread=_within(rounds),
        false_alarms=alarms / len(verdicts),
        detectable_effect=_detectable(float(np.median(stated)), found),
    )


def _detectable(stated: float, found: Callable[[float], float]) -> float:
    """Smallest change on a fine scale that is found at the power, from what the verdicts state upwards.

    Tried out, because a verdict's own figure knows nothing of the relabelling that must confirm an alarm, which costs
    few launches a good part of their power.
    """
    if not math.isfinite(stated):
        return math.inf
    sizes = (stated * STEP**step for step in range(STEPS))
    return next((size for size in sizes if found(size) >= POWER), math.inf)


def _within(rounds: Launches) -> float:
    """Pooled standard deviation of log rounds about their launch's mean; 0 where no launch has two."""
    logs: list[FloatArray] = [np.log(np.asarray(one, dtype=np.float64)) for one in rounds]
    squares = sum(float(np.sum((one - one.mean()) ** 2)) for one in logs)
    degrees = sum(len(one) - 1 for one in logs)
    return float(np.sqrt(squares / degrees)) if degrees else 0.0
