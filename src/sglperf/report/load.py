"""Rounds of continuous load: how many requests decoded over time, and which rates were tried in search of saturation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sglperf.core.knee import Probe
from sglperf.report.sparkline import sparkline

if TYPE_CHECKING:
    from sglperf.evidence import Measured
    from sglperf.measurements import Round


def load_parts(measured: Measured) -> Iterator[str]:
    """A line for each workload of the head, under its server; nothing where there was no such load."""
    for config in measured.plan.configs:
        mine = [
            one for one in measured.measurements.rounds if (one.side, one.config) == ("head", config.label)
        ]
        lines = list(_lines(mine))
        if lines:
            yield ""
            yield f"under load on {config.model.name} · {config.label}: requests that decode, over time; rates tried"
            yield from lines


def _lines(rounds: Sequence[Round]) -> Iterator[str]:
    labels = dict.fromkeys(one.workload for one in rounds)
    for label in labels:
        mine = [one for one in rounds if one.workload == label]
        series = [one.batch_sizes for one in mine if one.batch_sizes]
        searches = [one.probes for one in mine if one.probes and one.values]
        if series:
            means = [sum(point) / len(series) for point in zip(*series, strict=True)]
            yield f"  {label:<32} {sparkline(means, low=0.0)} up to {max(means):.1f}"
        if searches:
            yield f"  {label:<32} {_tried(searches[-1])}"


def _tried(probes: Sequence[Probe]) -> str:
    """The rates of one search, ascending, each with the share of its requests that met the objective."""
    ordered = sorted(probes, key=lambda probe: probe.rate)
    return ", ".join(f"{probe.rate:.3g}/s {probe.share:.0%}" for probe in ordered) + " in time"
