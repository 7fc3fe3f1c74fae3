"""Bisection: the ends, then the middle of what is left, each beside the good one, until one commit is left.

Every comparison is a run of the suite in a process of its own, with its own folder. What has been measured is in
``bisect.json`` the moment it is known, so an interrupted bisection goes on from there.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from sglperf.core.bisection import Judged, Side, Symptom, judge_commit, symptom
from sglperf.errors import MeasurementError, StoreError, UsageError
from sglperf.store import write_atomically
from sglperf.target.history import Commit, History, describe, diffstat, history, next_candidate, parent

SCHEMA_VERSION = 1
# An undecided commit is measured once more, with new launches, before it is left out.
_ATTEMPTS = 2
_PR_SET_PDEATHSIG = 1
_ENDING_SECONDS = 60.0
_LAST_LINES = 12

Say = Callable[[str], None]


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
    with _folder(results, identity) as folder:
        bisection = _read(folder, identity)
        work = _Work(path, folder, tuple(arguments), say)
        bisection = _ends(work, bisection)
        bisection = _narrowed(work, bisection)
        bisection = replace(_confirmed(work, bisection), finished=True)
        _write(folder, bisection)
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
            raise _NothingMeasured(code, _last_lines(log))
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
    _write(work.folder, bisection)
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
        _write(work.folder, bisection)


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
    _write(work.folder, bisection)
    return bisection


def _failure(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which end's server failed, and how."""
    for failure in sorted(document["failures"], key=lambda one: str(one["side"])):
        return "good" if failure["side"] == "base" else "bad", failure["sentence"]
    return None


def _counted(cases: Mapping[str, Mapping[str, Any]]) -> str:
    statuses = [case["status"] for case in cases.values()]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)) or "no case"


def _translated(nothing: _NothingMeasured, what: str) -> Exception:
    kind = UsageError if nothing.code in (2, 4, 5) else MeasurementError
    return kind(f"{what}:\n{nothing.said}")


# A run of the suite, in a process of its own


def run_pytest(arguments: Sequence[str], log: Path) -> int:
    """Run pytest with its output in ``log``, and end it with this process; its exit code.

    Interrupted, it interrupts that once, and waits until everything there is ended.
    """
    libc = ctypes.CDLL(None)
    harness = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != harness:
            os._exit(1)

    with log.open("ab") as output:
        # In a session of its own, so that Ctrl-C reaches it once and through us.
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,  # noqa: PLW1509
        )
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    end = time.monotonic() + _ENDING_SECONDS
    while process.poll() is None:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
        except KeyboardInterrupt:
            continue


def _last_lines(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    return "\n".join(errors[-_LAST_LINES:] or lines[-_LAST_LINES:])


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


# What is kept


@contextmanager
def _folder(results: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of the unfinished bisection that is the same one, or a new one; nobody else's meanwhile."""
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


def _read(folder: Path, identity: Mapping[str, Any]) -> Bisection:
    file = folder / "bisect.json"
    if not file.exists():
        return Bisection(identity)
    found = _document(file)
    sought = found["sought"] and Symptom(**{**found["sought"], "others": tuple(found["sought"]["others"])})
    steps = tuple(Step(**{**step, "side": Side(step["side"])}) for step in found["steps"])
    return Bisection(identity, sought, steps)


def _write(folder: Path, bisection: Bisection) -> None:
    write_atomically(
        folder / "bisect.json", orjson.dumps(asdict(bisection), option=orjson.OPT_INDENT_2) + b"\n"
    )
