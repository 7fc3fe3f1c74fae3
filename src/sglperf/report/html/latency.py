"""Distributions of latencies, from every arrival in the journal, and latency along the KV cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from sglperf.core.launches import FloatArray
from sglperf.report.html.drawing import (
    BASE,
    HEAD,
    INK,
    Plot,
    counted,
    drawing,
    in_unit,
    legend,
    log_ticks,
    plot,
)
from sglperf.report.html.run import Kept, Run, sources
from sglperf.report.quantity import quantity

MOST_WORKLOADS = 6
MOST_CURVES = 6
# More steps than that cannot be seen on a page.
_MOST_STEPS = 200
_SIDES = {"base": (BASE, "--"), "head": (HEAD, "-")}


def distributions(run: Run) -> Iterator[Plot]:
    """Of each workload, how often the first token and the next ones were so late."""
    shown = [point for point in run.worst_points if any(map(_timed, point[1]))]
    for (config, workload), rounds in shown[:MOST_WORKLOADS]:
        with drawing(8.6, 2.8) as figure:
            left, right = figure.subplots(1, 2, sharey=True)
            _distribution(left, rounds, lambda one: one.first_tokens, "time to first token")
            if any(one.gaps.size for one in rounds):
                _distribution(right, rounds, lambda one: one.gaps, "inter-token latency")
            else:
                right.remove()
            left.set_ylabel("share of them at most so long")
            count = sum(len(one.first_tokens) for one in rounds)
            yield plot(
                figure,
                f"{workload} · {config}",
                f"A line for each launch, as launches are what differs: {sources(rounds)}; {counted(count, 'request')}."
                f"{' Base is dashed.' if run.paired else ''}",
                wide=True,
            )


def _timed(one: Kept) -> bool:
    """Whether the round's latencies count: those of one that was traced do not."""
    return bool(one.first_tokens) and any(name.startswith("time_to_first_token") for name in one.values)


def _distribution(
    axes: Axes, rounds: Sequence[Kept], values: Callable[[Kept], ArrayLike], title: str
) -> None:
    ends: list[float] = []
    for side, (colour, dashes) in _SIDES.items():
        label: str | None = side
        for launch in sorted({one.launch for one in rounds if one.side == side}):
            mine = [np.asarray(values(one)) for one in rounds if (one.side, one.launch) == (side, launch)]
            pooled = np.concatenate(mine)
            pooled = pooled[pooled > 0]
            if not pooled.size:
                continue
            late, shares = _steps(pooled)
            axes.plot(
                late, shares, linestyle=dashes, color=colour, linewidth=1.1, alpha=0.85, label=label, drawstyle="steps-post"
            )  # fmt: skip
            ends += [late[0], late[-1]]
            label = None
    axes.set_title(title)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if ends:
        low, high = min(ends), max(*ends, min(ends) * 1.2)
        log_ticks(axes, "x", low, high, lambda value: quantity(value, "s"))
        axes.set_xlim(low / 1.03, high * 1.03)
        axes.xaxis.set_major_formatter(in_unit("s"))
        axes.tick_params(axis="x", labelsize=8)
    legend(axes, loc="lower right")


def _steps(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The empirical distribution: what is reached, from 0 to 1, at each value or at evenly many of them."""
    late = np.sort(values)
    shares = np.arange(1, late.size + 1) / late.size
    if late.size > _MOST_STEPS:
        kept = np.linspace(0, late.size - 1, _MOST_STEPS).round().astype(int)
        late, shares = late[kept], shares[kept]
    return np.concatenate([late[:1], late]), np.concatenate([[0.0], shares])


def curves(run: Run) -> Iterator[Plot]:
    """Inter-token latency against position, with the slope that was fitted."""
    shown = [
        (point, told)
        for point, rounds in run.worst_points
        if (told := [one for one in rounds if len(one.curve) > 3 and _timed(one)])
    ]
    for (config, workload), rounds in shown[:MOST_CURVES]:
        with drawing() as figure:
            axes = figure.add_subplot()
            said = [_curve(axes, [one for one in rounds if one.side == side], side) for side in _SIDES]
            axes.set_xlabel("tokens in a stream's KV cache")
            axes.yaxis.set_major_formatter(in_unit("s"))
            axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
            legend(axes, loc="lower left", ncols=2)
            yield plot(
                figure,
                f"{workload} · {config}",
                f"Marks: median over rounds; {'; '.join(filter(None, said))} (Theil–Sen, median over rounds). {sources(rounds)}.",
            )


def _curve(axes: Axes, rounds: Sequence[Kept], side: str) -> str:
    curves_ = [np.asarray(one.curve) for one in rounds]
    length = max((len(one) for one in curves_), default=0)
    same = [one for one in curves_ if len(one) == length]
    if not same:
        return ""
    colour, dashes = _SIDES[side]
    positions = np.median([one[:, 0] for one in same], axis=0)
    latency = np.median([one[:, 1] for one in same], axis=0)
    mark = "s" if side == "base" else "o"
    axes.plot(positions, latency, mark, color=colour, alpha=0.8, markeredgewidth=0, label=side)
    name = "inter_token_latency_slope"
    slopes = [one.values[name] for one in rounds if name in one.values]
    if not slopes:
        return ""
    slope = median(slopes)
    middle = np.median(latency - slope * positions)
    axes.plot(positions, middle + slope * positions, linestyle=dashes, color=INK, linewidth=1.2)
    return f"{side}'s line: fitted slope {quantity(slope, 's/tok')}"
