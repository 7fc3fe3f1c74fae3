"""A row of numbers as a row of characters, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, low: float | None = None) -> str:
    """A character for each value, the highest for the largest.

    Args:
        low: what the lowest level stands for; None for the smallest value.
    """
    high = max(values, default=0.0)
    low = min(values, default=0.0) if low is None else low
    steps = len(_LEVELS) - 1
    return "".join(_LEVELS[round((one - low) / (high - low) * steps) if high > low else 0] for one in values)
