"""Servers compared with one another, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from sglperf.core.catalogue import METRICS
from sglperf.core.contrast import Contrast
from sglperf.report.quantity import interval, quantity


def contrast_parts(contrasts: Sequence[Contrast]) -> Iterator[str | Table | Text]:
    """A table for each pair of servers: how many times faster the second is."""
    by_pair = sorted(contrasts, key=lambda one: (one.group, one.other))
    for (model, comparison, reference, other), group in groupby(
        by_pair, lambda one: (one.model, one.group, one.reference, one.other)
    ):
        yield ""
        yield Text(f"{other} against {reference} · {model} · {comparison}", style="bold")
        table = _table({"workload": 24, "metric": 24}, {reference: 14, other: 14, "times": 5, "interval": 13})
        for one in group:
            table.add_row(*_row(one))
        yield table
    yield from _scaling_parts(contrasts)


def _scaling_parts(contrasts: Sequence[Contrast]) -> Iterator[str | Table | Text]:
    """A table for each comparison of servers on different numbers of GPUs, the sets under one another."""
    scaled = [one for one in contrasts if one.efficiency is not None]
    for (model, comparison, reference, ranks), group in groupby(
        sorted(scaled, key=lambda one: one.group),
        lambda one: (one.model, one.group, one.reference, one.reference_ranks),
    ):
        yield ""
        over = f"over {reference}" + (f" (TP {ranks})" if ranks > 1 else "")
        yield Text(f"scaling efficiency {over} · {model} · {comparison}", style="bold")
        left = {"workload": 24, "metric": 20, "TP set": 18}
        table = _table(left, {"TP": 3, "times": 6, "efficiency": 10, "interval": 13})
        for one in sorted(group, key=lambda one: (one.metric, one.workload)):
            table.add_row(*_scaling_row(one))
        yield table


def _scaling_row(one: Contrast) -> tuple[str, ...]:
    assert one.efficiency is not None
    value, low, high = one.efficiency
    figures = (_times(one.speedup[0]), _times(value), interval(low, high, _times))
    return one.workload, one.metric, one.other, str(one.ranks), *figures


def _table(left: Mapping[str, int], right: Mapping[str, int]) -> Table:
    """Columns of these widths: words to the left, figures to the right."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name, width in left.items():
        table.add_column(name, no_wrap=True, width=width)
    for name, width in right.items():
        table.add_column(name, justify="right", no_wrap=True, width=width)
    return table


def _row(one: Contrast) -> tuple[str, ...]:
    unit, found = METRICS[one.metric].unit, one.comparison
    times, low, high = one.speedup
    sides = (quantity(found.base_center, unit), quantity(found.head_center, unit))
    return one.workload, one.metric, *sides, _times(times), interval(low, high, _times)


def _times(value: float) -> str:
    return f"{value:.2f}"
