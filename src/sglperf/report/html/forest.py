"""Ratios with their intervals, one under another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes

from sglperf.report.html.drawing import (
    BAD,
    BAND,
    GOOD,
    HEAD,
    INK,
    SOFT,
    UNSURE,
    Plot,
    drawing,
    log_ticks,
    plot,
    shorter,
)
from sglperf.report.html.run import Run

MOST = 40
# How far from 1 the end of an interval may lie to have the axis reach it, and a ratio. What lies beyond is drawn at the
# edge, as an arrow.
_EDGE = 4.0
_FARTHEST = 50.0
_LOOKS = {
    "regressed": (BAD, "X"),
    "improved": (GOOD, "P"),
    "unchanged": (INK, "o"),
    "inconclusive": (UNSURE, "s"),
}


@dataclass(frozen=True)
class Line:
    """A ratio and its interval, and what is said of it.

    Attributes:
        low, high: None where there is none, or no such end.
        status: a verdict, whose colour and mark it gets; None for a ratio that is not judged.
    """

    name: str
    ratio: float
    low: float | None
    high: float | None
    status: str | None = None


def forests(run: Run) -> Iterator[Plot]:
    """The comparisons that a verdict rests on, the worst first."""
    names = [name for name in run.ordered if _drawable(run.cases[name])]
    if not names:
        return
    lines = [_line(run.short[name], run.cases[name]) for name in names[:MOST]]
    effect = run.document["settings"]["min_effect"]
    against = run.document["targets"]["base"]["label"] if run.paired else "the baseline"
    left = f" The {MOST} worst of {len(names)}; the table has all." if len(names) > MOST else ""
    yield forest(
        "Ratios with their intervals",
        f"Head over {against}, logarithmic. Lines are the intervals that verdicts rest on, of launches, not of rounds; inside "
        f"the band, ± {effect:.0%}, nothing matters unless a metric sets its own bound.{_server(run)}{left}",
        lines,
        effect,
    )


def _server(run: Run) -> str:
    return f" Servers are {run.common_server}, and what is named." if run.common_server else ""


def _drawable(case: Mapping[str, Any]) -> bool:
    found = case["comparison"]
    exact = case["metric"]["kind"] == "exact"
    return bool(found and found["ratio"]) and not (exact and found["ratio"] == 1)


def _line(name: str, case: Mapping[str, Any]) -> Line:
    found = case["comparison"]
    low, high = (found["low"], found["high"]) if case["metric"]["kind"] != "exact" else (None, None)
    return Line(name, found["ratio"], low, high, case["status"])


def speedups(run: Run) -> Iterator[Plot]:
    """Servers of the run beside one another."""
    key = ("model", "group", "reference", "other")
    contrasts = sorted(run.document.get("contrasts", ()), key=lambda one: [one[name] for name in key])
    for (model, group, reference, other), found in groupby(
        contrasts, key=lambda one: tuple(one[name] for name in key)
    ):
        lines = [Line(f"{one['metric']} · {one['workload']}", *one["speedup"]) for one in found]
        yield forest(
            f"{other} against {reference}",
            f"How many times better {other} is, on {model} ({group}): beyond 1 it is the better one. Launches are paired.",
            [one for one in lines if one.ratio][:MOST],
        )


def forest(title: str, caption: str, lines: Sequence[Line], effect: float | None = None) -> Plot:
    """One under another; with a band of the smallest change that matters, where there is one."""
    with drawing(8.6, 0.9 + 0.24 * len(lines)) as figure:
        axes = figure.add_subplot()
        low, high = _range(lines)
        if effect:
            axes.axvspan(1 / (1 + effect), 1 + effect, color=BAND, linewidth=0)
        axes.axvline(1, color=SOFT, linewidth=1)
        for at, one in enumerate(lines):
            _draw(axes, at, one, low, high)
        log_ticks(axes, "x", low, high, lambda value: f"×{value:.3g}")
        axes.set_xlim(low, high)
        axes.set_yticks(range(len(lines)), [shorter(one.name, 70) for one in lines])
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        return plot(figure, title, caption, wide=True)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    """All ratios and 1, as far as they can be drawn together; of intervals, only what is not far out."""
    ratios = [one.ratio for one in lines]
    ends = [end for one in lines for end in (one.low, one.high) if end and 1 / _EDGE < end < _EDGE]
    low = max(min(*ratios, *ends, 0.95), 1 / _FARTHEST)
    high = min(max(*ratios, *ends, 1.05), _FARTHEST)
    return low / 1.05, high * 1.05


def _draw(axes: Axes, at: int, one: Line, left: float, right: float) -> None:
    colour, mark = _LOOKS.get(one.status or "", (SOFT, "D")) if one.status else (HEAD, "o")
    begin = max(one.low or left, left) if one.low is not None else one.ratio
    end = min(one.high, right) if one.high is not None else (right if one.low is not None else one.ratio)
    axes.plot([begin, end], [at, at], color=colour, linewidth=1.6, solid_capstyle="butt")
    if left < one.ratio < right:
        axes.plot([one.ratio], [at], mark, color=colour, markersize=6)
    else:
        beyond = "<" if one.ratio <= left else ">"
        axes.plot([left if beyond == "<" else right], [at], beyond, color=colour, markersize=7, clip_on=False)
