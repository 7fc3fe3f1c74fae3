"""A request's life, phase after phase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from matplotlib.ticker import MaxNLocator

from sglperf.core.timeline import PHASES
from sglperf.report.html.drawing import INK, SERIES, Plot, drawing, in_unit, plot
from sglperf.report.html.run import Kept, Run, sources
from sglperf.report.quantity import quantity

MOST = 4
MEANING = "; ".join(f"{name}: {what}" for name, what in PHASES.items()) + "."
_SIDES = ("base", "head")


def timelines(run: Run) -> Iterator[Plot]:
    """Of each workload whose phases are known; medians over rounds."""
    names = {f"phase_{name}" for name in PHASES}
    asked = {
        (case["config"], case["workload"])
        for case in run.cases.values()
        if case["metric"]["name"].startswith("phase_")
    }
    shown = [
        (point, [one for one in rounds if names <= one.values.keys()]) for point, rounds in run.points.items()
    ]
    # Where phases are what is judged, first.
    shown = sorted((one for one in shown if one[1]), key=lambda one: one[0] not in asked)
    for (config, workload), rounds in shown[:MOST]:
        yield _timeline(f"{workload} · {config}", rounds)


def _timeline(title: str, rounds: Sequence[Kept]) -> Plot:
    sides = [side for side in _SIDES if any(one.side == side for one in rounds)]
    phases = {
        side: {
            name: median(one.values[f"phase_{name}"] for one in rounds if one.side == side) for name in PHASES
        }
        for side in sides
    }
    with drawing(8.6, 1.2 + 0.27 * len(PHASES) * len(sides)) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 1))
        for axes, names in ((left, list(PHASES)[:5]), (right, list(PHASES)[5:])):
            for row, side in enumerate(sides):
                begin = 0.0
                for at, name in enumerate(names):
                    seconds = phases[side][name]
                    place = at * len(sides) + row
                    axes.barh(place, seconds, left=begin, color=SERIES[row], height=0.8, hatch="//" if row else None,
                              edgecolor=INK, linewidth=0.5)  # fmt: skip
                    axes.annotate(
                        quantity(seconds, "s"), (max(begin + seconds, 0), place), xytext=(4, 0),
                        textcoords="offset points", va="center", fontsize=7,
                    )  # fmt: skip
                    begin += seconds
            both = len(sides) > 1
            labels = [f"{name}, {side}" if both else name for name in names for side in sides]
            axes.set_yticks(range(len(labels)), labels)
            axes.set_ylim(len(labels) - 0.4, -0.6)
            axes.margins(x=0.22)
            axes.xaxis.set_major_formatter(in_unit("s"))
            axes.tick_params(axis="x", labelsize=7)
            axes.grid(visible=False, axis="y")
        right.xaxis.set_major_locator(MaxNLocator(3))
        left.set_title("on the way to the first token")
        right.set_title("after it")
        return plot(
            figure,
            title,
            f"Each phase begins where the one before ends. Medians of {sources(rounds)}.",
            wide=True,
        )  # fmt: skip
