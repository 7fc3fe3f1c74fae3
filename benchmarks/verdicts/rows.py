"""What the table shows of the verdicts themselves: false alarms, power, equivalence, degenerate runs, speed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import holm
import numpy as np
from scenarios import METRICS, NOISE, TIME, Scenario, draw

from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family

POLICY = Policy()
STEADY = Scenario(launch_spread=0.01)  # launch spread 1 %, rounds 1 %
SEED = 20251124
AFFECTED = "m0"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        claim: the property.
        target: what it should be; empty for a figure that is only shown.
        figure: what it is.
        families: simulated.
        met: whether the target is met; None without one.
    """

    claim: str
    target: str
    figure: str
    families: int
    met: bool | None = None


def share(hits: int, of: int) -> str:
    """A rate in per cent with its standard error."""
    rate = hits / of
    return f"{100 * rate:.1f} ± {100 * math.sqrt(rate * (1 - rate) / of):.1f} %"


def not_above(hits: int, of: int, limit: float) -> bool:
    """Whether ``hits`` are compatible with a rate of at most ``limit``: not more than two standard errors above."""
    return hits / of <= limit + 2 * math.sqrt(limit * (1 - limit) / of)


def verdicts(
    scenario: Scenario, families: int, effects: Mapping[int, float] | None = None, policy: Policy = POLICY
) -> Iterator[dict[str, Verdict]]:
    """Verdicts on that many simulated runs; the same number gives the same run in every row."""
    for family in range(families):
        run = draw(scenario, np.random.default_rng((SEED, family)), effects)
        yield judge_family(run.cases(), policy)


def alarmed(found: Mapping[str, Verdict]) -> bool:
    """Whether any metric of the family is called regressed."""
    return any(verdict.status is Status.REGRESSED for verdict in found.values())


def false_alarm(claim: str, scenario: Scenario, families: int, target: bool = True) -> Row:
    """Families of one build with any ``regressed``."""
    alarms = sum(alarmed(found) for found in verdicts(scenario, families))
    met = not_above(alarms, families, POLICY.alpha) if target else None
    return Row(claim, "≤ 5 %" if target else "", share(alarms, families), families, met)


def false_alarms(families: int) -> Iterator[Row]:
    """Every kind of noise, both designs, three correlations."""
    for name, scenario in NOISE.items():
        yield false_alarm(f"same build, any regressed: {name}; 6 pairs", scenario, families)
        if not scenario.drift:  # a stored baseline is not interleaved: nothing can tell drift from a change
            yield false_alarm("– stored baseline of 8 launches, 4 new", scenario.stored(8, 4), families)
    for rho in (0.0, 0.9):
        for name in list(NOISE)[:2]:
            scenario = replace(NOISE[name], correlation=rho)
            yield false_alarm(f"same build: {name}, ρ = {rho:g}; 6 pairs", scenario, families)
    three = replace(Scenario(), base=3, head=3)
    yield false_alarm("same build: launch spread 2 %; 3 pairs", three, families)
    bimodal = next(scenario for scenario in NOISE.values() if scenario.modes[0])
    few = replace(bimodal, base=3, head=3)
    yield false_alarm("same build: bimodal launches, 3 pairs only", few, families, target=False)


def stored_days(families: int) -> Iterator[Row]:
    """Baselines whose launches carry a day's level, and a single new launch."""
    days = replace(Scenario(launch_spread=0.01).stored(8, 4), day_spread=0.01)
    yield false_alarm(
        "same build, stored 8, new 4, every launch on a day of its own, days ± 1 %", days, families
    )
    single = days.stored(8, 1)
    yield false_alarm("– a single new launch, baseline over 8 days", single, families)
    same = replace(days, head_days="one")
    yield false_alarm("– 4 new launches of one day, baseline over 8 days", same, families, target=False)
    apart = replace(same, base_days="one")
    yield false_alarm("– baseline of one day, new launches of another", apart, families, target=False)
    yield false_alarm(
        "same build, a single new launch, 8 stored, spread 2 %", Scenario().stored(8, 1), families
    )
    outlier = replace(Scenario(), modes=(0.1, 0.3)).stored(8, 1)
    yield false_alarm("– one launch in ten 30 % slower", outlier, families, target=False)
    for spread in (0.005, 0.05):
        scenario = Scenario(launch_spread=spread).stored(8, 1)
        found = [one[AFFECTED] for one in verdicts(scenario, families, {0: 0.10})]
        called = sum(verdict.status is Status.REGRESSED for verdict in found)
        asks = sum(verdict.code == "needs-launches" for verdict in found)
        figure = f"{share(called, families)} called, {share(asks, families)} ask for launches"
        yield Row(f"+10 %, a single new launch, 8 stored, spread {100 * spread:g} %", "", figure, families)


