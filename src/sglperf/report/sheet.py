"""Lines and tables to text of at most ``width`` columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from io import StringIO
from typing import TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 100
Part: TypeAlias = str | Table | Text
# Blanks that a table ends its lines with, before the codes that end a colour.
_PADDING = re.compile(r" +((?:\x1b\[[0-9;]*m)*) *$", re.MULTILINE)


def sheet(parts: Iterable[Part], *, width: int, colour: bool) -> str:
    """The parts under one another; a string is folded, its continuation further in than its beginning."""
    buffer = StringIO()
    console = Console(file=buffer, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    for part in parts:
        console.print(Text(_wrapped(part, width)) if isinstance(part, str) else part)
    return _PADDING.sub(r"\1", buffer.getvalue()).rstrip("\n")


def _wrapped(text: str, width: int) -> str:
    """Each line of ``text`` folded by itself."""
    return "\n".join(
        textwrap.fill(
            line.strip(), width, break_on_hyphens=False,
            initial_indent=(indent := line[: len(line) - len(line.lstrip())]), subsequent_indent=indent + "  ",
        )
        for line in text.split("\n")
    )  # fmt: skip
