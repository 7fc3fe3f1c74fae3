"""The environments in the cache, as text and as JSON. Returns text; callers write."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglperf.target.provision import Provisioned


def cache_text(found: Sequence[Provisioned], folder: Path) -> str:
    """One line for each, and where they are."""
    lines = [
        f"{one.requirement:<20} Python {one.python:<8} {one.size / 1e9:5.1f} GB  "
        f"used {time.strftime('%Y-%m-%d', time.localtime(one.used))}{'  in use' if one.in_use else ''}"
        for one in found
    ]
    return "\n".join([*(lines or ["no environments"]), f"in {folder}", ""])


def cache_json(found: Sequence[Provisioned]) -> str:
    """The same for machines; sizes in bytes, times in seconds since 1970."""
    rows = [
        {
            "requirement": one.requirement,
            "python": one.python,
            "folder": str(one.folder),
            "bytes": one.size,
            "used": one.used,
            "in_use": one.in_use,
        }
        for one in found
    ]
    return json.dumps({"environments": rows}, indent=2) + "\n"
