"""Tensor parallelism: what more GPUs bring."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from sglperf.report.html.drawing import DASHES, MARKS, SERIES, SOFT, Plot, drawing, plot, shorter
from sglperf.report.html.run import Run

MOST_LINES = len(SERIES)
# Where an interval without an end goes: out of the picture.
_BEYOND = 100.0


def efficiencies(run: Run) -> Iterator[Plot]:
    """Scaling efficiency against the size of the set, a line for each workload and class of links."""
    scaled = [one for one in run.document.get("contrasts", ()) if one.get("efficiency")]
    scaled.sort(key=lambda one: (one["model"], one["group"], one["metric"], one["workload"], one["ranks"]))
    for (model, group, metric), of_metric in groupby(
        scaled, key=lambda one: (one["model"], one["group"], one["metric"])
    ):
        with drawing() as figure:
            axes = figure.add_subplot()
            axes.axhline(1, color=SOFT, linewidth=1, linestyle="--")
            lines: dict[str, list[tuple[int, list[float]]]] = {}
            for one in of_metric:
                named = f"{one['workload']}, {one['links']}"
                lines.setdefault(named, []).append((one["ranks"], one["efficiency"]))
            sizes = sorted({ranks for points in lines.values() for ranks, _ in points})
            for at, (named, points) in enumerate(list(lines.items())[:MOST_LINES]):
                spread = (at - (min(len(lines), MOST_LINES) - 1) / 2) * 0.06
                _, colour, mark, dashes = at, SERIES[at], MARKS[at], DASHES[at]
                where = [ranks + spread for ranks, _ in points]
                values = [value for _, (value, *_) in points]
                below = [value - (low or 0) for _, (value, low, _) in points]
                above = [(_BEYOND if high is None else high) - value for _, (value, _, high) in points]
                axes.errorbar(
                    where, values, yerr=[below, above], color=colour, marker=mark, linestyle=dashes, capsize=3, label=shorter(named, 40)
                )  # fmt: skip
            axes.set_xticks(sizes)
            axes.set_xlim(min(sizes) - 0.6, max(sizes) + 0.6)
            axes.set_xlabel("GPUs (or ranks) in the set")
            axes.set_ylim(
                0, max(1.15, *(value for points in lines.values() for _, (value, *_) in points)) * 1.05
            )
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            axes.legend(loc="upper right", fontsize=7)
            left = f" {len(lines) - MOST_LINES} more are in run.json." if len(lines) > MOST_LINES else ""
            yield plot(
                figure,
                f"Scaling efficiency · {metric}",
                f"Speed-up over how many times as many GPUs there are, on {model} ({group}); 100 % is perfect. Lines are the "
                f"intervals of paired launches; one that leaves the picture has no end, for too few launches.{left}",
            )
