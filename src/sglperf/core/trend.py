"""The course of a metric over many runs: where it changed, and whether it crept away from the last release."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sglperf.core.judgement import Evidence, Question, judge
from sglperf.core.launches import Launches
from sglperf.core.metric import Better, Kind, Metric
from sglperf.core.verdict import Policy, Status, Verdict
from sglperf.errors import UsageError

# Otava tests the best of all splits as if it were the only one: at its own default, 0.001, one quiet course of 60
# nights in eighty has a change point; at this, one in four hundred (benchmarks/history/steps.py).
MAX_P_VALUE = 1e-4
WINDOW = 50  # Otava's default: within so many results points are sought
FEWEST_POINTS = 4  # on fewer there is nothing to split
# A step explains what a release differs by if it makes up this share of it, in logs.
EXPLAINED = 0.5


@dataclass(frozen=True)
class Build:
    """Which SGLang."""

    version: str
    commit: str | None = None

    def __str__(self) -> str:
        return self.version if self.commit is None else f"{self.version} at {self.commit[:9]}"


@dataclass(frozen=True)
class Point:
    """One run's result.

    Attributes:
        recorded: ISO 8601, UTC.
        value: in the metric's unit.
        tag: what the run was called: ``release``, ``nightly``, ….
        context: number of its context; equal numbers are equal contexts.
    """

    recorded: str
    run: str
    value: float
    build: Build
    tag: str = ""
    context: int = 0


@dataclass(frozen=True)
class Step:
    """A change point.

    Attributes:
        at: index of the first point after it.
        before, after: means of the points between it and its neighbours; of an exact metric, the values.
        p_value: of a t test between these points; 0 for an exact metric.
    """

    at: int
    before: float
    after: float
    p_value: float

    @property
    def ratio(self) -> float | None:
        """After over before; None where a sign changes or one is zero."""
        return self.after / self.before if self.before * self.after > 0 else None


def worse(metric: Metric, before: float, after: float) -> bool:
    """Whether the change is for the worse; of what should stay the same, any is."""
    if metric.better is Better.SAME:
        return before != after
    return (after < before) if metric.better is Better.HIGHER else (after > before)


def steps(metric: Metric, values: Sequence[float], min_effect: float) -> tuple[Step, ...]:
    """Where the course changed, oldest first.

    An exact metric changes wherever its value does. Timings are Apache Otava's: E-divisive splits (Matteson and
    James 2014), merged by t tests (Fleming et al. 2023, https://doi.org/10.1145/3578244.3583719).

    Args:
        min_effect: smallest relative change of a timing that is told, where the metric names none of its own.

    Raises:
        UsageError: Otava is not installed.
    """
    if metric.kind is Kind.EXACT:
        pairs = enumerate(pairwise(values), start=1)
        return tuple(Step(at, before, after, 0.0) for at, (before, after) in pairs if before != after)
    if len(values) < FEWEST_POINTS or min(values) == max(values):
        return ()
    effect = min_effect if metric.min_effect is None else metric.min_effect
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # points without any spread: p is zero or not a number
        found, _ = _otava().compute_change_points(
            list(values),
            window_len=WINDOW,
            max_pvalue=MAX_P_VALUE,
            min_magnitude=0.0 if metric.signed else effect,
        )
    return tuple(
        Step(
            int(one.index), float(one.stats.mean_1), float(one.stats.mean_2),
            0.0 if math.isnan(one.stats.pvalue) else float(one.stats.pvalue),
        )
        for one in found
    )  # fmt: skip


def _otava() -> Any:
    try:
        from otava import analysis
    except ImportError as error:
        raise UsageError(
            "the trend of timings needs Apache Otava, which pins NumPy: pip install 'sglperf[trend]', or "
            "tox exec -e trend -- sglperf trend"
        ) from error
    return analysis


RELEASE = "release"
"""Tag of the runs that later ones are judged against."""


def reference(points: Sequence[Point]) -> tuple[int, ...]:
    """Indices of the results that the last point is judged against: all that are tagged as the last release's.

    A point that is a release itself is judged against the release before it. Empty where there is none.
    """
    if not points:
        return ()
    last = points[-1]
    tagged = [
        index
        for index, point in enumerate(points[:-1])
        if point.tag == RELEASE and not (last.tag == RELEASE and point.build == last.build)
    ]
    return tuple(index for index in tagged if points[index].build == points[tagged[-1]].build)


@dataclass(frozen=True)
class Judged:
    """Samples of a series' last result, and those of what it is judged against."""

    metric: Metric
    head: Launches
    base: Sequence[Launches]


def judge_all(cases: Mapping[str, Judged], policy: Policy) -> dict[str, Verdict]:
    """Judge results of one run as a family, each against runs that are kept, by the suite's own rule."""
    return judge(
        {
            name: Question(
                case.metric,
                Evidence(case.head),
                Evidence(
                    tuple(launch for run in case.base for launch in run),
                    unit=case.metric.unit,
                    runs=tuple(len(run) for run in case.base),
                ),
            )
            for name, case in cases.items()
        },
        policy,
    )


def creeps(
    metric: Metric, since_release: Verdict, overnight: Verdict | None, found: Sequence[Step], release: int
) -> bool:
    """Whether it became worse than the last release and no single moment shows it.

    Args:
        since_release: on the last result against the release's.
        overnight: on the last result against the one before it.
        found: change points of the whole course.
        release: index of the release's last result.
    """
    figures = since_release.comparison
    if metric.kind is Kind.EXACT or since_release.status is not Status.REGRESSED or figures is None:
        return False
    if overnight is not None and overnight.status is Status.REGRESSED:
        return False
    total = abs(math.log(figures.ratio))
    ratios = [one.ratio for one in found if one.at > release and worse(metric, one.before, one.after)]
    return all(ratio is None or abs(math.log(ratio)) < EXPLAINED * total for ratio in ratios)


@dataclass(frozen=True)
class Told:
    """A change point, with what else changed at that moment.

    Attributes:
        before, after: the last run before it and the first one after.
        worse: whether it is for the worse.
        builds: ``0.5.22 → 0.5.23``; empty where the build is the same.
        differences: of versions, resolved arguments and machine, as ``name before → after``.
    """

    step: Step
    before: Point
    after: Point
    worse: bool
    builds: str
    differences: tuple[str, ...]

    @property
    def commits(self) -> tuple[str, str] | None:
        """The range in which the commit is, where both builds are commits of their own."""
        first, last = self.before.build.commit, self.after.build.commit
        return (first, last) if first and last and first != last else None


@dataclass(frozen=True)
class Course:
    """One metric's course.

    Attributes:
        points: how many.
        apart: how many more there are of other work, which nothing is compared with.
        first, last: the oldest result and the newest.
        steps: oldest first.
        against: what the last result is judged against; None where no release is tagged.
        since_release: the verdict on that.
        overnight: the verdict on the last result against the one before it.
        creep: whether it crept away from the release.
    """

    machine: str
    area: str
    name: str
    metric: Metric
    points: int
    apart: int
    first: Point
    last: Point
    steps: tuple[Told, ...]
    against: Build | None = None
    since_release: Verdict | None = None
    overnight: Verdict | None = None
    creep: bool = False

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to tell."""
        changed = self.since_release is not None and self.since_release.status in (
            Status.REGRESSED,
            Status.IMPROVED,
        )
        return not self.steps and not changed


def tell(metric: Metric, points: Sequence[Point], step: Step, differences: Sequence[str]) -> Told:
    """A change point beside its two neighbours."""
    before, after = points[step.at - 1], points[step.at]
    builds = "" if before.build == after.build else f"{before.build} → {after.build}"
    return Told(step, before, after, worse(metric, step.before, step.after), builds, tuple(differences))
