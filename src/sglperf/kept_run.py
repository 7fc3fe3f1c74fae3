"""A run that was kept, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sglperf.errors import UsageError
from sglperf.report.document import SCHEMA_VERSION


def read_run(path: Path, *, part: bool = False) -> dict[str, Any]:
    """A run's document, from its folder or from the file itself.

    Args:
        part: whether a shard will do, whose verdicts are provisional.

    Raises:
        UsageError: there is none, or it is not one.
    """
    file = path / "run.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: not a run ({error}): name a folder below results/") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(f"{file}: schema {version}, this sglperf reads {SCHEMA_VERSION}: name another run")
    if "shard" in document and not part:
        which = document["shard"]
        raise UsageError(
            f"{file}: shard {which['index']} of {which['of']}, whose verdicts are provisional: merge all of them first (the same "
            "command with --merge-shards)"
        )
    return dict(document)
