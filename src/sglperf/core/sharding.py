"""Parts of a run that several machines measure. Pure: the same plan is split alike on each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Shard:
    """One of so many parts of a run, counted from 1.

    Raises:
        ValueError: there is no such part.
    """

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of:
            raise ValueError(f"there is no shard {self.index} of {self.of}: expected K/N with 1 ≤ K ≤ N")

    @classmethod
    def parse(cls, text: str) -> Self:
        """``2/4``.

        Raises:
            ValueError: something else.
        """
        found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text)
        if found is None:
            raise ValueError("expected K/N, as 2/4 for the second of four")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index} of {self.of}"


def split(costs: Mapping[str, float], of: int) -> tuple[tuple[str, ...], ...]:
    """Names in ``of`` parts that cost about the same: the costliest first, each to the part that has least.

    The costliest part comes to at most 4/3 of what the best split could do (Graham 1969, SIAM J. Appl. Math. 17:416). The
    order of the names does not matter; where there are fewer of them than parts, some parts are empty.

    Args:
        costs: name → what it costs, in any unit.
    """
    parts: list[list[str]] = [[] for _ in range(of)]
    spent = [0.0] * of
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        least = min(range(of), key=lambda part: (spent[part], len(parts[part]), part))
        parts[least].append(name)
        spent[least] += costs[name]
    return tuple(map(tuple, parts))
