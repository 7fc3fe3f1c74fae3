"""Early stopping: its error rates over all looks, and the launch pairs it takes, against designs fixed in advance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from rows import POLICY, SEED, STEADY, Row, alarmed, not_above, share
from scenarios import METRICS, NOISE, Run, Scenario, draw

from sglperf.core.sequential import Looks, combine, open_cases
from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family

SERVERS = 3  # configurations that stop on their own, each with a third of the metrics
AFFECTED = "s0m0"


@dataclass(frozen=True)
class Stopped:
    """How one run ended.

    Attributes:
        verdicts: combined over the looks.
        decided: launches at which each case was decided; those that never were are absent.
        made: launches made by each server.
    """

    verdicts: dict[str, Verdict]
    decided: dict[str, int]
    made: list[int]


def servers(scenario: Scenario, family: int, effects: Mapping[int, float]) -> list[Run]:
    """One run: servers draw their launches independently; ``effects`` are those of the first."""
    random = np.random.default_rng((SEED, family))
    own = replace(scenario, metrics=METRICS // SERVERS)
    return [draw(own, random, effects if server == 0 else None) for server in range(SERVERS)]


def cases(runs: list[Run], made: list[int]) -> dict[str, Case]:
    """The family with as many launches of each server as were made; a stored base is complete."""
    return {
        f"s{server}{name}": case
        for server, (run, launches) in enumerate(zip(runs, made, strict=True))
        for name, case in run.cases(launches if run.paired else None, launches).items()
    }


def stop_early(runs: list[Run], looks: Looks, policy: Policy) -> Stopped:
    """Add launches, server by server, while a case of the server is open."""
    found: dict[str, Verdict] = {}
    decided: dict[str, int] = {}
    made = [0] * len(runs)
    running = set(range(len(runs)))
    for count in looks.counts:
        for server in running:
            made[server] = count
        found = combine(found, judge_family(cases(runs, made), looks.policy(policy, count)))
        still = open_cases(found)
        decided |= {name: count for name in found if name not in still and name not in decided}
        running = {server for server in running if any(name.startswith(f"s{server}m") for name in still)}
        if not running:
            break
    return Stopped(found, decided, made)


def errors(families: int) -> Iterator[Row]:
    """Same build: any regressed at any look. Truly ± min_effect: unchanged at any look."""
    for claim, scenario, looks in (
        ("launch spread 2 %, 1…12 pairs", Scenario(base=12, head=12), Looks.planned(1, 12, [None])),
        (
            "drift 3 %, 1…12 pairs",
            replace(NOISE["drift 3 %, order in pairs random"], base=12, head=12),
            Looks.planned(1, 12, [None]),
        ),
        (
            "bimodal launches, 1…12 pairs",
            replace(NOISE["bimodal launches: 30 % are 5 % slower"], base=12, head=12),
            Looks.planned(1, 12, [None]),
        ),
        ("stored 8, 1…8 new", Scenario().stored(8, 8), Looks.planned(1, 8, [8])),
    ):
        alarms = sum(
            alarmed(stop_early(servers(scenario, family, {}), looks, POLICY).verdicts)
            for family in range(families)
        )
        met = not_above(alarms, families, POLICY.alpha)
        yield Row(
            f"early stopping, same build, any regressed: {claim}",
            "≤ 5 %",
            share(alarms, families),
            families,
            met,
        )
    scenario, looks = replace(STEADY, base=12, head=12), Looks.planned(1, 12, [None])
    wrong = sum(
        stop_early(servers(scenario, family, {0: POLICY.min_effect}), looks, POLICY).verdicts[AFFECTED].status
        is Status.UNCHANGED
        for family in range(families)
    )
    yield Row(
        "early stopping, truly + min_effect, 1…12 pairs: wrongly unchanged",
        "≤ 5 %",
        share(wrong, families),
        families,
        not_above(wrong, families, 0.05),
    )


def savings(families: int) -> Iterator[Row]:
    """Launch pairs to the verdict, against the smallest fixed design that reaches it as often."""
    two = replace(POLICY, min_effect=0.02)  # + 3 % where 3 % matters is found at most 97.5 % of the time
    for claim, scenario, effect, looks, policy in (
        ("+5 %, launch spread 2 %", Scenario(), 0.05, Looks.planned(1, 14, [None]), POLICY),
        ("+3 % where 2 % matters, launch spread 1 %", STEADY, 0.03, Looks.planned(1, 9, [None]), two),
        ("no change, launch spread 1 %", STEADY, 0.0, Looks.planned(1, 9, [None]), POLICY),
    ):
        yield saving(claim, scenario, effect, looks, policy, families)


def saving(claim: str, scenario: Scenario, effect: float, looks: Looks, policy: Policy, families: int) -> Row:
    """Mean pairs until the affected metric's verdict, and until its server has no open case."""
    wanted = Status.REGRESSED if effect else Status.UNCHANGED
    longest = looks.most + 2
    full = replace(scenario, base=longest, head=longest)
    reached = pairs = closed = 0
    fixed = np.zeros(longest + 1, dtype=np.int64)
    for family in range(families):
        runs = servers(full, family, {0: effect} if effect else {})
        stopped = stop_early(runs, looks, policy)
        reached += stopped.verdicts[AFFECTED].status is wanted
        pairs += stopped.decided.get(AFFECTED, looks.most)
        closed += stopped.made[0]
        for count in range(3, longest + 1):
            fixed[count] += judge_family(cases(runs, [count] * SERVERS), policy)[AFFECTED].status is wanted
    enough = [count for count in range(3, longest + 1) if fixed[count] >= reached]
    share_of = pairs / families / enough[0] if enough else None
    figure = f"{pairs / families:.1f} pairs at power {100 * reached / families:.1f} %; "
    figure += f"fixed needs {enough[0]}: {100 * share_of:.0f} %" if share_of else f"fixed: not with {longest}"
    figure += f"; its server stops after {closed / families:.1f}"
    met = share_of is None or share_of <= 0.6
    return Row(f"early stopping, {looks.fewest}…{looks.most} pairs: {claim}", "≤ 60 %", figure, families, met)
