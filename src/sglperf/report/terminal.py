"""The verdict table and what must be said beside it, as text of at most ``width`` columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sglperf.core.catalogue import METRICS
from sglperf.core.launches import center
from sglperf.core.metric import Kind
from sglperf.core.verdict import Status, Verdict
from sglperf.report.claims import claim_part
from sglperf.report.contrast import contrast_parts
from sglperf.report.explanation import explanation_parts
from sglperf.report.load import load_parts
from sglperf.report.nsight import nsight_parts
from sglperf.report.quantity import interval, quantity
from sglperf.report.roofline import heads_a_pass, roofline_parts
from sglperf.report.sheet import Part, sheet
from sglperf.report.timeline import timeline_parts

if TYPE_CHECKING:
    from sglperf.measurements import Measurements
    from sglperf.outcome import Outcome
    from sglperf.plan import Ask
    from sglperf.settings import Settings

_STYLES = {
    Status.REGRESSED: "bold red",
    Status.IMPROVED: "bold green",
    Status.UNCHANGED: "green",
    Status.INCONCLUSIVE: "yellow",
    Status.INCOMPARABLE: "magenta",
    Status.NEW: "cyan",
    Status.INVALID: "bold red",
}
_TO_EXPLAIN = (Status.INVALID, Status.REGRESSED, Status.INCOMPARABLE, Status.IMPROVED)
_CHANGED = (Status.REGRESSED, Status.IMPROVED)
_MOST_DIFFERENCES = 8
# Fixed widths, so that the tables of all points stand under one another. With the metric, the verdict and a
# blank between any two they come to 99. Whatever is shown in them fits: a number cut short is another number.
_COLUMNS = {"base": 14, "head": 14, "ratio": 5, "interval": 13, "could see": 9}


def summary(outcome: Outcome, settings: Settings, *, width: int, colour: bool) -> str:
    """Table of verdicts, reasons, and where everything was kept."""
    return sheet(_parts(outcome, settings), width=width, colour=colour)


def _tables(outcome: Outcome) -> dict[str, list[Ask]]:
    """Title → cases: a table for each point, and one for all counts of a server that are predicted."""
    tables: dict[str, list[Ask]] = {}
    for ask in outcome.plan.asks:
        place = (
            f"{ask.config.model.name} · {ask.config.label}"
            if ask.predicted
            else ask.point.replace("/", " · ")
        )
        tables.setdefault(f"{ask.area} · {place}", []).append(ask)
    return tables


def _predicted_table(outcome: Outcome, asks: list[Ask]) -> Table:
    """Counts of many workloads, each beside what the model says."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("workload", no_wrap=True, width=39)
    table.add_column("metric", no_wrap=True, width=17)
    for name in ("model", "head"):
        table.add_column(name, justify="right", no_wrap=True, width=13)
    table.add_column("verdict", no_wrap=True, width=12)
    for ask in asks:
        _, model, head, *_, verdict = _row(outcome, ask)
        table.add_row(ask.workload.label, ask.metric, model, head, verdict)
    return table


