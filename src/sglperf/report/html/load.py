"""Many users at once: how many requests decode over time, and which rates were tried in search of saturation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sglperf.report.html.drawing import BASE, HEAD, SOFT, Plot, drawing, legend, log_ticks, plot
from sglperf.report.html.run import Kept, Run, sources

MOST = 6
_LOOKS = {"base": (BASE, "--", "s"), "head": (HEAD, "-", "o")}


def loads(run: Run) -> Iterator[Plot]:
    """A plot for each workload of continuous load, and for each search."""
    batches = [
        (point, mine)
        for point, rounds in run.points.items()
        if (mine := [one for one in rounds if one.batch_sizes])
    ]
    for (config, workload), rounds in batches[:MOST]:
        yield _batch(f"{workload} · {config}", rounds)
    searches = [
        (point, mine)
        for point, rounds in run.points.items()
        if (mine := [one for one in rounds if one.probes])
    ]
    for (config, workload), rounds in searches[:MOST]:
        yield _search(f"{workload} · {config}", rounds)


def _batch(title: str, rounds: Sequence[Kept]) -> Plot:
    with drawing() as figure:
        axes = figure.add_subplot()
        named: set[str] = set()
        for one in rounds:
            colour, dashes, _ = _LOOKS[one.side]
            at = (np.arange(len(one.batch_sizes)) + 0.5) / len(one.batch_sizes)
            label = None if one.side in named else one.side
            axes.plot(
                at, one.batch_sizes, color=colour, linestyle=dashes, alpha=0.7, linewidth=1, label=label
            )
            named.add(one.side)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("of the load's time")
        axes.set_ylabel("requests that decode")
        legend(axes, loc="lower center", ncols=2)
        return plot(figure, title, f"A line for each round: {sources(rounds)}.")


def _search(title: str, rounds: Sequence[Kept]) -> Plot:
    with drawing() as figure:
        axes = figure.add_subplot()
        named: set[str] = set()
        rates = [probe["rate"] for one in rounds for probe in one.probes]
        for one in rounds:
            colour, dashes, mark = _LOOKS[one.side]
            probes = sorted(one.probes, key=lambda probe: probe["rate"])
            axes.plot(
                [probe["rate"] for probe in probes], [probe["share"] for probe in probes], color=colour,
                linestyle=dashes, marker=mark, alpha=0.8, label=None if one.side in named else one.side,
            )  # fmt: skip
            named.add(one.side)
        found = [one.values["saturation_rate"] for one in rounds if "saturation_rate" in one.values]
        for rate in found:
            axes.axvline(rate, color=SOFT, linewidth=0.8, linestyle=":")
        log_ticks(axes, "x", min(rates), max(rates) * 1.01, lambda value: f"{value:.3g}/s")
        axes.set_ylim(0, 1.05)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("requests a second, offered")
        axes.set_ylabel("in time")
        legend(axes, loc="lower left")
        return plot(figure, title, f"A line for each search, a dotted one where it ended: {sources(rounds)}.")
