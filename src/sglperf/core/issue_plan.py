"""From judged cases, and the issues that are open, to what is to be done: at most one issue for each area.

An issue remembers which cases it is about. It is closed only once each of them was shown to be fine again: a case that
was not measured, or too noisy to be judged, says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sglperf.core.verdict import Status

_FINE = (Status.UNCHANGED, Status.IMPROVED)


@dataclass(frozen=True, order=True)
class Told:
    """What the newest run of a profile says of one case.

    Attributes:
        case: ``MODEL/CONFIG/WORKLOAD/METRIC``.
    """

    area: str
    profile: str
    case: str
    status: Status

    @property
    def key(self) -> str:
        """Eight hex digits that stand for profile and case: an issue that names hundreds must stay short."""
        return hashlib.sha256(f"{self.profile} {self.case}".encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Tracked:
    """An open issue of ours.

    Attributes:
        keys: the cases that it is about, as `Told.key`.
        whole: whether these are all; otherwise nobody can tell when all are fine.
    """

    number: int
    area: str
    keys: frozenset[str]
    whole: bool = True


class Action(StrEnum):
    """What is done with an issue."""

    OPEN = "open"
    UPDATE = "update"
    CLOSE = "close"


@dataclass(frozen=True)
class Step:
    """What is to be done about an area.

    Attributes:
        number: of the issue; None where it is to be opened.
        judged: how many cases of the area were looked at.
        regressed: what is regressed now.
        came: of these, what the issue did not know.
        went: what it knew and is fine again.
        waiting: keys of what it knew and of which the runs say neither.
        whole: whether what it will remember are all.
    """

    action: Action
    area: str
    number: int | None
    judged: int
    regressed: tuple[Told, ...]
    came: tuple[Told, ...]
    went: tuple[Told, ...] = ()
    waiting: frozenset[str] = frozenset()
    whole: bool = True

    @property
    def keys(self) -> frozenset[str]:
        """What the issue is about from now on."""
        return self.waiting | {one.key for one in self.regressed}


def plan_issues(told: Iterable[Told], tracked: Iterable[Tracked]) -> tuple[Step, ...]:
    """One step for each area of which there is something to say, by name.

    Args:
        told: each case of each profile once.
        tracked: of two issues of one area the older one is kept up, the other left alone.
    """
    areas: dict[str, list[Told]] = {}
    for one in told:
        areas.setdefault(one.area, []).append(one)
    issues = {one.area: one for one in sorted(tracked, key=lambda one: one.number, reverse=True)}
    steps = (_step(area, sorted(areas[area]), issues.get(area)) for area in sorted(areas))
    return tuple(step for step in steps if step is not None)


def _step(area: str, told: Sequence[Told], issue: Tracked | None) -> Step | None:
    regressed = tuple(one for one in told if one.status is Status.REGRESSED)
    if issue is None:
        return Step(Action.OPEN, area, None, len(told), regressed, came=regressed) if regressed else None
    went = tuple(one for one in told if one.key in issue.keys and one.status in _FINE)
    waiting = issue.keys - {one.key for one in (*regressed, *went)}
    came = tuple(one for one in regressed if one.key not in issue.keys)
    known = issue.whole and bool(issue.keys)
    done = known and not regressed and not waiting
    return Step(
        Action.CLOSE if done else Action.UPDATE,
        area,
        issue.number,
        len(told),
        regressed,
        came,
        went,
        waiting,
        whole=known,
    )
