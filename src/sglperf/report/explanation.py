"""Why two builds differ, for the terminal: the likeliest cause, then what it was found among."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from sglperf.core.explanation import Explanation, StageChange, counts, described, suspects
from sglperf.core.trace import Change, ProfileChange
from sglperf.core.trace_events import Part
from sglperf.report.quantity import quantity

_MOST_ENTRIES = 8
_MOST_ROWS = 6
_MOST_STAGES = 3
_LEAST_SHARE = 0.02  # of the step's change, from which a row is worth a line
_NAME_WIDTH = 46


def explanation_parts(explanation: Explanation) -> Iterator[str | Table | Text]:
    """Lines to be wrapped, a title, and a table for the phase in question."""
    yield Text(" · ".join(filter(None, ("why", explanation.config, explanation.workload))), style="bold")
    yield explanation.sentence
    for title, entries in (
        ("server arguments", explanation.arguments),
        ("versions", explanation.versions),
        ("files", explanation.files),
        ("scheduler, in a round", _stages(explanation.stages)),
    ):
        if entries:
            yield f"{title}: {_shortened(entries)}"
    yield from explanation.notes
    if explanation.profile is not None:
        yield _table(explanation.profile)


def _shortened(entries: Sequence[str]) -> str:
    more = len(entries) - _MOST_ENTRIES
    return "; ".join(entries[:_MOST_ENTRIES]) + (f"; and {more} more in run.json" if more > 0 else "")


def _stages(stages: Sequence[StageChange]) -> list[str]:
    return [
        f"{stage.name} {quantity(stage.seconds[0], 's')} → {quantity(stage.seconds[1], 's')}"
        for stage in stages[:_MOST_STAGES]
    ]


def _table(profile: ProfileChange) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    traces = "1 trace" if profile.traces == 1 else f"{profile.traces} traces"
    title = f"in a {profile.phase} step, {traces} a side"
    table.add_column(title, no_wrap=True, width=_NAME_WIDTH, overflow="ellipsis")
    for name, width in (("calls", 13), ("base", 11), ("head", 11), ("change", 12)):
        table.add_column(name, justify="right", no_wrap=True, width=width)
    table.add_row("all of it", "", *_times(profile.steps))
    for change in shown(profile):
        table.add_row(described(change), _calls(change), *_times(change.seconds))
    return table


def shown(profile: ProfileChange) -> list[Change]:
    """The rows that changed most, and those that run more or less often."""
    rows = list(suspects(profile))
    least = _LEAST_SHARE * abs(profile.added)
    moved = [change for change in rows if change.clear and abs(change.added) >= least][:_MOST_ROWS]
    return moved + [change for change in rows if change.recounted and change not in moved][:_MOST_ROWS]


def _calls(change: Change) -> str:
    before, after = change.calls
    if change.part is Part.OUTSIDE:
        return ""
    return f"{before:.4g}" if before is not None and before == after else counts(change)


def _times(seconds: tuple[float, float]) -> tuple[str, str, str]:
    added = seconds[1] - seconds[0]
    return (
        quantity(seconds[0], "s"),
        quantity(seconds[1], "s"),
        f"{'+' if added > 0 else ''}{quantity(added, 's')}",
    )
