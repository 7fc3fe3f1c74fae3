"""A calibration as a table for a terminal. It is returned; callers write it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sglperf.core.calibration import Calibration

_METRIC = 26


def calibration_text(family: Calibration, left_out: Sequence[str] = (), *, width: int = 100) -> str:
    """Noise of each timing, and the alarms of the whole family, no line longer than ``width``."""
    sheet = io.StringIO()
    console = Console(file=sheet, width=width, highlight=False, markup=False, emoji=False)
    points = dict.fromkeys(name.rpartition("/")[0] for name in family.noise)
    for point in points:
        console.print(Text(point.replace("/", " · ")))
        console.print(_table(family, point))
    console.print()
    console.print(Text(_summary(family)))
    for name in left_out:
        console.print(Text(f"left out, not measured: {name}"))
    return "\n".join(line.rstrip() for line in sheet.getvalue().splitlines()) + "\n"


def _table(family: Calibration, point: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("metric", no_wrap=True, width=_METRIC)
    for column in ("launches spread", "rounds spread", "false alarms", "detectable"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, noise in family.noise.items():
        if name.rpartition("/")[0] == point:
            table.add_row(
                name.rpartition("/")[2],
                f"{noise.launch_spread:.1%}",
                f"{noise.round_spread:.1%}",
                f"{noise.false_alarms:.1%}",
                f"{noise.detectable_effect:.1%}" if math.isfinite(noise.detectable_effect) else "nothing",
            )
    return table


def _summary(family: Calibration) -> str:
    return (
        f"{family.launches} launches of one build, {family.splits} splits into {family.n_base} and {family.n_head}: "
        f"any of {len(family.noise)} timings regressed in {family.regressed:.1%}, improved in {family.improved:.1%} "
        f"(meant to be at most {family.alpha:.0%} each)"
    )
