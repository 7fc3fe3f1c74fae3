"""A forward pass kernel by kernel, beside the machine's limits, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sglperf.core.roofline import PassPart, PassShape, pass_parts
from sglperf.core.shape import shape_of
from sglperf.report.quantity import quantity

if TYPE_CHECKING:
    from sglperf.evidence import Measured
    from sglperf.plan import Ask

_COLUMNS = {"calls": 6, "a call": 10, "of all": 7, "moves": 9, "computes": 11, "bound by": 8, "of limit": 8}


def roofline_parts(measured: Measured) -> Iterator[str | Table | Text]:
    """A table for each pass of which all kernels were asked for."""
    for ask in measured.plan.asks:
        if heads_a_pass(ask):
            yield from _pass(measured, ask)


def heads_a_pass(ask: Ask) -> bool:
    """Whether a pass of which all kernels were asked for is shown for it."""
    return ask.metric == "pass_kernel_time" and _load(ask) is not None


def pass_entries(measured: Measured) -> Iterator[dict[str, Any]]:
    """The same as plain values, of each pass: limits, and each kernel's time and least cost."""
    for ask in measured.plan.asks:
        rounds = [one for one in measured.rounds("head", ask) if ask.metric in one.values]
        shape, load = shape_of(ask.config.model), _load(ask)
        if not heads_a_pass(ask) or not rounds or shape is None or load is None:
            continue
        values = {name: median(one.values[name] for one in rounds) for name in rounds[0].values}
        yield {
            "config": ask.config.label,
            "workload": ask.workload.label,
            "method": rounds[0].method,
            "rounds": len(rounds),
            "copy_bandwidth": values["copy_bandwidth"],
            "matmul_rate": values["matmul_rate"],
            "parts": [_entry(part) for part in pass_parts(values, shape, load)],
        }


def _entry(part: PassPart) -> dict[str, Any]:
    return {
        "name": part.name,
        "calls": part.calls,
        "seconds": part.seconds,
        "share": part.share,
        "bytes": part.cost.bytes if part.cost else None,
        "flops": part.cost.flops if part.cost else None,
        "limit_share": part.limit_share,
        "binding": part.binding,
    }


def _load(ask: Ask) -> PassShape | None:
    load = getattr(ask.workload, "load", None)
    return load if isinstance(load, PassShape) else None


def _pass(measured: Measured, ask: Ask) -> Iterator[str | Table | Text]:
    rounds = [round_ for round_ in measured.rounds("head", ask) if ask.metric in round_.values]
    shape, load = shape_of(ask.config.model), _load(ask)
    if not rounds or shape is None or load is None:
        return
    values = {name: median(one.values[name] for one in rounds) for name in rounds[0].values}
    yield ""
    yield Text(f"{ask.workload.label} · {ask.config.label} · {ask.config.model.name}", style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("kernel", no_wrap=True, width=16)
    for name, width in _COLUMNS.items():
        table.add_column(name, justify="right", no_wrap=True, width=width)
    for part in pass_parts(values, shape, load):
        table.add_row(
            part.name,
            str(part.calls),
            quantity(part.seconds, "s"),
            f"{part.share:.1%}",
            quantity(part.cost.bytes, "B") if part.cost else "",
            quantity(part.cost.flops, "FLOP") if part.cost else "",
            part.binding or "",
            "" if part.limit_share is None else f"{part.limit_share:.1%}",
        )
    yield table
    yield _summary(values, rounds[0].method)


def _summary(values: Mapping[str, float], method: str) -> str:
    shares = (
        f" Of a layer, attention takes {values['attention_share']:.0%} and matrix products {values['gemm_share']:.0%}."
        if "attention_share" in values
        else ""
    )
    return (
        f"all kernels {quantity(values['pass_kernel_time'], 's')}; in a pass of two layers they account for "
        f"{values['pass_coverage']:.0%}.{shares} Limits, measured beside them: copy {quantity(values['copy_bandwidth'], 'B/s')}, "
        f"bf16 product {quantity(values['matmul_rate'], 'FLOP/s')}. Timed by {method}"
    )
