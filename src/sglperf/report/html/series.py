"""Rounds in the order of their launches: what an interval is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from sglperf.report.html.drawing import BASE, HEAD, Plot, drawing, in_unit, legend, plot
from sglperf.report.html.run import Run

MOST = 12


def series(run: Run) -> Iterator[Plot]:
    """The worst cases, and where nothing is bad, one of each metric."""
    for name in _worth_showing(run):
        case = run.cases[name]
        with drawing() as figure:
            axes = figure.add_subplot()
            alone = not case["base"]
            _draw(axes, case["base"], "base", -0.19)
            _draw(axes, case["head"], "head", 0.0 if alone else 0.19)
            axes.yaxis.set_major_formatter(in_unit(case["metric"]["unit"]))
            most = max(len(case["head"]), len(case["base"] or ()))
            axes.set_xticks(range(most), [str(launch) for launch in range(most)] if most <= 24 else None)
            axes.set_xlabel("launch")
            axes.set_xlim(-0.5, most - 0.5)
            axes.grid(visible=False, axis="x")
            axes.margins(y=0.15)
            if not alone:
                legend(axes, ncols=2, loc="upper left", bbox_to_anchor=(0, 1.14))
            yield plot(
                figure,
                run.short[name],
                f"{case['status']}. Each mark is a round, each bar its launch's median. {_base(case, run.paired)}",
            )


def _base(case: Mapping[str, Any], paired: bool) -> str:
    if case["base"] is None:
        return "There is nothing to compare with."
    return "Launch n of either build ran beside the other's." if paired else "Base: launches of the baseline."


def _worth_showing(run: Run) -> list[str]:
    timed = [
        name
        for name in run.ordered
        if run.cases[name]["metric"]["kind"] == "timing" and any(run.cases[name]["head"])
    ]
    changed = [name for name in timed if run.cases[name]["status"] in ("regressed", "improved")]
    seen: set[str] = set()
    for name in timed:
        metric = run.cases[name]["metric"]["name"]
        if metric not in seen and name not in changed:
            changed.append(name)
        seen.add(metric)
    return changed[:MOST]


def _draw(axes: Axes, launches: Sequence[Sequence[float]] | None, side: str, shift: float) -> None:
    if not launches:
        return
    colour, mark = (BASE, "s") if side == "base" else (HEAD, "o")
    label: str | None = side
    for at, rounds in enumerate(launches):
        if not rounds:
            continue
        middle = at + shift
        spread = np.linspace(-0.12, 0.12, len(rounds)) if len(rounds) > 1 else np.zeros(1)
        axes.plot(
            middle + spread, rounds, mark, color=colour, markersize=3.4, alpha=0.75, markeredgewidth=0,
            label=label,
        )  # fmt: skip
        label = None
        axes.plot([middle - 0.16, middle + 0.16], [np.median(rounds)] * 2, color=colour, linewidth=2)
