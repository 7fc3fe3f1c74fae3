"""One request's life, phase by phase, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sglperf.core.timeline import PHASES
from sglperf.report.quantity import quantity
from sglperf.report.sparkline import sparkline

if TYPE_CHECKING:
    from sglperf.evidence import Measured
    from sglperf.measurements import Round
    from sglperf.plan import Ask

_BAR = 40
# Their bars share a scale: what comes after the first token is longer by far.
_TO_FIRST_TOKEN = ("arrive", "prepare", "queue", "prefill", "return")


def timeline_parts(measured: Measured) -> Iterator[str | Table | Text]:
    """A table for each workload whose phases were asked for, of the medians over rounds."""
    asked = {ask.point: ask for ask in measured.plan.asks if ask.metric.startswith("phase_")}
    for ask in asked.values():
        whole = {f"phase_{name}" for name in PHASES}
        rounds = [one for one in measured.rounds("head", ask) if whole <= set(one.values)]
        if rounds:
            yield from _timeline(ask, rounds)


def _timeline(ask: Ask, rounds: Sequence[Round]) -> Iterator[str | Table | Text]:
    phases = {name: median(one.values[f"phase_{name}"] for one in rounds) for name in PHASES}
    first_token = sum(phases[name] for name in _TO_FIRST_TOKEN)
    yield ""
    yield Text(f"{ask.workload.label} · {ask.config.label} · {ask.config.model.name}", style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("phase", no_wrap=True, width=9)
    for name in ("after", "takes"):
        table.add_column(name, justify="right", no_wrap=True, width=10)
    table.add_column("on the way to the first token", no_wrap=True, width=_BAR)
    begin = 0.0
    for name, seconds in phases.items():
        bar = _bar(begin, seconds, first_token) if name in _TO_FIRST_TOKEN else ""
        table.add_row(name, quantity(begin, "s") if begin else "0", quantity(seconds, "s"), bar)
        begin += seconds
    yield table
    yield from _curve(rounds)


def _bar(begin: float, seconds: float, whole: float) -> str:
    """Where in the whole it lies; a phase that is shorter than a column shows as a thin one."""
    if whole <= 0:
        return ""
    left = round(max(begin, 0) / whole * _BAR)
    width = round(max(begin + seconds, 0) / whole * _BAR) - left
    return " " * min(left, _BAR - 1) + ("█" * width if width > 0 else "▏")


def _curve(rounds: Sequence[Round]) -> Iterator[str]:
    """How the inter-token latency goes with what is in the KV cache; medians over rounds at each point."""
    curves = [one.curve for one in rounds if one.curve]
    if not curves or len({len(curve) for curve in curves}) > 1:
        return
    points = [(one[0][0], median(latency for _, latency in one)) for one in zip(*curves, strict=True)]
    latencies = [latency for _, latency in points]
    slopes = [
        one.values["inter_token_latency_slope"] for one in rounds if "inter_token_latency_slope" in one.values
    ]
    slope = f", fitted slope {quantity(median(slopes), 's/tok')}" if slopes else ""
    yield (
        f"inter-token latency with {points[0][0]:.0f} to {points[-1][0]:.0f} tokens in the KV cache: {sparkline(latencies)} "
        f"({quantity(min(latencies), 's')} to {quantity(max(latencies), 's')}){slope}"
    )
