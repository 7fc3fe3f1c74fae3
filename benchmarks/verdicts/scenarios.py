"""Simulated runs: a family of metrics measured on the same launches, with noise that servers are known to have.

*Correlation.* Metrics of one launch share what was drawn for it. Every random effect (the launch's level, a
round's noise, which mode a launch is in, which round is spiked, which day it is) is drawn through a standard
normal that any two metrics share with correlation ``correlation``: ``√ρ · common + √(1 - ρ) · own``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sglperf.core.metric import Better, Kind, Metric
from sglperf.core.verdict import Case

Array: TypeAlias = NDArray[np.float64]

METRICS = 24
TIME = Metric("time", "s", Better.LOWER, Kind.TIMING, "a simulated time")


@dataclass(frozen=True)
class Scenario:
    """How a run is laid out and what disturbs it. Relative sizes: 0.01 is 1 %.

    Attributes:
        base, head: launches of each side.
        paired: launch i of base and of head run next to each other, in an order drawn at random;
            otherwise base was measured before.
        rounds: per launch; ``(fewest, most)`` draws a number for each launch.
        launch_spread: standard deviation of a launch's level.
        round_spread: standard deviation of a round within its launch.
        unlike: standard deviation of the log of a metric's own factor on both spreads; 0 makes all
            metrics equally noisy.
        drift: growth from the run's first round to its last.
        modes: (share of launches in the slow mode, how much slower it is).
        spikes: (share of rounds, factor on them).
        tails: degrees of freedom of a t law for launches and rounds, of the same scale as the normal
            one; 0 is normal.
        base_days, head_days: standard deviation of a day's level, and "each" launch has a day of its
            own, or "one" day has all launches of the side.
        correlation: between the metrics' noise.
        metrics: in the family.
    """

    base: int = 6
    head: int = 6
    paired: bool = True
    rounds: tuple[int, int] = (10, 10)
    launch_spread: float = 0.02
    round_spread: float = 0.01
    unlike: float = 0.0
    drift: float = 0.0
    modes: tuple[float, float] = (0.0, 0.0)
    spikes: tuple[float, float] = (0.0, 1.0)
    tails: int = 0
    day_spread: float = 0.0
    base_days: str = "each"
    head_days: str = "each"
    correlation: float = 0.5
    metrics: int = METRICS

    def stored(self, base: int | None = None, head: int | None = None) -> Scenario:
        """The same noise, against a stored baseline."""
        return replace(self, paired=False, base=base or self.base, head=head or self.head)


@dataclass(frozen=True)
class Run:
    """Simulated samples: for each metric its launches, each a list of rounds, in seconds."""

    base: list[list[list[float]]]
    head: list[list[list[float]]]
    paired: bool

    def cases(self, base: int | None = None, head: int | None = None) -> dict[str, Case]:
        """The family as it is judged, with all launches of each side or the first few."""
        sides = zip(self.base, self.head, strict=True)
        return {
            f"m{index}": Case(left[:base], right[:head], TIME, paired=self.paired)
            for index, (left, right) in enumerate(sides)
        }


def draw(scenario: Scenario, random: np.random.Generator, effects: Mapping[int, float] | None = None) -> Run:
    """One run; ``effects`` are relative changes of head, by metric."""
    total = scenario.base + scenario.head
    scales = np.exp(scenario.unlike * random.standard_normal(scenario.metrics))[:, None]
    levels = scales * scenario.launch_spread * _noise(scenario, random, total)
    if scenario.modes[0]:
        slow = special.ndtr(_normal(scenario, random, total)) < scenario.modes[0]
        levels = levels + np.log1p(scenario.modes[1]) * slow
    if scenario.day_spread:
        levels = levels + scenario.day_spread * _days(scenario, random)
    most = scenario.rounds[1]
    logs = levels[:, :, None] + (scales * scenario.round_spread)[:, :, None] * _noise(
        scenario, random, total, most
    )
    if scenario.drift:
        logs = logs + np.log1p(scenario.drift) * _moments(scenario, random)[None]
    if scenario.spikes[0]:
        hit = special.ndtr(_normal(scenario, random, total, most)) < scenario.spikes[0]
        logs = logs + np.log(scenario.spikes[1]) * hit
    for metric, effect in (effects or {}).items():
        logs[metric, scenario.base :] += np.log1p(effect)
    values = np.exp(logs).tolist()
    lengths = random.integers(scenario.rounds[0], most, total, endpoint=True).tolist()
    cut = [[rounds[:length] for rounds, length in zip(launches, lengths, strict=True)] for launches in values]
    return Run(
        [launches[: scenario.base] for launches in cut],
        [launches[scenario.base :] for launches in cut],
        scenario.paired,
    )


def _normal(scenario: Scenario, random: np.random.Generator, *shape: int) -> Array:
    """Standard normals, (metrics, *shape), equally correlated between metrics."""
    common = random.standard_normal((1, *shape))
    own = random.standard_normal((scenario.metrics, *shape))
    rho = scenario.correlation
    return np.asarray(np.sqrt(rho) * common + np.sqrt(1 - rho) * own)


def _noise(scenario: Scenario, random: np.random.Generator, *shape: int) -> Array:
    normal = _normal(scenario, random, *shape)
    return np.asarray(special.stdtrit(scenario.tails, special.ndtr(normal))) if scenario.tails else normal


def _days(scenario: Scenario, random: np.random.Generator) -> Array:
    """A day's level for every launch, (metrics, launches)."""
    sides = ((scenario.base, scenario.base_days), (scenario.head, scenario.head_days))
    drawn = [
        np.repeat(_normal(scenario, random, 1), count, axis=1)
        if days == "one"
        else _normal(scenario, random, count)
        for count, days in sides
    ]
    return np.concatenate(drawn, axis=1)


def _moments(scenario: Scenario, random: np.random.Generator) -> Array:
    """When each round ran, from 0 to 1: (launches, rounds)."""
    total, rounds = scenario.base + scenario.head, scenario.rounds[1]
    slots = np.arange(total)
    if scenario.paired:
        pairs = slots[: 2 * scenario.base].reshape(-1, 2)
        pairs = random.permuted(pairs, axis=1)  # who of a pair goes first
        slots = np.concatenate([pairs[:, 0], pairs[:, 1]])
    return np.asarray((slots[:, None] + np.arange(rounds) / rounds) / total, dtype=np.float64)


NOISE: dict[str, Scenario] = {
    "iid: rounds 5 %, no launch effect": Scenario(launch_spread=0.0, round_spread=0.05),
    "launch spread 2 %, rounds 1 %": Scenario(),
    "drift 3 %, order in pairs random": Scenario(drift=0.03),
    "bimodal launches: 30 % are 5 % slower": Scenario(modes=(0.3, 0.05), launch_spread=0.005),
    "1 % of rounds spiked × 10": Scenario(spikes=(0.01, 10.0)),
    "t₃ noise": Scenario(tails=3),
    "unequal counts: 5 to 12 rounds": Scenario(rounds=(5, 12)),
}
