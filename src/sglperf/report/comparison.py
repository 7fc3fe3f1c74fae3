"""A comparison as JSON: the verdict table, what differs around it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_FIGURES = ("base_center", "head_center", "ratio", "low", "high", "p_family", "detectable_effect")


def comparison_json(run: Mapping[str, Any], folder: str) -> str:
    """Of a run's document, what `sglperf compare` shows; its samples stay in ``run.json``."""
    document = {
        "schema_version": run["schema_version"],
        "run": run["run"],
        "folder": folder,
        "targets": {
            side: {name: target[name] for name in ("label", "version", "commit", "dirty_hash", "notes")}
            for side, target in run["targets"].items()
        },
        "cases": {name: _case(case) for name, case in run["cases"].items()},
        "context_differences": run["context_differences"],
        "explanations": run["explanations"],
        "failures": run["failures"],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


def _case(case: Mapping[str, Any]) -> dict[str, Any]:
    figures = case["comparison"] or {}
    return {
        **{name: figures.get(name) for name in _FIGURES},
        "unit": case["metric"]["unit"],
        "kind": case["metric"]["kind"],
        "status": case["status"],
        "code": case["code"],
        "sentence": case["sentence"],
    }
