"""Bisection: the ends, then the middle of what is left, each beside the good one, until one commit is left.

Every comparison is a run of the suite in a process of its own, with its own folder. What has been measured is in
``bisect.json`` the moment it is known, so an interrupted bisection goes on from there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from sglperf.bisection_file import Bisection, Step, bisection_folder, read_bisection, write_bisection
from sglperf.core.bisection import Judged, Side, judge_commit, symptom
from sglperf.errors import MeasurementError, UsageError
from sglperf.reporting import keep_bisection_report
from sglperf.suite_process import last_lines, run_pytest
from sglperf.target.history import Commit, History, describe, diffstat, history, next_candidate, parent

# An undecided commit is measured once more, with new launches, before it is left out.
_ATTEMPTS = 2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What a bisection came to."""

    bisection: Bisection
    history: History
    folder: Path
    culprit: Commit | None
    suspects: tuple[Commit, ...]
    diffstat: str


def bisect(good: str, bad: str, repository: Path, arguments: Sequence[str], results: Path, say: Say) -> Found:
    """Find the first commit after ``good`` that is worse, as ``bad`` is.

    Args:
        arguments: pytest's, which choose what is measured and how.
        results: where the bisection's folder is, or is made.
        say: told what happens, a line at a time.

    Raises:
        TargetError: the revisions are not two ends of a history.
        MeasurementError: an end could not be measured, or nothing is worse at the bad one.
        StoreError: its folder cannot be written, or another process is at work in it.
    """
    path = history(repository, good, bad)
    identity = {
        "repository": str(repository.resolve()),
        "good": path.good,
        "bad": path.bad,
        "arguments": list(arguments),
    }
    with bisection_folder(results, identity) as folder:
        bisection = read_bisection(folder, identity)
        work = _Work(path, folder, tuple(arguments), say)
        bisection = _ends(work, bisection)
        bisection = _narrowed(work, bisection)
        bisection = replace(_confirmed(work, bisection), finished=True)
        write_bisection(folder, bisection)
        for note in keep_bisection_report(folder):
            say(note)
    culprit = bisection.culprit
    return Found(
        bisection,
        path,
        folder,
        describe(repository, culprit) if culprit else None,
        tuple(describe(repository, one) for one in bisection.suspects),
        diffstat(repository, culprit) if culprit else "",
    )


@dataclass(frozen=True)
class _Work:
    history: History
    folder: Path
    arguments: tuple[str, ...]
    say: Say

    def compare(self, base: str, head: str, name: str, *, why: str = "off") -> tuple[Mapping[str, Any], str]:
        """The document of a run that compares two commits, and its folder below the bisection's."""
        before = {file.parent for file in self.folder.glob(f"{name}/*/run.json")}
        command = [
            *("--base", base),
            *("--head", head),
            f"--sglang-repo={self.history.repository}",
            f"--results-dir={self.folder / name}",
            f"--why={why}",
        ]
        log = self.folder / f"{name}.log"
        code = run_pytest([*command, *self.arguments], log)
        runs = {file.parent for file in self.folder.glob(f"{name}/*/run.json")} - before
        if not runs:
            raise _NothingMeasured(code, last_lines(log))
        (run,) = runs
        document: Mapping[str, Any] = orjson.loads((run / "run.json").read_bytes())
        return document, str(run.relative_to(self.folder))

    def named(self, commit: str) -> str:
        """A commit as a line begins with it."""
        known = describe(self.history.repository, commit)
        return f"{known.short} {known.subject[:60]}"


