"""What a page is made of besides plots: sections, tables and folded texts. Plain text; the template escapes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglperf.report.html.drawing import Plot


@dataclass(frozen=True)
class Table:
    """Rows of text; columns from ``words`` on are numbers, to the right."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    note: str = ""


@dataclass(frozen=True)
class Folded:
    """A long text that opens on demand."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading, which the contents at the top lead to."""

    name: str
    title: str
    intro: str = ""
    lines: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Folded] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.lines or self.plots or self.tables or self.folded)


def shortened(rows: Sequence[Sequence[str]], most: int, where: str) -> tuple[Sequence[Sequence[str]], str]:
    """The first rows, and a note on where the others are."""
    left = len(rows) - most
    return rows[:most], f"and {left} more in {where}" if left > 0 else ""
