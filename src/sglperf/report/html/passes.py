"""Kernels of a forward pass beside the machine's limits: the roofline model (Williams et al., CACM 52:4, 2009)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_letters
from typing import Any

from matplotlib.axes import Axes

from sglperf.report.html.drawing import (
    HEAD,
    INK,
    SERIES,
    SOFT,
    Plot,
    counted,
    drawing,
    in_unit,
    log_ticks,
    plot,
    shorter,
)
from sglperf.report.html.run import Run
from sglperf.report.quantity import quantity

MOST = 6


def rooflines(run: Run) -> Iterator[Plot]:
    """A plot for each pass of which all kernels were timed."""
    for one in run.document.get("passes", ())[:MOST]:
        parts = [part for part in one["parts"] if part["bytes"] and part["flops"] and part["seconds"]]
        parts = parts[: len(ascii_letters)]
        if parts:
            yield _roofline(one, parts)


def _roofline(one: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Plot:
    with drawing(8.6, max(3.4, 1.0 + 0.22 * len(parts))) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _points(left, parts, one["copy_bandwidth"], one["matmul_rate"])
        _shares(right, parts)
        return plot(
            figure,
            f"{one['workload']} · {one['config']}",
            f"Left, the larger a mark, the more of the pass; right, how near each kernel comes to what bounds it. Limits were "
            f"measured beside them: copy {quantity(one['copy_bandwidth'], 'B/s')}, bf16 product "
            f"{quantity(one['matmul_rate'], 'FLOP/s')}. Median of {counted(one['rounds'], 'round')}, timed by {one['method']}.",
            wide=True,
        )


def _points(axes: Axes, parts: Sequence[Mapping[str, Any]], bandwidth: float, rate: float) -> None:
    """Each kernel's rate against its intensity, below the roof; named by a letter, as several may lie together."""
    intensities = [part["flops"] / part["bytes"] for part in parts]
    rates = [part["flops"] / part["seconds"] for part in parts]
    ridge = rate / bandwidth
    low, high = min(*intensities, ridge) / 3, max(*intensities, ridge) * 3
    axes.plot([low, ridge, high], [low * bandwidth, rate, rate], color=INK)
    for letter, intensity, reached, part in zip(ascii_letters, intensities, rates, parts, strict=False):
        axes.plot(intensity, reached, "o", color=HEAD, markersize=3 + 9 * part["share"] ** 0.5, alpha=0.6)
        axes.annotate(
            letter, (intensity, reached), xytext=(5, 4), textcoords="offset points", fontsize=8, va="center"
        )
    log_ticks(axes, "x", low, high, lambda value: f"{value:g}")
    log_ticks(axes, "y", min(rates), max(rate, *rates), lambda value: quantity(value, "FLOP/s"))
    axes.set_xlim(low, high)
    axes.set_ylim(min(rates) / 3, max(rate, *rates) * 2)
    axes.yaxis.set_major_formatter(in_unit("FLOP/s"))
    axes.set_xlabel("operations a byte that must be moved")


def _shares(axes: Axes, parts: Sequence[Mapping[str, Any]]) -> None:
    """What each kernel reaches of its limit, hatched where that is the memory's."""
    shares = [part["limit_share"] or 0.0 for part in parts]
    for at, (share, part) in enumerate(zip(shares, parts, strict=True)):
        memory = part["binding"] == "memory"
        axes.barh(
            at, share, height=0.7, color=SERIES[0] if memory else SERIES[1], hatch="//" if memory else None,
            edgecolor=INK, linewidth=0.5,
        )  # fmt: skip
        axes.annotate(
            f"{share:.0%}", (share, at), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center"
        )
    names = [
        f"{letter}  {shorter(part['name'], 24)}" for letter, part in zip(ascii_letters, parts, strict=False)
    ]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.axvline(1, color=SOFT, linewidth=1, linestyle="--")
    axes.set_xlim(0, max(1.15, *shares) * 1.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(visible=False, axis="y")
    axes.set_title("of its limit (hatched: memory)")
