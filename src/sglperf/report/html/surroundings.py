"""What surrounds the figures: claims, builds, machine, settings, resolved arguments, launches and gates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sglperf.core.catalogue import METRICS
from sglperf.report.html.parts import Folded, Table, shortened
from sglperf.report.html.run import Run
from sglperf.report.quantity import quantity

_MOST_ROWS = 60
_MOST_LISTINGS = 6


def claims(run: Run) -> Iterator[Table]:
    """What the run says of each statement, and the figures of it that it rests on."""
    checked = run.document.get("claims", ())
    if checked:
        rows = [
            [one["name"], one["standing"], one["statement"], one["reason"], one["source"]] for one in checked
        ]
        yield Table("Statements", ("claim", "standing", "statement", "reason", "source"), rows, words=5)
    measured = [
        [
            one["name"], figure["workload"], figure["metric"], _servers(figure), str(figure.get("launches", "–")),
            *(_figure(figure, key) for key in ("value", "low", "high")), figure["standing"],
        ]
        for one in checked
        for figure in one["measured"]
    ]  # fmt: skip
    if measured:
        shown, note = shortened(measured, _MOST_ROWS, "run.json")
        head = ("claim", "workload", "metric", "server", "launches", "figure", "from", "to", "by itself")
        yield Table("Figures that they rest on", head, shown, words=4, note=note)


def _servers(figure: Mapping[str, Any]) -> str:
    over = figure.get("over")
    return f"{figure.get('server') or figure['config']}" + (f" over {over}" if over else "")


def _figure(figure: Mapping[str, Any], key: str) -> str:
    value = figure[key]
    if value is None:
        return "unknown"
    metric = METRICS.get(figure["metric"])
    return f"{value:.3g}" if figure.get("over") or metric is None else quantity(value, metric.unit)


def differences(run: Run) -> Iterator[Table]:
    """What may differ between the sides, and does."""
    rows = [[label, one] for label, entries in run.document["context_differences"].items() for one in entries]
    if rows:
        shown, note = shortened(rows, _MOST_ROWS, "run.json")
        yield Table("Base → head", ("server", "what differs"), shown, words=2, note=note)


def builds(run: Run) -> Table:
    """What was measured, side by side."""
    targets = run.document["targets"]
    rows = [
        [name, *(str(target.get(name) or "–") for target in targets.values())]
        for name in ("label", "version", "commit", "interpreter", "import_path", "dirty_hash")
    ]
    packages = dict.fromkeys(name for target in targets.values() for name in target["packages"])
    rows += [[name, *(target["packages"].get(name, "–") for target in targets.values())] for name in packages]
    rows += [["notes", *("; ".join(target["notes"]) or "–" for target in targets.values())]]
    return Table("Builds", ("", *targets), rows, words=1 + len(targets))


def machine(run: Run) -> Iterator[Table]:
    """The host, its GPUs, and what timings of each server may be compared with."""
    host = run.document["machine"]["host"]
    yield Table(
        "Host", ("", ""), [[name.replace("_", " "), _shown(value)] for name, value in host.items()], words=2
    )
    gpus = run.document["machine"]["gpus"]["gpus"]
    if gpus:
        names = [name for name in gpus[0] if not isinstance(gpus[0][name], dict | list)]
        rows = [[name.replace("_", " "), *(_shown(gpu.get(name)) for gpu in gpus)] for name in names]
        yield Table(
            "GPUs",
            ("", *(str(gpu.get("index", at)) for at, gpu in enumerate(gpus))),
            rows,
            words=1 + len(gpus),
        )
    rows = [[label, one["id"]] for label, one in run.document["fingerprints"].items()]
    yield Table("Fingerprints", ("server", "timings are comparable with those of"), rows, words=2)


def launches(run: Run) -> Table:
    """Each server start."""
    rows = [
        [
            one["config"], one["side"], str(one["index"]), quantity(one["startup_seconds"], "s"),
            "–" if one["kv_capacity_tokens"] is None else quantity(one["kv_capacity_tokens"], "tok"), one["version"],
        ]
        for one in run.document["launches"]
    ]  # fmt: skip
    shown, note = shortened(rows, _MOST_ROWS, "run.json")
    return Table(
        "Launches", ("server", "side", "launch", "up after", "KV cache", "version"), shown, words=2, note=note
    )


def resolved_differences(run: Run) -> Iterator[Table]:
    """Arguments of which servers of the run differ, as each server itself says."""
    servers = _resolved(run)
    if len(servers) < 2:
        return
    names = sorted({name for one in servers.values() for name in one})
    rows = []
    for name in names:
        values = [_shown(one[name]) if name in one else "not there" for one in servers.values()]
        if len(set(values)) > 1:
            rows.append([name, *values])
    shown, note = shortened(rows, _MOST_ROWS, "run.json")
    if rows:
        yield Table(
            "Differences between servers", ("argument", *servers), shown, words=1 + len(servers), note=note
        )


def listings(run: Run) -> Iterator[Folded]:
    """All of each server's resolved arguments, and the settings with the origin of each."""
    settings = run.document["settings"]
    origins = settings["origins"]
    lines = [
        f"{name}: {_shown(value)}    ({origins.get(name, 'built-in default')})"
        for name, value in settings.items()
        if name != "origins"
    ]
    yield Folded("Settings, each with its origin", "\n".join(lines))
    for label, one in list(_resolved(run).items())[:_MOST_LISTINGS]:
        yield Folded(
            f"Resolved arguments of {label}",
            "\n".join(f"{name}: {_shown(value)}" for name, value in sorted(one.items())),
        )


def _resolved(run: Run) -> dict[str, Mapping[str, Any]]:
    """Server (and side, where there are two) → its first launch's resolved arguments."""
    found: dict[str, Mapping[str, Any]] = {}
    for one in run.document["launches"]:
        if one["resolved"]:
            named = f"{one['config']}, {one['side']}" if run.paired else one["config"]
            found.setdefault(named, one["resolved"])
    return found


def gates(run: Run) -> Iterator[Table]:
    """Rounds that failed one, and servers that failed."""
    failures = [
        [one["side"], one["config"], one["code"], one["sentence"]] for one in run.document["failures"]
    ]
    if failures:
        yield Table("Servers that failed", ("side", "server", "code", "reason"), failures, words=4)
    failed = [(one, gate) for one in run.rounds for gate in one.gates]
    if not failed:
        return
    counted = Counter(gate["code"] for _, gate in failed)
    yield Table("Gates", ("gate", "rounds"), [[code, str(count)] for code, count in counted.most_common()])
    rows = [
        [
            gate["code"], one.side, one.config, one.workload, str(one.launch), str(one.index),
            "–" if one.line is None else str(one.line), gate["sentence"],
        ]
        for one, gate in failed
    ]  # fmt: skip
    shown, note = shortened(rows, _MOST_ROWS, "journal.jsonl")
    head = ("gate", "side", "server", "workload", "launch", "round", "line", "reason")
    yield Table("Rounds that failed a gate", head, shown, words=8, note=note)


def seconds(run: Run) -> Table:
    """Where the wall time went."""
    rows = [[name, quantity(value, "s")] for name, value in run.document["seconds"].items()]
    return Table("Wall time", ("", "seconds"), rows)


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        text = ", ".join(map(_shown, value))
        return text if len(text) <= 160 else f"{text[:157]}…"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return str(value)
