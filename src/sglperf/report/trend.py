"""The courses of metrics, for a person and for a machine. Returns text and plain values; callers write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sglperf.core.trend import Course, Told
from sglperf.core.verdict import Status, Verdict
from sglperf.report.quantity import quantity
from sglperf.report.sheet import WIDTH, Part, sheet

if TYPE_CHECKING:
    from sglperf.history.database import Kept, ShardKept

_MOST = 12  # differences that are listed at a change point


def trend_text(courses: Sequence[Course], *, every: bool, colour: bool) -> str:
    """Each metric of which there is something to tell, then how many there are.

    Args:
        every: also those of which there is nothing.
    """
    return sheet(_parts(courses, every), width=WIDTH, colour=colour) + "\n"


def _parts(courses: Sequence[Course], every: bool) -> Iterator[Part]:
    told = [course for course in courses if every or not course.quiet]
    machine = None
    for course in told:
        if course.machine != machine:
            machine = course.machine
            yield Text(machine, "bold")
        yield from _course(course)
    if told:
        yield ""
    yield _summary(courses)


def _course(course: Course) -> Iterator[Part]:
    yield f"{course.area} · {course.name.replace('/', ' · ')}"
    days = f"{course.first.recorded[:10]} … {course.last.recorded[:10]}"
    yield f"  {course.points} results, {days}; the last {quantity(course.last.value, course.metric.unit)}"
    if course.apart:
        yield f"  {course.apart} more are of other work and not compared with"
    for one in course.steps:
        yield Text(f"  {_step(course, one)}", "red" if one.worse else "green")
        yield f"    between {one.before.run} and {one.after.run}: {_cause(one)}"
        if one.commits is not None:
            first, last = one.commits
            yield f"    the commit: sglperf bisect {first[:9]} {last[:9]} --sglang-repo=…"
    if course.since_release is not None:
        yield f"  against release {course.against}: {_verdict(course.since_release)}"
    if course.creep:
        before = "" if course.overnight is None else f"; against the run before: {_verdict(course.overnight)}"
        yield Text(f"  slow creep: no single moment shows it{before}", "bold red")


def _step(course: Course, one: Told) -> str:
    unit = course.metric.unit
    ratio = "" if one.step.ratio is None else f"×{one.step.ratio:.3f} "
    chance = "" if one.step.p_value == 0 else f", p {one.step.p_value:.0e}"
    way = "worse" if one.worse else "better"
    return (
        f"{one.after.recorded[:10]} {way}: {ratio}{quantity(one.step.before, unit)} → "
        f"{quantity(one.step.after, unit)}{chance}"
    )


def _cause(one: Told) -> str:
    listed = [*([f"SGLang {one.builds}"] if one.builds else []), *one.differences[:_MOST]]
    more = len(one.differences) - _MOST
    return "; ".join([*listed, *([f"{more} more"] if more > 0 else [])]) or "nothing that is recorded changed"


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.status.value}, {verdict.sentence}"


def _summary(courses: Sequence[Course]) -> str:
    if not courses:
        return "no results"
    counts = Counter(
        course.since_release.status.value for course in courses if course.since_release is not None
    )
    judged = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    steps = sum(len(course.steps) for course in courses)
    creeping = sum(course.creep for course in courses)
    against = (
        f"against the last release: {judged}"
        if counts
        else "no release to judge against: sglperf history tag RUN release"
    )
    return f"metrics: {len(courses)}, change points: {steps}, creeping: {creeping}; {against}"


def regressed(courses: Sequence[Course]) -> bool:
    """Whether a last result is worse than the last release's."""
    return any(
        course.since_release is not None and course.since_release.status is Status.REGRESSED
        for course in courses
    )


def trend_json(courses: Sequence[Course]) -> dict[str, Any]:
    """The same as plain values, all metrics of it."""
    return {"metrics": [_course_json(course) for course in courses], "regressed": regressed(courses)}


def _course_json(course: Course) -> dict[str, Any]:
    return {
        "machine": course.machine,
        "area": course.area,
        "name": course.name,
        "unit": course.metric.unit,
        "results": course.points,
        "apart": course.apart,
        "first": asdict(course.first),
        "last": asdict(course.last),
        "change_points": [
            {
                "recorded": one.after.recorded,
                "worse": one.worse,
                "ratio": one.step.ratio,
                "before": one.step.before,
                "after": one.step.after,
                "p_value": one.step.p_value,
                "runs": [one.before.run, one.after.run],
                "builds": [asdict(one.before.build), asdict(one.after.build)],
                "commits": one.commits,
                "differences": one.differences,
            }
            for one in course.steps
        ],
        "release": None if course.against is None else asdict(course.against),
        "since_release": _verdict_json(course.since_release),
        "overnight": _verdict_json(course.overnight),
        "creep": course.creep,
    }


def _verdict_json(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else asdict(verdict)


def runs_text(runs: Sequence[Kept], place: str) -> str:
    """A line for each run."""
    lines = [
        f"{one.name:<24} {one.recorded[:10]} {one.tag or '–':<10} {one.results:>6} results  {one.label}"
        f"{'  two builds' if one.compared else ''}"
        for one in runs
    ]
    return "\n".join([*(lines or ["no runs"]), f"in {place}", ""])


def runs_json(runs: Sequence[Kept]) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [asdict(one) for one in runs]


def shards_text(shards: Sequence[ShardKept], place: str) -> str:
    """A line for each shard that waits."""
    lines = [f"{one.split:<40} {one.number} of {one.of}  {one.recorded}  {one.run}" for one in shards]
    return "\n".join([*(lines or ["no shards wait"]), f"in {place}", ""])


def shards_json(shards: Sequence[ShardKept]) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [
        {"split": one.split, "shard": one.number, "of": one.of, "plan": one.plan, "run": one.run, "recorded": one.recorded}
        for one in shards
    ]  # fmt: skip
