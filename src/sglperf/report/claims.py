"""What is known of claims: each one's standing and the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from sglperf.core.catalogue import METRICS
from sglperf.core.claim import Checked, Claim, Standing
from sglperf.core.figure import Figure
from sglperf.report.document import claim_entry
from sglperf.report.quantity import quantity
from sglperf.report.sheet import WIDTH, Part, sheet

_STYLES = {
    Standing.HOLDS: "green",
    Standing.FAILS: "bold red",
    Standing.OPEN: "yellow",
    Standing.NOT_MEASURED: "dim",
}
# With a blank between any two they come to 99, and to 98.
_OVERVIEW = {"claim": 31, "sets": 21, "measured": 27, "standing": 17}
_FIGURES = {"page": 4, "workload": 29, "launches": 8, "figure": 12, "from": 12, "to": 12, "by itself": 14}
_RIGHT = ("page", "launches", "figure", "from", "to")


def claims_text(checked: Sequence[Checked], left_out: Mapping[str, str], *, colour: bool) -> str:
    """A line for each claim, then each with its figures, or how to measure it.

    Args:
        left_out: runs that could not be read, and why.
    """
    return sheet(_parts(checked, left_out), width=WIDTH, colour=colour) + "\n"


def _parts(checked: Sequence[Checked], left_out: Mapping[str, str]) -> Iterator[Part]:
    if not checked:
        yield "config/claims holds no statement"
        return
    table = _table(_OVERVIEW, ())
    for one in checked:
        table.add_row(
            one.name, _sets(one.claim), _measured(one), Text(one.standing.value, _STYLES[one.standing])
        )
    yield table
    for one in checked:
        yield from claim_part(one)
        if one.standing is Standing.NOT_MEASURED:
            yield f"  to measure it: pytest -m {one.claim.area}, on {_place(one.claim)}"
    if left_out:
        yield ""
    for run, reason in left_out.items():
        yield f"left out: {run}: {reason}"


def claim_part(one: Checked) -> Iterator[Part]:
    """A claim with its standing, then the figures that it rests on."""
    claim, reason = one.claim, f": {one.reason}" if one.reason else ""
    yield ""
    yield Text.assemble((one.name, "bold"), " – ", (one.standing.value, _STYLES[one.standing]), reason)
    yield f"  {claim.statement}"
    yield f"  of {_place(claim)}: {_sets(claim)}"
    yield f"  source: {claim.source}"
    by_origin = sorted(one.figures, key=lambda told: _origin(told[0]))
    for said, group in groupby(by_origin, lambda told: _origin(told[0])):
        yield f"  {said}"
        table = _table(_FIGURES, _RIGHT)
        for figure, standing in group:
            alone = "" if one.standing is Standing.NOT_MEASURED else standing.value
            table.add_row(
                str(figure.page_size), figure.workload, str(figure.launches), *_interval(figure), alone
            )
        yield table


def claims_json(checked: Sequence[Checked], left_out: Mapping[str, str]) -> dict[str, Any]:
    """The same as plain values."""
    return {"claims": [claim_entry(one) for one in checked], "left_out": dict(left_out)}


def _table(columns: Mapping[str, int], right: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name, width in columns.items():
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", width=width)
    return table


def _place(claim: Claim) -> str:
    where = claim.where
    links = f", {' or '.join(where.links)} links" if where.links else ""
    size = f", TP {where.tp_size}" if where.tp_size else ""
    return f"{where.gpu or 'any machine'} with {' or '.join(where.models) or 'any model'}{links}{size}"


def _sets(claim: Claim) -> str:
    """The bounds in the unit of what they bound."""
    unit = _unit(claim)
    if claim.most is None:
        return f"at least {_shown(claim.least or 0.0, unit)}"
    return (
        f"at most {_shown(claim.most, unit)}"
        if claim.least is None
        else _range(claim.least, claim.most, unit)
    )


def _unit(claim: Claim) -> str:
    first = claim.figures[0]
    return "ratio" if first.over else METRICS[first.metric].unit


def _measured(one: Checked) -> str:
    """The range of the figures that count."""
    counts = one.standing is not Standing.NOT_MEASURED
    values = [figure.value for figure, _ in one.figures if counts]
    if len(values) < 2:
        return "".join(_shown(value, _unit(one.claim)) for value in values)
    return f"{_range(min(values), max(values), _unit(one.claim))} ({len(values)})"


def _range(low: float, high: float, unit: str) -> str:
    """``11.80 … 21.60 µs/tok``: what both ends are counted in is said once."""
    ends = _shown(low, unit), _shown(high, unit)
    (first, _, one), (_, _, other) = (end.partition(" ") for end in ends)
    return f"{first if one == other else ends[0]} … {ends[1]}"


def _origin(figure: Figure) -> str:
    """What was measured, and where: shared by the figures of a table."""
    over = f" over {figure.over}" if figure.over else ""
    what = f"{figure.metric}{' per GPU' if figure.per_gpu else ''} of {figure.server}{over}"
    return " · ".join((what, figure.model, figure.machine, f"SGLang {figure.sglang}", f"run {figure.run}"))


def _interval(figure: Figure) -> tuple[str, str, str]:
    unit = "ratio" if figure.over else METRICS[figure.metric].unit
    ends = (_shown(figure.low, unit), _shown(figure.high, unit)) if figure.bounded else ("unknown", "unknown")
    return _shown(figure.value, unit), *ends


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g}" if unit == "ratio" else quantity(value, unit)