def power(families: int) -> Iterator[Row]:
    """One metric of the family slower, beside a moderated t under Holm on the same arrays."""
    eight = replace(Scenario(), base=8, head=8)
    for claim, scenario, effect in (
        ("+3 %, 6 pairs × 10 rounds, launch spread 1 %", STEADY, 0.03),
        ("+5 %, 8 pairs, launch spread 2 %", eight, 0.05),
    ):
        ours = theirs = 0
        for family in range(families):
            cases = draw(scenario, np.random.default_rng((SEED, family)), {0: effect}).cases()
            ours += judge_family(cases, POLICY)[AFFECTED].status is Status.REGRESSED
            theirs += AFFECTED in holm.regressed(cases)
        figure = f"{share(ours, families)} (moderated t under Holm {share(theirs, families)})"
        yield Row(f"power in a family of 24: {claim}", "≥ 95 %", figure, families, ours >= 0.95 * families)


def equivalence(families: int) -> Iterator[Row]:
    """``unchanged`` where nothing changed, and where exactly the smallest effect that matters did."""
    for claim, scenario in (("6 pairs", STEADY), ("stored 8, new 6", STEADY.stored(8, 6))):
        found = [one[AFFECTED] for one in verdicts(scenario, families)]
        right = sum(verdict.status is Status.UNCHANGED for verdict in found)
        yield Row(f"no change, launch spread 1 %, {claim}: unchanged", "", share(right, families), families)
        edges = (POLICY.min_effect, 1 / (1 + POLICY.min_effect) - 1)
        wrong = [
            sum(one[AFFECTED].status is Status.UNCHANGED for one in verdicts(scenario, families, {0: effect}))
            for effect in edges
        ]
        figure = f"up {share(wrong[0], families)}, down {share(wrong[1], families)}"
        met = all(not_above(count, families, 0.05) for count in wrong)
        yield Row("– truly ± min_effect: wrongly unchanged", "≤ 5 %", figure, families, met)


def degenerate(_: int) -> Iterator[Row]:
    """Zero variance, and too few launches."""
    still = [[1.0] * 10] * 6
    slower = [[1.05] * 10] * 6
    for claim, base, head, paired, target in (
        ("zero variance, same values", still, still, True, "unchanged"),
        ("zero variance, +5 %", still, slower, True, "regressed"),
        ("one launch a side, +5 %", still[:1], slower[:1], False, "inconclusive"),
        ("one launch pair, +5 %", still[:1], slower[:1], True, "inconclusive"),
    ):
        verdict = judge_family({"it": Case(base, head, TIME, paired=paired)}, POLICY)["it"]
        met = verdict.status == target
        yield Row(claim, target, f"{verdict.status}: {verdict.code}", 1, met)


def speed(comparisons: int) -> Iterator[Row]:
    """One large family through `judge_family`, as a run would."""
    cases = draw(replace(STEADY, metrics=comparisons), np.random.default_rng(SEED)).cases()
    judge_family(draw(STEADY, np.random.default_rng(SEED)).cases(), POLICY)  # tables that are kept are filled
    begin = time.process_time()
    judge_family(cases, POLICY)
    seconds = time.process_time() - begin
    claim = f"{comparisons:,} comparisons of 6 pairs × 10 rounds, CPU time"
    yield Row(claim, "≤ 2 s", f"{seconds:.2f} s", 1, seconds <= 2)


__all__ = ["AFFECTED", "METRICS", "POLICY", "SEED", "STEADY", "Row", "alarmed", "not_above", "share"]
