"""Where shards' runs are found again: in a folder, or in the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sglperf.errors import UsageError
from sglperf.kept_run import read_run
from sglperf.merging import Shards, together
from sglperf.settings import Settings
from sglperf.shard_run import read_shard


def gather(settings: Settings) -> Shards:
    """The shards that ``merge_shards`` names.

    Raises:
        UsageError: there are none, or they do not make up one whole.
        HistoryError: the database cannot be reached or used.
    """
    name = settings.merge_shards
    assert name is not None
    folder = Path(name)
    if folder.is_dir():
        return read_folder(folder)
    if settings.history_url is None or not settings.shares:
        raise UsageError(
            f"--merge-shards={name}: no such folder; for the shards of a split in a database, name that with --history"
        )
    from sglperf.history.database import History

    with closing(History(settings.history_url)) as history:
        return read_documents(history.shards(name), name, history.place)


def read_folder(folder: Path) -> Shards:
    """The shards of which runs are kept below a folder.

    Raises:
        UsageError: there is none, one cannot be read or is no shard, or they do not make up one whole.
    """
    files = sorted(folder.rglob("run.json"))
    if not files:
        raise UsageError(f"{folder}: no run.json is below it: name the folder that holds the shards' runs")
    runs = []
    for file in files:
        journal = file.with_name("journal.jsonl")
        document = read_run(file, part=True)
        runs.append(read_shard(document, str(file.parent), journal if journal.exists() else None))
    return together(runs)


def read_documents(documents: Sequence[Mapping[str, Any]], name: str, place: str) -> Shards:
    """The shards of a split that a history holds.

    Raises:
        UsageError: there is none, or they do not make up one whole.
    """
    if not documents:
        raise UsageError(
            f"--merge-shards={name}: there is no such folder, and {place} has no shards of that name: name the folder of the "
            "shards' runs, or what they were given as --split"
        )
    runs = [read_shard(one, f"{place}, {one['run']}") for one in documents]
    return together(runs, taken=name)
