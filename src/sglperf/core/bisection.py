"""Is this commit good or bad? Decided against the good one, by the case that told the two ends apart best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Cases = Mapping[str, Mapping[str, Any]]
"""``cases`` of a run's document."""


class Side(StrEnum):
    """What is said of a commit."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"  # it could not be measured, or not well enough


@dataclass(frozen=True)
class Symptom:
    """What is worse at the bad end.

    Attributes:
        case: the one that tells the ends apart best, by name.
        effect: by which factor it is worse; None for an exact metric, where any change counts.
        sentence: its verdict.
        others: cases that are worse there too.
    """

    case: str
    effect: float | None
    sentence: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What is said of a commit, and why."""

    side: Side
    sentence: str


def symptom(cases: Cases) -> Symptom | None:
    """What regressed between the ends; an exact metric first, else the timing furthest beyond its noise."""
    worse = [name for name, case in cases.items() if case["status"] == "regressed"]
    if not worse:
        return None
    case = max(worse, key=lambda name: _clearness(cases[name]))
    others = tuple(name for name in worse if name != case)
    return Symptom(case, _effect(cases[case]), cases[case]["sentence"], others)


def _clearness(case: Mapping[str, Any]) -> float:
    """Size of the change over the smallest one that could have been seen."""
    figures = case.get("comparison")
    if case["metric"]["kind"] == "exact" or figures is None:
        return math.inf
    seen = figures["detectable_effect"]
    return abs(math.log(figures["ratio"])) / math.log1p(seen) if seen else math.inf


def _effect(case: Mapping[str, Any]) -> float | None:
    figures = case.get("comparison")
    if case["metric"]["kind"] == "exact" or figures is None:
        return None
    return _worse(figures, figures["ratio"])


def _worse(figures: Mapping[str, Any], ratio: float) -> float:
    """A ratio of head to base as the factor by which head is worse."""
    return float(ratio if figures["lower_is_better"] else 1 / ratio)


def judge_commit(cases: Cases, sought: Symptom) -> Judged:
    """Bad where the symptom's case regressed; good where its interval excludes the ends' effect.

    An interval that holds both no change and that effect says nothing.
    """
    case = cases.get(sought.case)
    if case is None:
        return Judged(Side.UNKNOWN, f"{sought.case} was not measured")
    if case["status"] == "regressed":
        return Judged(Side.BAD, case["sentence"])
    figures = case.get("comparison")
    if case["status"] in ("invalid", "incomparable", "new"):
        return Judged(Side.UNKNOWN, f"{case['status']}: {case['sentence']}")
    if sought.effect is None or figures is None:
        return Judged(Side.GOOD, case["sentence"])
    return _excluded(case, figures, sought.effect)


def _excluded(case: Mapping[str, Any], figures: Mapping[str, Any], effect: float) -> Judged:
    # JSON has no infinity: an interval without an end is null there.
    end = figures["high"] if figures["lower_is_better"] else figures["low"]
    worst = math.inf if end in (None, 0) else _worse(figures, end)
    if worst < effect:
        return Judged(Side.GOOD, case["sentence"])
    return Judged(Side.UNKNOWN, f"cannot be told from {effect - 1:.1%} worse: {case['sentence']}")


def judge_alone(cases: Cases, effect: float) -> Judged:
    """One commit without known ends: bad where anything regressed, good where all exclude that effect.

    Args:
        effect: factor by which the bad ones are worse, at least.
    """
    worse = [name for name, case in cases.items() if case["status"] == "regressed"]
    if worse:
        return Judged(Side.BAD, f"{worse[0]}: {cases[worse[0]]['sentence']}")
    return next(_untold(cases, effect), Judged(Side.GOOD, "nothing regressed"))


def _untold(cases: Cases, effect: float) -> Iterator[Judged]:
    for name, case in cases.items():
        exact = case["metric"]["kind"] == "exact"
        judged = judge_commit(cases, Symptom(name, None if exact else effect, ""))
        if judged.side is Side.UNKNOWN:
            yield Judged(Side.UNKNOWN, f"{name}: {judged.sentence}")
