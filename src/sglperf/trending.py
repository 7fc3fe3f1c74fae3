"""From the history to what is told of each metric's course."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sglperf.core.acceptance import matching
from sglperf.core.catalogue import METRICS
from sglperf.core.history import differences
from sglperf.core.launches import Launches
from sglperf.core.metric import Metric
from sglperf.core.trend import RELEASE, Course, Judged, Point, Step, creeps, judge_all, reference, steps, tell
from sglperf.core.verdict import Policy, Verdict
from sglperf.errors import UsageError
from sglperf.history.database import History, Series


@dataclass(frozen=True)
class _Found:
    """A series cut to what is looked at: its change points, and the points that its last one is judged against."""

    series: Series
    apart: int
    metric: Metric
    steps: tuple[Step, ...]
    release: tuple[int, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        return self.series.points


def trend(
    history: History, patterns: Sequence[str], policy: Policy, *, tag: str = "", most: int = 365
) -> tuple[Course, ...]:
    """What became of every metric that fits.

    Args:
        patterns: of names or their parts; none for all that are judged.
        tag: look only at runs with this tag, beside releases.
        most: how many of a metric's results, counted from the newest.

    Raises:
        UsageError: a pattern fits nothing, or change points cannot be computed here.
        HistoryError: the database cannot be used.
    """
    found = [
        _found(series, apart, policy, most)
        for series, apart in _newest(_tagged(history.series(_names(history, patterns)), tag))
    ]
    contexts = history.contexts(_contexts_of(found))
    release = _judged(history, found, policy, lambda one: one.release)
    overnight = _judged(
        history, found, policy, lambda one: (len(one.points) - 2,) if len(one.points) > 1 else ()
    )
    return tuple(
        _course(one, contexts, release.get(one.series.number), overnight.get(one.series.number))
        for one in found
    )


def _names(history: History, patterns: Sequence[str]) -> list[str]:
    names = [name for name in history.names() if _metric(name) is not None]
    for pattern in patterns:
        if not matching(names, [pattern]):
            raise UsageError(f"{pattern!r} fits none of the {len(names)} metrics that the history has")
    judged = [name for name in names if patterns or METRICS[name.rpartition("/")[2]].judged]
    return list(matching(judged, patterns))


def _metric(name: str) -> Metric | None:
    return METRICS.get(name.rpartition("/")[2])


def _tagged(every: Sequence[Series], tag: str) -> list[Series]:
    """Only runs of this tag and releases, where there is one to look for."""
    kept = []
    for one in every:
        chosen = [i for i, point in enumerate(one.points) if not tag or point.tag in (tag, RELEASE)]
        if chosen:
            kept.append(
                replace(
                    one, points=tuple(one.points[i] for i in chosen), runs=tuple(one.runs[i] for i in chosen)
                )
            )
    return kept


def _newest(every: Sequence[Series]) -> list[tuple[Series, int]]:
    """Of the series of one metric on one machine, the one that goes on, and how many results other work set apart."""
    groups: defaultdict[tuple[str, str], list[Series]] = defaultdict(list)
    for one in every:
        groups[one.machine, one.name].append(one)
    found = []
    for several in groups.values():
        newest = max(several, key=_last)
        found.append((newest, sum(len(one.points) for one in several if one is not newest)))
    return found


def _last(series: Series) -> tuple[str, str]:
    return series.points[-1].recorded, series.points[-1].run


def _found(series: Series, apart: int, policy: Policy, most: int) -> _Found:
    metric = METRICS[series.name.rpartition("/")[2]]
    # A release may be older than what is looked at; it is judged against nevertheless.
    release = reference(series.points)
    begin = max(0, len(series.points) - most)
    values = [point.value for point in series.points[begin:]]
    found = tuple(replace(one, at=one.at + begin) for one in steps(metric, values, policy.min_effect))
    return _Found(series, apart, metric, found, release)


def _contexts_of(found: Sequence[_Found]) -> set[int]:
    return {
        one.points[index].context for one in found for step in one.steps for index in (step.at - 1, step.at)
    }


def _judged(history: History, found: Sequence[_Found], policy: Policy, against: Any) -> dict[int, Verdict]:
    """Series' number → verdict on its last result. What one run measured is judged as one family."""
    wanted: defaultdict[int, list[tuple[_Found, tuple[int, ...]]]] = defaultdict(list)
    pairs: set[tuple[int, int]] = set()
    for one in found:
        base = against(one)
        if base and one.metric.judged:
            wanted[one.series.runs[-1]].append((one, base))
            pairs |= {(one.series.number, one.series.runs[index]) for index in (*base, -1)}
    launches = history.launches(pairs)
    verdicts: dict[int, Verdict] = {}
    for several in wanted.values():
        cases = {str(one.series.number): _case(one, base, launches) for one, base in several}
        verdicts |= {int(number): verdict for number, verdict in judge_all(cases, policy).items()}
    return verdicts


def _case(one: _Found, base: Sequence[int], launches: Mapping[tuple[int, int], Launches]) -> Judged:
    number, runs = one.series.number, one.series.runs
    return Judged(one.metric, launches[number, runs[-1]], [launches[number, runs[index]] for index in base])


def _course(
    one: _Found, contexts: Mapping[int, Any], release: Verdict | None, overnight: Verdict | None
) -> Course:
    points = one.points
    told = tuple(
        tell(
            one.metric, points, step,
            differences(contexts[points[step.at - 1].context], contexts[points[step.at].context]),
        )
        for step in one.steps
    )  # fmt: skip
    return Course(
        machine=one.series.machine,
        area=one.series.area,
        name=one.series.name,
        metric=one.metric,
        points=len(points),
        apart=one.apart,
        first=points[0],
        last=points[-1],
        steps=told,
        against=points[one.release[-1]].build if one.release else None,
        since_release=release,
        overnight=overnight,
        creep=release is not None and creeps(one.metric, release, overnight, one.steps, one.release[-1]),
    )
