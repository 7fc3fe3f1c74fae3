"""What a reader must know first: what changed, by how much, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglperf.core.launches import center
from sglperf.report.html.parts import Table, shortened
from sglperf.report.html.run import STATUSES, Run
from sglperf.report.quantity import quantity

MOST = 25
_TO_SAY = ("regressed", "invalid", "incomparable", "improved")
_MOST_CHANGES = 12


@dataclass(frozen=True)
class Said:
    """A status, and the cases of which it is said, with the reason."""

    status: str
    rows: Sequence[tuple[str, str, str]]
    more: int


@dataclass(frozen=True)
class Why:
    """The likeliest cause on one server."""

    title: str
    sentence: str
    found: Sequence[tuple[str, Sequence[str]]]
    tables: Sequence[Table]


def counts(run: Run) -> list[tuple[str, int]]:
    """Status → cases, the worst first."""
    found = Counter(case["status"] for case in run.cases.values())
    return [(status, found[status]) for status in STATUSES if found[status]]


def headline(run: Run) -> str:
    """The run in a sentence; of a shard, which one, and that others are still to be heard."""
    shard = run.document.get("shard")
    if shard is None:
        return _headline(run)
    which = f"Shard {shard['index']} of {shard['of']}"
    return f"{which}, provisionally: {_headline(run)}" if run.cases else f"{which} had nothing to measure"


def _headline(run: Run) -> str:
    found = dict(counts(run))
    whole = len(run.cases)
    metrics = f"{whole} metric{'' if whole == 1 else 's'}"
    if not whole:
        return "Nothing was judged"
    for status, words in (
        ("regressed", "worse"),
        ("invalid", "not measurable"),
        ("incomparable", "not comparable"),
    ):
        if found.get(status):
            return f"{found[status]} of {metrics} {'is' if found[status] == 1 else 'are'} {words}"
    if found.get("new") == whole:
        return f"{metrics}, for the first time: nothing to compare with"
    return f"Nothing is worse in {metrics}" + (
        f"; {found['inconclusive']} could not be told" if found.get("inconclusive") else ""
    )


def said(run: Run) -> Iterator[Said]:
    """The cases to look at, those that share a reason together."""
    for status in _TO_SAY:
        by_reason: dict[str, list[str]] = {}
        for name in run.ordered:
            case = run.cases[name]
            if case["status"] == status:
                by_reason.setdefault(case["sentence"], []).append(name)
        rows = [
            (_named(run, names), _moved(run.cases[names[0]]), reason) for reason, names in by_reason.items()
        ]
        if rows:
            yield Said(status, rows[:MOST], max(len(rows) - MOST, 0))


def _named(run: Run, names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return run.short[names[0]] + more


def _moved(case: Mapping[str, Any]) -> str:
    if not (case["base"] and any(case["base"]) and case["head"] and any(case["head"])):
        return ""
    unit = case["metric"]["unit"]
    return f"{quantity(center(case['base']), unit)} → {quantity(center(case['head']), unit)}"


def whys(run: Run) -> Iterator[Why]:
    """Explanations, with what they were found among."""
    for label, one in run.document.get("explanations", {}).items():
        stages = [
            f"{stage['name']} {quantity(stage['seconds'][0], 's')} → {quantity(stage['seconds'][1], 's')}"
            for stage in one["stages"][:_MOST_CHANGES]
        ]
        found = [
            (title, entries)
            for title, entries in (
                ("server arguments", one["arguments"]),
                ("versions", one["versions"]),
                ("files", one["files"]),
                ("scheduler, in a round", stages),
                ("besides", one.get("notes", ())),
            )
            if entries
        ]
        profiles = [_profile(profile) for profile in one["profiles"]]
        yield Why(" · ".join(filter(None, (label, one["workload"]))), one["sentence"], found, profiles)


def _profile(profile: Mapping[str, Any]) -> Table:
    """Where a step's time went, what changed most first."""
    changes = sorted(profile["changes"], key=lambda one: -abs(_added(one["seconds"])))
    rows = [["all of it", "", "", *_times(profile["steps"])]]
    rows += [[one["name"], *map(_calls, one["calls"]), *_times(one["seconds"])] for one in changes]
    shown, note = shortened(rows, _MOST_CHANGES + 1, "run.json")
    traces = profile["traces"]
    title = f"in a {profile['phase']} step, {traces} trace{'' if traces == 1 else 's'} a side"
    return Table(title, ("part", "calls, base", "calls, head", "base", "head", "change"), shown, note=note)


def _calls(count: float | None) -> str:
    return "" if count is None else f"{count:.4g}"


def _added(seconds: Sequence[float]) -> float:
    return (seconds[1] or 0.0) - (seconds[0] or 0.0)


def _times(seconds: Sequence[float]) -> list[str]:
    added = _added(seconds)
    return [
        *(quantity(one or 0.0, "s") for one in seconds),
        f"{'+' if added > 0 else ''}{quantity(added, 's')}",
    ]