class _NothingMeasured(Exception):
    """A run came to nothing."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code, self.said = code, said


def _ends(work: _Work, bisection: Bisection) -> Bisection:
    if bisection.sought is not None:
        work.say(f"resuming: {len(bisection.steps)} commits measured before; kept in {work.folder}")
        return bisection
    between = work.history
    steps = math.ceil(math.log2(len(between.candidates))) if len(between.candidates) > 1 else 0
    touching = len(between.candidates)
    touch = "" if touching == between.commits else f", of which {touching} touch what is run"
    work.say(f"{between.commits} commits{touch}: the ends, then about {steps} more; kept in {work.folder}")
    work.say(f"good {work.named(between.good)}")
    work.say(f"bad  {work.named(between.bad)}: measuring both")
    try:
        document, _ = work.compare(between.good, between.bad, "ends")
    except _NothingMeasured as nothing:
        raise _translated(nothing, "the ends could not be measured") from nothing
    failed = _failure(document)
    if failed is not None:
        raise MeasurementError(f"the {failed[0]} end could not be measured: {failed[1]}")
    sought = symptom(document["cases"])
    if sought is None:
        raise MeasurementError(
            "nothing is worse at the bad end, so there is nothing to find: "
            f"{_counted(document['cases'])}. Choose the cases with -m and -k, or more launches (--launches)"
        )
    others = f" (and {len(sought.others)} more)" if sought.others else ""
    work.say(f"bad  {sought.case}{others}: {sought.sentence}")
    bisection = replace(bisection, sought=sought)
    write_bisection(work.folder, bisection)
    return bisection


def _narrowed(work: _Work, bisection: Bisection) -> Bisection:
    while True:
        known_bad = bisection.on(Side.BAD)
        bad = known_bad[-1] if known_bad else work.history.bad
        choice, left = next_candidate(work.history, bisection.on(Side.GOOD), bad, bisection.on(Side.UNKNOWN))
        if choice is None:
            alone = len(left) <= 1
            return replace(bisection, culprit=bad if alone else None, suspects=() if alone else left)
        number = len(bisection.steps) + 1
        work.say(f"{number:<4} {work.named(choice)}: measuring; {len(left)} commits left")
        step = _measured(work, bisection, choice, f"step-{number}-{choice[:9]}")
        work.say(f"     {step.side.value}: {step.sentence}")
        bisection = replace(bisection, steps=(*bisection.steps, step))
        write_bisection(work.folder, bisection)


def _measured(work: _Work, bisection: Bisection, commit: str, name: str) -> Step:
    assert bisection.sought is not None
    judged, run = Judged(Side.UNKNOWN, ""), ""
    for _ in range(_ATTEMPTS):
        try:
            document, run = work.compare(work.history.good, commit, name)
        except _NothingMeasured as nothing:
            return Step(commit, Side.UNKNOWN, f"not measured: {nothing.said}", run)
        failed = _failure(document)
        if failed is not None and failed[0] == "good":
            raise MeasurementError(f"the good end no longer starts: {failed[1]}")
        if failed is not None:
            return Step(commit, Side.UNKNOWN, f"not measured: {_first_line(failed[1])}", run)
        judged = judge_commit(document["cases"], bisection.sought)
        if judged.side is not Side.UNKNOWN:
            break
    return Step(commit, judged.side, judged.sentence, run)


def _confirmed(work: _Work, bisection: Bisection) -> Bisection:
    """The culprit beside its parent, or where that could not be measured, beside its nearest ancestor that could."""
    if bisection.culprit is None or bisection.confirmed is not None:
        return bisection
    assert bisection.sought is not None
    before = parent(work.history.repository, bisection.culprit) or work.history.good
    if before in bisection.on(Side.UNKNOWN):
        good = bisection.on(Side.GOOD)
        before = good[-1] if good else work.history.good
    work.say(f"first bad: {work.named(bisection.culprit)}; beside {before[:9]}: measuring")
    try:
        document, _ = work.compare(before, bisection.culprit, "confirmation", why="auto")
    except _NothingMeasured as nothing:
        raise _translated(nothing, "the culprit could not be measured beside its parent") from nothing
    failed = _failure(document)
    judged = (
        Judged(Side.UNKNOWN, f"not measured: {failed[1]}")
        if failed is not None
        else judge_commit(document["cases"], bisection.sought)
    )
    worse = [name for name, case in document["cases"].items() if case["status"] == "regressed"]
    also = tuple(name for name in bisection.sought.others if name in worse)
    why = tuple(one["sentence"] for one in document["explanations"].values())
    bisection = replace(bisection, confirmed=judged, against=before, why=why, also=also)
    write_bisection(work.folder, bisection)
    return bisection


def _failure(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which end's server failed, and how."""
    for failure in sorted(document["failures"], key=lambda one: str(one["side"])):
        return "good" if failure["side"] == "base" else "bad", failure["sentence"]
    return None


def _counted(cases: Mapping[str, Mapping[str, Any]]) -> str:
    counts = Counter(case["status"] for case in cases.values())
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "no case"


def _translated(nothing: _NothingMeasured, what: str) -> Exception:
    kind = UsageError if nothing.code in (2, 4, 5) else MeasurementError
    return kind(f"{what}:\n{nothing.said}")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
