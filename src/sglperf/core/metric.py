"""What is measured: name, unit, which way is better, and whether noise is possible at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """``exact`` values have no noise, so any change counts; ``timing`` values need statistics."""

    EXACT = "exact"
    TIMING = "timing"


class Better(StrEnum):
    """Which way is better. ``same``: the value says which work was done, so neither way is."""

    LOWER = "lower"
    HIGHER = "higher"
    SAME = "same"


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    Attributes:
        name: the field's own term, in snake case.
        unit: ``s``, ``tok/s``, ``tok``, ``req/s``, ``ratio``, …; values are stored in exactly this unit.
        better: the direction in which a change is an improvement.
        kind: exact or timing.
        meaning: one sentence for tables and documents.
        min_effect: smallest relative change that matters (0.05 is 5 %); None takes the policy's.
        judged: False for a figure that is kept and shown but carries no verdict of its own.
        signed: whether it may be zero or less, so that no ratio can be taken of it.
    """

    name: str
    unit: str
    better: Better
    kind: Kind
    meaning: str
    min_effect: float | None = None
    judged: bool = True
    signed: bool = False