def _table(outcome: Outcome, asks: list[Ask]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("metric", no_wrap=True, width=26)
    for name, columns in _COLUMNS.items():
        table.add_column(name, justify="right", no_wrap=True, width=columns)
    table.add_column("verdict", no_wrap=True, width=12)
    # Figures of a whole pass have a table of their own.
    in_pass = any(heads_a_pass(ask) for ask in asks)
    for ask in asks:
        if METRICS[ask.metric].judged or not in_pass:
            table.add_row(*_row(outcome, ask))
    return table


def _row(outcome: Outcome, ask: Ask) -> tuple[str | Text, ...]:
    metric = METRICS[ask.metric]
    if not metric.judged:
        head = outcome.measured.evidence("head", ask).launches
        return (
            ask.metric,
            "",
            quantity(center(head), metric.unit) if any(head) else "–",
            "",
            "",
            "",
            Text("–", "dim"),
        )
    question, verdict = outcome.questions[ask.name], outcome.verdicts[ask.name]
    sides = (None if question.base is None else question.base.launches, question.head.launches)
    values = ("–" if not side or not any(side) else quantity(center(side), metric.unit) for side in sides)
    return (
        ask.metric,
        *values,
        *_comparison(verdict, exact=metric.kind is Kind.EXACT),
        Text(verdict.status.value, _STYLES[verdict.status]),
    )


def _comparison(verdict: Verdict, *, exact: bool) -> tuple[str, str, str]:
    found = verdict.comparison
    if found is None:
        return "", "", ""
    if exact:  # no noise, so no interval and nothing that could have been missed
        return (_ratio(found.ratio) if found.ratio != 1 else ""), "", ""
    return _ratio(found.ratio), interval(found.low, found.high, _ratio), _effect(found.detectable_effect)


def _ratio(value: float) -> str:
    """Five characters, with three decimals for any ratio that is met in earnest."""
    for decimals in (3, 2, 1, 0):
        text = f"{value:.{decimals}f}"
        if len(text) <= _COLUMNS["ratio"] and (float(text) or not value):
            return text
    return f"{value:.0e}"


def _effect(share: float) -> str:
    return f"±{share:.1%}" if share < 10 else "nothing"


def _parts(outcome: Outcome, settings: Settings) -> Iterator[Part]:
    for title, asks in _tables(outcome).items():
        yield Text(title, style="bold")
        predicted = all(ask.predicted for ask in asks) and "base" not in outcome.measured.versions
        yield _predicted_table(outcome, asks) if predicted else _table(outcome, asks)
    yield from _said(outcome, settings)


def _said(outcome: Outcome, settings: Settings) -> Iterator[Part]:
    """What must be said beside the verdicts."""
    counts = Counter(verdict.status for verdict in outcome.verdicts.values())
    yield ""
    yield ", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status])
    for status in _TO_EXPLAIN:
        yield from _explained(outcome, status)
    yield from _other_days(outcome)
    for label, change in outcome.changes.items():
        if label not in outcome.explanations:
            yield from _context(label, change.every)
    yield from timeline_parts(outcome.measured)
    yield from roofline_parts(outcome.measured)
    yield from nsight_parts(outcome.looks_deeper)
    yield from load_parts(outcome.measured)
    yield from contrast_parts(outcome.contrasts)
    for claim in outcome.claims:
        yield from claim_part(claim)
    for explanation in outcome.explanations.values():
        yield ""
        yield from explanation_parts(explanation)
    if outcome.explanations or outcome.contrasts or outcome.claims:
        yield ""
    yield from _provisional(outcome)
    measurements = outcome.measured.measurements
    seconds = outcome.seconds
    if outcome.plan.configs:
        yield (
            f"{_starts(measurements)} ({_planned_starts(outcome)}); "
            f"{seconds['total']:.0f} s: starts {seconds.get('start', 0):.0f} s, load {seconds.get('load', 0):.0f} s, "
            f"warm-up {seconds.get('warm-up', 0):.0f} s"
            + (f", profiles {seconds['profile']:.0f} s" if "profile" in seconds else "")
        )
    if outcome.recorded:
        yield f"recorded as baseline: {', '.join(outcome.recorded)}"
    elif counts[Status.NEW] and settings.baseline == "off":
        yield "no baseline read or recorded (--baseline off)"
    yield from outcome.notes
    yield f"kept in {outcome.folder}"


def _provisional(outcome: Outcome) -> Iterator[str]:
    """What a shard's verdicts are worth, or that it has none."""
    if outcome.shard is None:
        return
    which = f"shard {outcome.shard['index']} of {outcome.shard['of']}"
    units = [servers for servers in outcome.shard["servers"] if servers]
    if not outcome.plan.configs:
        yield f"{which}: nothing to do, since there is work for {len(units)} only; merging needs no trace of this one"
        return
    mine, whole = len(outcome.plan.configs), sum(map(len, units))
    yield (
        f"{which}: {mine} of {whole} server configurations. Its verdicts are provisional: the same command with "
        "--merge-shards=FOLDER in the place of --shard judges those of all shards as one family"
    )


def _starts(measurements: Measurements) -> str:
    servers = sum(launch.worker is None for launch in measurements.launches)
    workers = len(measurements.launches) - servers
    kinds = {"server": servers, "worker": workers}
    return " and ".join(
        f"{number} {kind} start{'' if number == 1 else 's'}" for kind, number in kinds.items() if number
    )


def _planned_starts(outcome: Outcome) -> str:
    plan = outcome.plan
    looks = "" if plan.fewest_launches == plan.launches else f"{outcome.looks.fewest} to "
    sides = "2 builds × " if "base" in outcome.measured.versions else ""
    counted = len([config for config in plan.configs if plan.launches_of(config) == 1 < plan.launches])
    timed = len(plan.configs) - counted
    parts = [f"{_configurations(timed)} × {looks}{plan.launches} launches"] if timed else []
    # What is only counted needs no second launch.
    parts += [f"{_configurations(counted)} × 1 launch"] if counted else []
    return sides + " and ".join(parts)


def _configurations(count: int) -> str:
    return f"{count} configuration{'' if count == 1 else 's'}"


def _other_days(outcome: Outcome) -> Iterator[str]:
    """What must be said beside a change against launches of one day: the day may be what changed."""
    asked = (outcome.questions[name] for name, said in outcome.verdicts.items() if said.status in _CHANGED)
    bases = [question.base for question in asked if question.metric.kind is Kind.TIMING]
    runs = [len(base.runs) for base in bases if base is not None and base.runs and not base.run_is_unit]
    if runs:
        yield (
            f"the baseline holds {min(runs)} run{'' if min(runs) == 1 else 's'}: another day may differ by itself. "
            "Extend it on four days (--baseline=extend), or compare two builds (--base --head)"
        )


def _explained(outcome: Outcome, status: Status) -> Iterator[str]:
    """Each case's sentence; cases that share a sentence share a line."""
    sentences: dict[str, list[str]] = {}
    for name, verdict in outcome.verdicts.items():
        if verdict.status is status:
            sentences.setdefault(verdict.sentence, []).append(name)
    for sentence, names in sentences.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{status.value}: {names[0]}{others}: {sentence}"


def _context(label: str, changed: tuple[str, ...]) -> Iterator[str]:
    shown = "; ".join(changed[:_MOST_DIFFERENCES])
    more = len(changed) - _MOST_DIFFERENCES
    yield f"context differs on {label}: {shown}" + (f"; and {more} more in run.json" if more > 0 else "")
