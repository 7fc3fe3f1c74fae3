"""Documents of runs that were never made, for the tests of the history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samples import ask, stored

POINT = ask().point
LATENCY, FIRST, TOKENS = (
    f"{POINT}/{name}" for name in ("inter_token_latency", "time_to_first_token", "prefill_tokens")
)
Rounds = Sequence[Sequence[float]]


def run_name(night: int) -> str:
    """The run of a night, counted from the first of January."""
    return f"2026{1 + night // 28:02d}{1 + night % 28:02d}-030000-7"


def document(
    night: int,
    metrics: Mapping[str, Rounds],
    *,
    version: str = "0.5.22",
    commit: str | None = None,
    tag: str = "nightly",
    kernel: str = "6.1",
    resolved: Mapping[str, Any] | None = None,
    statuses: Mapping[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """``run.json`` of one night; ``changes`` are of its records."""
    run = run_name(night)
    recorded = f"{run[:4]}-{run[4:6]}-{run[6:8]}T03:10:00Z"
    known = {"page_size": 16, "attention_backend": "torch_native", **(resolved or {})}
    results = stored(
        metrics, run=run, versions={"sglang": version, "torch": "2.11.0"}, resolved=known, recorded=recorded, **changes
    )  # fmt: skip
    return {
        "schema_version": 1,
        "run": run,
        "settings": {"tag": tag},
        "machine": {"host": {"kernel": kernel, "governor": None}, "gpus": {"driver": None, "cuda": None}},
        "targets": {
            "head": {"label": f"sglang {version}", "version": version, "commit": commit, "dirty_hash": None}
        },
        "cases": {f"{POINT}/{name}": {"status": (statuses or {}).get(name, "unchanged")} for name in metrics},
        "results": [results.model_dump(mode="json")],
    }


def keep(results: Path, document: Mapping[str, Any]) -> Path:
    """The document in its run's folder."""
    folder = results / str(document["run"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(document))
    return folder
