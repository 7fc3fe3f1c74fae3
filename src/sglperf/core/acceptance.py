"""What a run offers to the baselines, what of it is taken, and how two states of a baseline differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sglperf.core.baseline import Baseline, BaselineMetric
from sglperf.core.catalogue import METRICS
from sglperf.core.launches import center
from sglperf.core.verdict import Status

FileKey = tuple[str, str]
"""Fingerprint's id and area: which baseline file."""

OFFERED = frozenset({Status.NEW, Status.IMPROVED})
"""What is taken where nothing else is asked for: neither makes a later verdict more lenient."""


@dataclass(frozen=True)
class Change:
    """One metric in two states of a baseline.

    Attributes:
        file: which baseline file.
        name: ``MODEL/CONFIG/WORKLOAD/METRIC``.
        kind: ``added``, ``removed``, ``replaced``, or ``extended`` by launches of further runs.
        before, after: the figures that stand for either; None where there is none.
        runs_before, runs_after: whose launches they are.
        status: the run's verdict on it; empty for a figure without one, and between two stored states.
    """

    file: FileKey
    name: str
    kind: str
    unit: str
    before: float | None
    after: float | None
    runs_before: tuple[str, ...] = ()
    runs_after: tuple[str, ...] = ()
    status: str = ""

    @property
    def ratio(self) -> float | None:
        """After over before; None where one of them is missing or zero."""
        return self.after / self.before if self.before and self.after else None


def changes(
    before: Mapping[FileKey, Baseline],
    after: Mapping[FileKey, Baseline],
    statuses: Mapping[str, str] | None = None,
) -> tuple[Change, ...]:
    """Every metric that differs between two states, by file and name.

    Args:
        statuses: case name → what is said of it.
    """
    return tuple(
        change
        for key in sorted({*before, *after})
        for change in _changes(key, before.get(key), after.get(key), statuses or {})
    )


def _changes(
    key: FileKey, before: Baseline | None, after: Baseline | None, statuses: Mapping[str, str]
) -> Iterator[Change]:
    old, new = _samples(before), _samples(after)
    for name in sorted({*old, *new}):
        first, second = old.get(name), new.get(name)
        if first != second:
            one = second or first
            assert one is not None
            yield Change(
                key, name, _kind(first, second), one.unit, _figure(first), _figure(second),
                _runs(first), _runs(second), statuses.get(name, ""),
            )  # fmt: skip


def _samples(baseline: Baseline | None) -> dict[str, BaselineMetric]:
    return {} if baseline is None else {name: metric for name, metric, _ in baseline.metrics()}


def _kind(before: BaselineMetric | None, after: BaselineMetric | None) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    kept = all(after.samples.get(run) == launches for run, launches in before.samples.items())
    return "extended" if kept else "replaced"


def _figure(metric: BaselineMetric | None) -> float | None:
    return None if metric is None else center(metric.launches)


def _runs(metric: BaselineMetric | None) -> tuple[str, ...]:
    return () if metric is None else tuple(sorted(metric.samples))


def matching(names: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Names that a pattern fits, as a whole or in one of their parts; all where there is no pattern.

    A pattern may hold ``*`` and ``?``: ``decode-*-s8``, ``tiny-llama/*/inter_token_latency``, ``cached_tokens``.
    """
    if not patterns:
        return tuple(names)
    return tuple(name for name in names if any(_fits(name, pattern) for pattern in patterns))


def _fits(name: str, pattern: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in (name, *name.split("/")))


def chosen(
    offered: Mapping[FileKey, Baseline],
    statuses: Mapping[str, str],
    patterns: Sequence[str],
    accepted: Collection[str] = OFFERED,
) -> set[str]:
    """Names that are to be taken: cases of an accepted status that a pattern fits, and the figures beside them.

    A figure that carries no verdict of its own goes with the cases of its workload, as when it is recorded.
    """
    names = [name for baseline in offered.values() for name, *_ in baseline.metrics()]
    judged = {name for name in matching(names, patterns) if statuses.get(name) in accepted}
    points = {name.rpartition("/")[0] for name in judged}
    return judged | {name for name in names if name.rpartition("/")[0] in points and not _judged(name)}


def _judged(name: str) -> bool:
    metric = METRICS.get(name.rpartition("/")[2])
    return metric is None or metric.judged


def accept(
    stored: Mapping[FileKey, Baseline], offered: Mapping[FileKey, Baseline], names: Collection[str]
) -> dict[FileKey, Baseline]:
    """The files that change, as they are to be: these metrics in the place of what was there."""
    taken = {key: baseline.only(names) for key, baseline in offered.items()}
    return {
        key: baseline if key not in stored else stored[key].merged(baseline)
        for key, baseline in taken.items()
        if baseline.cases
    }


def outdated(baseline: Baseline, patterns: Sequence[str], before: str) -> set[str]:
    """Names of metrics that a pattern fits and that nothing was accepted for since ``before`` (ISO 8601, UTC)."""
    recorded = {name: record.recorded for name, _, record in baseline.metrics()}
    return {name for name in matching(recorded, patterns) if recorded[name] < before}
