"""Where shards' runs are found again: in a folder, or in the history."""

from __future__ import annotations

from pathlib import Path

from sglperf.errors import UsageError
from sglperf.merging import Shards, read_documents, read_folder
from sglperf.settings import Settings


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

    history = History(settings.history_url)
    try:
        return read_documents(history.shards(name), name, history.place)
    finally:
        history.close()
