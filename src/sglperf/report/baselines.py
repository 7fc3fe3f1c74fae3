"""Baselines and their changes as tables. Returns text and plain values; callers write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sglperf.core.acceptance import Change, matching
from sglperf.core.launches import center
from sglperf.report.quantity import quantity
from sglperf.report.sheet import WIDTH, Part, sheet

if TYPE_CHECKING:
    from sglperf.baseline_care import Accepted, Pruned, Stored, Taken

_NOT_COMMITTED = "not committed"
_LIST = {"area": 9, "metrics": 7, "runs": 4, "recorded": 10, "SGLang": 12, "accepted": 53}
_SHOW = {"metric": 30, "value": 14, "launches": 8, "SGLang": 12, "run": 31}
_CHANGES = {"metric": 30, "before": 14, "after": 14, "ratio": 6, "change": 8, "verdict": 12}
_RIGHT = ("metrics", "runs", "value", "launches", "before", "after", "ratio")


def list_text(found: Sequence[Stored], *, colour: bool) -> str:
    """A table for each machine: its areas, and who accepted what they hold last."""
    if not found:
        return "no baselines\n"
    return sheet(_machines(found), width=WIDTH, colour=colour) + "\n"


def _machines(found: Sequence[Stored]) -> Iterator[Part]:
    for machine in dict.fromkeys(one.baseline.fingerprint_id for one in found):
        yield machine
        table = _table(_LIST)
        for one in found:
            if one.baseline.fingerprint_id == machine:
                table.add_row(*_summary(one))
        yield table


def _summary(one: Stored) -> tuple[str, ...]:
    entries = list(one.baseline.metrics())
    recorded = max((record.recorded for _, _, record in entries), default="")
    return (
        one.baseline.area, str(len(entries)), str(len(_runs(one))), recorded[:10],
        ", ".join(sorted({_sglang(one, record.context) for _, _, record in entries})), _last(one),
    )  # fmt: skip


def _runs(one: Stored) -> set[str]:
    return {run for case in one.baseline.cases.values() for run in case.records}


def _last(one: Stored) -> str:
    """The latest commit that brought something in; that something is not committed is said first."""
    missing = _runs(one) - set(one.commits)
    latest = max(one.commits.values(), key=lambda accepted: accepted.when, default=None)
    words = [*([_NOT_COMMITTED] if missing else []), *([] if latest is None else [_told(latest)])]
    return "; before: ".join(words)


def _told(accepted: Accepted) -> str:
    return f"{accepted.when[:10]} {accepted.author}: {accepted.subject} ({accepted.commit})"


def _sglang(one: Stored, context: str) -> str:
    return one.baseline.contexts[context].versions.get("sglang", "unknown")


def show_text(found: Sequence[Stored], patterns: Sequence[str], *, colour: bool) -> str:
    """Every metric that fits, with its figure, and who accepted it."""
    return sheet(_shown(found, patterns), width=WIDTH, colour=colour) + "\n"


def _shown(found: Sequence[Stored], patterns: Sequence[str]) -> Iterator[Part]:
    for one in found:
        names = set(matching([name for name, *_ in one.baseline.metrics()], patterns))
        tables: dict[str, Table] = {}
        runs: dict[str, None] = {}
        for name, metric, record in one.baseline.metrics():
            point, _, last = name.rpartition("/")
            if name in names:
                latest = one.baseline.cases[point].latest(last)
                runs |= dict.fromkeys(sorted(metric.samples))
                further = f" + {len(metric.samples) - 1}" if len(metric.samples) > 1 else ""
                tables.setdefault(point, _table(_SHOW)).add_row(
                    last, quantity(center(metric.launches), metric.unit), str(len(metric.launches)),
                    _sglang(one, record.context), latest + further,
                )  # fmt: skip
        for point, table in tables.items():
            yield f"{one.baseline.area} · {point.replace('/', ' · ')} · {one.baseline.fingerprint_id}"
            yield table
        for run in runs:
            yield f"{run}: {_told(one.commits[run]) if run in one.commits else _NOT_COMMITTED}"


def stored_json(found: Sequence[Stored], patterns: Sequence[str] = ()) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "baselines": [
            {
                "machine": one.baseline.fingerprint_id,
                "area": one.baseline.area,
                "file": str(one.path),
                "metrics": _metrics_json(one, patterns),
                "accepted": {
                    run: asdict(one.commits[run]) if run in one.commits else None
                    for run in sorted(_runs(one))
                },
            }
            for one in found
        ]
    }


def _metrics_json(one: Stored, patterns: Sequence[str]) -> dict[str, Any]:
    entries = {name: (metric, record) for name, metric, record in one.baseline.metrics()}
    return {
        name: {
            "value": center(entries[name][0].launches),
            "unit": entries[name][0].unit,
            "launches": len(entries[name][0].launches),
            "runs": sorted(entries[name][0].samples),
            "recorded": entries[name][1].recorded,
            "sglang": _sglang(one, entries[name][1].context),
        }
        for name in matching(entries, patterns)
    }


def changes_text(changes: Sequence[Change], *, colour: bool, nothing: str = "nothing differs") -> str:
    """Each change under its server and workload, and how many there are of each kind."""
    if not changes:
        return f"{nothing}\n"
    return sheet(_changed(changes), width=WIDTH, colour=colour) + "\n"


def _changed(changes: Sequence[Change]) -> Iterator[Part]:
    points = dict.fromkeys((change.file, change.name.rpartition("/")[0]) for change in changes)
    for file, point in points:
        yield f"{file[1]} · {point.replace('/', ' · ')} · {file[0]}"
        table = _table(_CHANGES)
        for change in changes:
            if (change.file, change.name.rpartition("/")[0]) == (file, point):
                table.add_row(
                    change.name.rpartition("/")[2], _figure(change.before, change.unit),
                    _figure(change.after, change.unit),
                    "" if change.ratio is None else f"{change.ratio:.3f}", change.kind, change.status,
                )  # fmt: skip
        yield table
    counts = Counter(change.kind for change in changes)
    yield ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _figure(value: float | None, unit: str) -> str:
    return "–" if value is None else quantity(value, unit)


def taken_text(taken: Taken, *, colour: bool) -> str:
    """What was accepted, what was left, and how to keep it."""
    lines = [changes_text(taken.changes, colour=colour, nothing="nothing was taken: it is all as it was")]
    if taken.left:
        listed = ", ".join(f"{count} {status}" for status, count in taken.left.items())
        lines.append(f"left as they were: {listed} (--status takes others)\n")
    lines += [f"note: {note}\n" for note in taken.notes]
    if taken.files:
        names = " ".join(map(str, taken.files))
        lines.append(
            f"written: {', '.join(map(str, taken.files))}\nnot accepted until it is committed, with the reason: "
            f'git add {names} && git commit -m "Baseline from run {taken.run}: …"\n'
        )
    return "".join(lines)


def taken_json(taken: Taken) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "run": taken.run,
        "changes": changes_json(taken.changes),
        "left": dict(taken.left),
        "files": [str(file) for file in taken.files],
        "notes": list(taken.notes),
    }


def changes_json(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Changes as plain values."""
    return [{**asdict(change), "ratio": change.ratio} for change in changes]


def pruned_text(pruned: Pruned, *, dry: bool, colour: bool) -> str:
    """What was removed, or would be."""
    text = changes_text(pruned.changes, colour=colour, nothing="nothing to remove")
    if not pruned.files:
        return text
    words = "would be rewritten" if dry else "rewritten; commit them with the reason"
    return text + f"{words}: {', '.join(map(str, pruned.files))}\n"


def _table(columns: Mapping[str, int]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name, width in columns.items():
        table.add_column(name, justify="right" if name in _RIGHT else "left", overflow="fold", width=width)
    return table
