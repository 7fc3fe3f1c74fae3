"""From a run's document to the history, the same after a run and whenever it is added later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sglperf.baseline_care import results_of
from sglperf.core.baseline import BaselineContext
from sglperf.core.history import contexts, entries, machine_context, run_key
from sglperf.core.trend import Build
from sglperf.errors import AlreadyMerged, SglperfError
from sglperf.evidence import meaning
from sglperf.history.database import History, Kept, Merged, ShardKept
from sglperf.kept_run import read_run
from sglperf.sharding import Split


def remember(history: History, run: Mapping[str, Any], path: Path, merged: Merged | None = None) -> bool:
    """Add a run; False where it is there already.

    Args:
        run: its document.
        path: where that is.
        merged: shards whose place it takes.

    Raises:
        UsageError: the document holds no results.
        HistoryError: the database cannot be reached or used. The run is lost to nobody: it can be added later.
    """
    results = results_of(run, path)
    statuses = {name: case["status"] for name, case in run["cases"].items()}
    machine = machine_context(run.get("machine") or {})
    target = run["targets"]["head"]
    recorded = [
        record.recorded for one in results for case in one.cases.values() for record in case.records.values()
    ]
    kept = Kept(
        key=run_key(run["run"], results),
        name=run["run"],
        recorded=max(recorded, default=_from_name(run["run"])),
        tag=str((run.get("settings") or {}).get("tag") or ""),
        build=Build(target["version"], target["commit"]),
        label=target["label"],
        compared=set(run["targets"]) != {"head"},
        document=str(path),
    )
    found = entries(results, statuses, machine, _meaning)
    return history.add(kept, found, contexts(results, machine), merged)


def remembered(kept: Path, url: str, split: Split | None = None) -> Iterator[str]:
    """Add the run to the history. It is safe on disk already, so a database that fails costs a note.

    Args:
        split: of the shards that it was merged from, which are removed in the same transaction.
    """
    try:
        with closing(History(url)) as history:
            run = read_run(kept)
            remember(history, run, kept, None if split is None else _merged(run, split))
    except AlreadyMerged as error:
        yield f"kept, but not in the history: {error}"
    except SglperfError as error:
        yield f"kept, but not in the history: {error}. Add it later: sglperf history add {kept.parent}"


def shared(kept: Path, url: str) -> Iterator[str]:
    """Put a shard's run where the others of its split are. It is safe on disk already."""
    try:
        with closing(History(url)) as history:
            run = read_run(kept, part=True)
            place = run["shard"]
            history.put_shard(
                ShardKept(
                    split=place["split"],
                    number=place["index"],
                    of=place["of"],
                    plan=place["plan"],
                    run=run["run"],
                    recorded=_from_name(run["run"]),
                    document=kept.read_bytes(),
                )
            )
        yield f"waits for the other shards in {history.place}: --merge-shards={place['split']}"
    except SglperfError as error:
        yield f"kept, but not where the other shards are: {error}. Merge the shards' folders instead"


def _merged(run: Mapping[str, Any], split: Split) -> Merged | None:
    """Shards without a name were never in a history."""
    if not split.name:
        return None
    runs = {one["index"]: one["run"] for one in run["shards"]} if split.taken else {}
    return Merged(split.name, runs)


def _meaning(context: BaselineContext, metric: str) -> str:
    return meaning(context, metric, int(context.resolved.get("page_size") or 1))


def _from_name(run: str) -> str:
    """``20261125-100619-22709`` → ISO 8601; a run without results has no other date."""
    day, clock = run[:8], run[9:15]
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}Z"
