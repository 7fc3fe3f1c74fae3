"""The page of a bisection: the commit, how sure that is, and every commit that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sglperf.report.html.drawing import Plot
from sglperf.report.html.forest import Line, forest
from sglperf.report.html.page import render

_LOOKS = {"good": "unchanged", "bad": "regressed", "unknown": "inconclusive"}


def bisection_page(
    found: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, Any] | None],
    names: Mapping[str, str],
    folder: str,
) -> str:
    """HTML of a bisection, one file that asks for no other.

    Args:
        found: ``bisect.json``.
        cases: run below the bisection's folder → what it says of the case that is sought.
        names: commit → how a person knows it.
        folder: the bisection's own name.
    """
    return render(
        "bisection.html.j2",
        title=f"sglperf · {folder}",
        folder=folder,
        found=found,
        headline=_headline(found, names),
        names=names,
        looks=_LOOKS,
        plots=list(_ratios(found, cases)),
    )


def _headline(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if found["culprit"]:
        return f"First bad commit: {names[found['culprit']]}"
    if found["suspects"]:
        return f"One of these {len(found['suspects'])} commits is the first bad one"
    return "The bisection is not finished"


def _ratios(found: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Plot]:
    lines = list(_lines(found["steps"], cases))
    if lines:
        yield forest(
            f"{found['sought']['case']}, each commit over the good end",
            "In the order in which they were measured. Lines are the intervals that each was judged by.",
            lines,
        )


def _lines(
    steps: Sequence[Mapping[str, Any]], cases: Mapping[str, Mapping[str, Any] | None]
) -> Iterator[Line]:
    for number, step in enumerate(steps, 1):
        case = cases.get(step["run"])
        comparison = case["comparison"] if case else None
        if comparison and comparison["ratio"]:
            yield Line(
                f"{number}  {step['commit'][:9]}  {step['side']}",
                comparison["ratio"],
                comparison["low"],
                comparison["high"],
                _LOOKS[step["side"]],
            )
