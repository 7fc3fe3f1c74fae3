"""``summary.md``: a run on a screen or two, for a pull request or a CI job's page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sglperf.core.launches import center
from sglperf.report.html.digest import counts, headline, said, whys
from sglperf.report.html.run import Run
from sglperf.report.quantity import interval, quantity

MOST_CASES = 300
# What Markdown, or HTML within it, would take for its own.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def summary_markdown(run: Run) -> str:
    """Verdicts, what to look at, why, and all cases in a table that is folded."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: Run) -> Iterator[str]:
    document = run.document
    yield f"## {_text(headline(run))}"
    yield ""
    targets = " → ".join(_text(target["label"]) for target in document["targets"].values())
    yield f"{targets} · run {_text(document['run'])} · " + ", ".join(
        f"{count} {status}" for status, count in counts(run)
    )
    for one in said(run):
        yield ""
        yield f"**{one.status}**"
        yield ""
        for name, moved, reason in one.rows:
            yield f"- {_text(name)}{f' ({_text(moved)})' if moved else ''}: {_text(reason)}"
        if one.more:
            yield f"- and {one.more} more"
    for why in whys(run):
        yield ""
        yield f"**why** · {_text(why.title)}: {_text(why.sentence)}"
    for label, entries in document["context_differences"].items():
        if entries and label not in document["explanations"]:
            yield ""
            yield f"context differs on {_text(label)}: {_text('; '.join(entries[:8]))}"
    yield from _table(run)


def _table(run: Run) -> Iterator[str]:
    yield ""
    yield f"<details><summary>{'All' if len(run.cases) <= MOST_CASES else f'{MOST_CASES} of'} {len(run.cases)} metrics</summary>"
    yield ""
    yield "| verdict | metric | base | head | ratio | interval |"
    yield "|---|---|--:|--:|--:|--:|"
    for name in run.ordered[:MOST_CASES]:
        yield "| " + " | ".join(_row(run, name)) + " |"
    yield ""
    yield "</details>"


def _row(run: Run, name: str) -> Sequence[str]:
    case = run.cases[name]
    found, unit = case["comparison"] or {}, case["metric"]["unit"]
    sides = [
        "–" if not side or not any(side) else quantity(center(side), unit)
        for side in (case["base"], case["head"])
    ]
    ratio, low, high = (found.get(key) for key in ("ratio", "low", "high"))
    exact = case["metric"]["kind"] == "exact"
    ends = "" if exact or low is None else interval(low, high, lambda end: f"{end:.3f}")
    return (
        case["status"], _text(run.short[name]), *map(_text, sides), "" if ratio is None else f"{ratio:.3f}", ends
    )  # fmt: skip


def _text(text: str) -> str:
    """As text, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
