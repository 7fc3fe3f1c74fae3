"""Numbers as a person reads them: four significant digits and the unit's usual prefix."""

from __future__ import annotations

import math
from collections.abc import Callable

_SIZES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def quantity(value: float, unit: str) -> str:
    """``0.00721, "s"`` → ``7.210 ms``; counts stay whole. 14 characters at most for what servers do."""
    if not math.isfinite(value):
        return f"{value:g}"
    if unit in ("s", "s/tok"):
        scale, prefix = next(((s, p) for s, p in _SECONDS if abs(value) >= s), _SECONDS[-1])
        return f"{_digits(value / scale)} {prefix}{unit[1:]}"
    if unit == "ratio":
        return _digits(value)
    if unit == "tok/s" and value >= 999_999.5:
        return f"{_digits(value / 1e6)} Mtok/s"
    if unit in ("B/s", "FLOP/s", "B", "FLOP"):
        scale, prefix = next(((s, p) for s, p in _SIZES if abs(value) >= s), (1.0, ""))
        return f"{_digits(value / scale)} {prefix}{unit}"
    if unit in ("tok", "calls", "answers", "req") and value == int(value) and abs(value) < 1e8:
        return f"{int(value):,} {unit}".replace(",", " ")
    return f"{_digits(value)} {unit}"


def interval(low: float, high: float | None, shown: Callable[[float], str]) -> str:
    """``0.95 … 1.02``, each end as ``shown`` puts it; ``unknown`` where one launch, or none, tells no spread."""
    return "unknown" if high is None or math.isinf(high) else f"{shown(low)} … {shown(high)}"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.0e}"
    if abs(value) >= 1e6:
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:#.4g}".rstrip(".")
