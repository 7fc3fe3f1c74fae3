"""What a bisection knows, and the folder that it is kept in: ``bisect.json``, rewritten after every commit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from sglperf.core.bisection import Judged, Side, Symptom
from sglperf.errors import StoreError
from sglperf.store import write_atomically

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Step:
    """One commit measured beside the good one.

    Attributes:
        commit: full hash.
        side: what is said of it.
        sentence: why.
        run: folder of the run, below the bisection's.
    """

    commit: str
    side: Side
    sentence: str
    run: str


@dataclass(frozen=True)
class Bisection:
    """What is known so far, as ``bisect.json`` holds it.

    Attributes:
        identity: what makes it the same bisection when it is asked for again.
        sought: what is worse at the bad end; None before that is known.
        steps: commits between the ends, in the order in which they were measured.
        culprit: the first bad commit; None while it is sought, or where those around it could not be told.
        suspects: where it could not be told, those of which one is.
        confirmed: whether it is also worse than its parent, and why that is said; None before that was measured.
        against: that parent, or its nearest ancestor that could be measured.
        why: what the likeliest cause is, for each server config that the culprit changed.
        also: of the other cases that are worse at the bad end, those that this commit makes worse.
    """

    identity: Mapping[str, Any]
    sought: Symptom | None = None
    steps: tuple[Step, ...] = ()
    culprit: str | None = None
    suspects: tuple[str, ...] = ()
    confirmed: Judged | None = None
    against: str | None = None
    why: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    finished: bool = False
    schema_version: int = field(default=SCHEMA_VERSION)

    def on(self, side: Side) -> list[str]:
        """Commits of which that is said."""
        return [step.commit for step in self.steps if step.side is side]


@contextmanager
def bisection_folder(results: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of the unfinished bisection that is the same one, or a new one; nobody else's meanwhile.

    Raises:
        StoreError: it cannot be written, or another process is at work in it.
    """
    known = [
        file.parent
        for file in sorted(results.glob("bisect-*/bisect.json"))
        if (found := _document(file))["identity"] == identity and not found["finished"]
    ]
    folder = known[-1] if known else results / f"bisect-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield folder
    except Timeout:
        raise StoreError(
            f"another process is at this bisection, in {folder}: wait for it, or end it"
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {error.strerror}. Give another with --results-dir"
        ) from error


def _document(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
        if found["schema_version"] == SCHEMA_VERSION:
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {"identity": None, "finished": True}  # somebody else's, or another version's: left alone


def read_bisection(folder: Path, identity: Mapping[str, Any]) -> Bisection:
    """What is known from before; the case that was sought and the commits that were measured."""
    file = folder / "bisect.json"
    if not file.exists():
        return Bisection(identity)
    found = _document(file)
    sought = found["sought"] and Symptom(**{**found["sought"], "others": tuple(found["sought"]["others"])})
    steps = tuple(Step(**{**step, "side": Side(step["side"])}) for step in found["steps"])
    return Bisection(identity, sought, steps)


def write_bisection(folder: Path, bisection: Bisection) -> None:
    """Keep what is known by now, all or nothing."""
    write_atomically(
        folder / "bisect.json", orjson.dumps(asdict(bisection), option=orjson.OPT_INDENT_2) + b"\n"
    )
