"""Kernels of a forward pass beside the machine's limits: the roofline model (Williams et al., CACM 52:4, 2009)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sglperf.report.html.drawing import (
    DASHES,
    HEAD,
    INK,
    SOFT,
    Plot,
    counted,
    drawing,
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
        if parts:
            yield _roofline(one, parts)


def _roofline(one: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> Plot:
    bandwidth, rate = one["copy_bandwidth"], one["matmul_rate"]
    intensities = [part["flops"] / part["bytes"] for part in parts]
    rates = [part["flops"] / part["seconds"] for part in parts]
    ridge = rate / bandwidth
    low, high = min(*intensities, ridge) / 3, max(*intensities, ridge) * 3
    with drawing(8.6, 3.6) as figure:
        axes = figure.add_subplot()
        axes.plot([low, ridge, high], [low * bandwidth, rate, rate], color=INK, label="limit")
        axes.plot([ridge, ridge], [min(rates) / 3, rate], color=SOFT, linewidth=0.8, linestyle=DASHES[3])
        for at, part in enumerate(parts):
            where = intensities[at], rates[at]
            axes.plot(*where, "o", color=HEAD, markersize=3 + 9 * part["share"] ** 0.5, alpha=0.8)
            above = at % 2 == 0  # neighbours would else write over one another
            axes.annotate(
                shorter(part["name"], 24), where, xytext=(0, 9 if above else -10), textcoords="offset points",
                fontsize=7, ha="center", va="center",
            )  # fmt: skip
        log_ticks(axes, "x", low, high, lambda value: f"{value:g}")
        log_ticks(axes, "y", min(rates), max(rate, *rates), lambda value: quantity(value, "FLOP/s"))
        axes.set_xlim(low, high)
        axes.set_xlabel("operations a byte that must be moved")
        axes.set_ylim(min(rates) / 3, max(rate, *rates) * 2)
        return plot(
            figure,
            f"{one['workload']} · {one['config']}",
            f"The larger, the more of the pass. Limits were measured beside the kernels: copy {quantity(bandwidth, 'B/s')}, bf16 "
            f"product {quantity(rate, 'FLOP/s')}. Median of {counted(one['rounds'], 'round')}, timed by {one['method']}.",
            wide=True,
        )
