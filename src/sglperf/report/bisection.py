"""What a bisection found, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from sglperf.core.bisection import Side

if TYPE_CHECKING:
    from sglperf.bisecting import Found
    from sglperf.target.history import Commit


def bisection_text(found: Found) -> str:
    """The commit, its effect, whether it was confirmed, and what it changes."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Found) -> Iterator[str]:
    bisection = found.bisection
    yield ""
    if found.culprit is None:
        yield f"one of these {len(found.suspects)} commits is the first bad one; what could not be told is marked:"
        unknown = bisection.on(Side.UNKNOWN)
        yield from (f"{'?' if one.commit in unknown else ' '} {_named(one)}" for one in found.suspects)
        yield from (
            f"? {step.commit[:9]}: {step.sentence}" for step in bisection.steps if step.commit in unknown
        )
    else:
        yield f"first bad commit: {_named(found.culprit)}"
        yield from _effect(found)
        yield found.diffstat
    yield f"{len(bisection.steps)} commits measured besides the ends; kept in {found.folder}"


def _effect(found: Found) -> Iterator[str]:
    bisection = found.bisection
    assert bisection.sought is not None
    yield f"what is worse: {bisection.sought.case}"
    judged, against = bisection.confirmed, (bisection.against or "")[:9]
    if judged is None:
        return
    if judged.side is Side.BAD:
        yield f"confirmed beside {against}: {judged.sentence}"
    else:
        yield (
            f"NOT confirmed beside {against} ({judged.side.value}): {judged.sentence}. "
            "The effect may be spread over several commits, or too small for these launches"
        )
    yield from bisection.why
    left = [name for name in bisection.sought.others if name not in bisection.also]
    if bisection.also:
        yield f"so are: {', '.join(bisection.also)}"
    if left:
        yield f"worse at the bad end, but not by this commit (bisect again with -k): {', '.join(left)}"


def _named(commit: Commit) -> str:
    return f"{commit.short} {commit.date} {commit.author}: {commit.subject}"


def bisection_json(found: Found) -> str:
    """Everything, with the commits as a person knows them."""
    document = {
        **asdict(found.bisection),
        "found": None if found.culprit is None else asdict(found.culprit),
        "suspected": [asdict(one) for one in found.suspects],
        "diffstat": found.diffstat,
        "folder": str(found.folder),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
