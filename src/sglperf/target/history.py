"""The commits between two revisions, as git orders a bisection. The repository is only read."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sglperf.errors import TargetError
from sglperf.target.revision import RUN_PATHS, find_revision, git, is_shallow, unknown_revision

_DISTANCE = re.compile(r"(?P<commit>[0-9a-f]{40,64}) .*\bdist=(?P<distance>\d+)")


@dataclass(frozen=True)
class Commit:
    """A commit as a person knows it.

    Attributes:
        commit: full hash.
        subject: first line of its message.
        author: name.
        date: ``2026-11-25``.
    """

    commit: str
    subject: str
    author: str
    date: str

    @property
    def short(self) -> str:
        """Nine digits of its hash."""
        return self.commit[:9]


@dataclass(frozen=True)
class History:
    """What lies between a good and a bad commit.

    Attributes:
        good, bad: full hashes; ``bad`` is the newest commit that runs what the bad revision runs.
        commits: how many lie between, ``bad`` included.
        candidates: those of them that touch what is run, likewise.
    """

    repository: Path
    good: str
    bad: str
    commits: int
    candidates: tuple[str, ...]


def history(repository: Path, good: str, bad: str) -> History:
    """The history between two revisions.

    Raises:
        TargetError: one is unknown, they are not one after the other, or nothing that is run differs.
    """
    first, last = _commit(repository, good), _commit(repository, bad)
    if git(repository, "merge-base", "--is-ancestor", first, last).returncode:
        raise TargetError(_not_ancestor(repository, good, bad, first, last))
    commits = _listed(repository, last, [first])
    candidates = _listed(repository, last, [first], RUN_PATHS)
    if not candidates:
        raise TargetError(
            f"{good} and {bad} run the same code: none of the {len(commits)} commits between them touches "
            f"{', '.join(RUN_PATHS)}. Give two revisions that differ there"
        )
    if (
        last not in candidates
        and not git(repository, "diff", "--quiet", candidates[0], last, "--", *RUN_PATHS).returncode
    ):
        last = candidates[0]
    return History(repository, first, last, len(commits), tuple(candidates))


def _commit(repository: Path, name: str) -> str:
    found = find_revision(repository, name)
    if found is None:
        raise TargetError(unknown_revision(repository, name))
    return found


def _not_ancestor(repository: Path, good: str, bad: str, first: str, last: str) -> str:
    base = git(repository, "merge-base", first, last).stdout.decode().strip()
    if not git(repository, "merge-base", "--is-ancestor", last, first).returncode:
        return f"{bad} comes before {good}, or is it: give the good revision first, then the bad one"
    if base:
        return (
            f"{good} is no ancestor of {bad}: they parted at {base[:9]}. Bisect from there if it is good: "
            f"sglperf bisect {base[:9]} {bad}"
        )
    hint = (
        ", which is a shallow clone: fetch the rest (git fetch --unshallow)" if is_shallow(repository) else ""
    )
    return f"{good} and {bad} have no history in common in {repository}{hint}"


def _listed(repository: Path, last: str, without: Sequence[str], paths: Sequence[str] = ()) -> list[str]:
    found = git(repository, "rev-list", last, *(f"^{one}" for one in without), "--", *paths)
    return found.stdout.decode().split()


def next_candidate(
    history: History, good: Collection[str], bad: str, skipped: Collection[str]
) -> tuple[str | None, tuple[str, ...]]:
    """The commit whose measurement halves what is left, by git's own count; and all that are left, newest first.

    Of two that halve it alike, the newer one.

    Args:
        good: commits known to be good, besides ``history.good``.
        bad: the oldest commit known to be bad.
        skipped: commits that cannot be told.

    Returns:
        No commit where nothing is left to be measured: then ``bad`` is the first bad one, or one of those skipped.
    """
    known = (history.good, *good)
    without = (f"^{one}" for one in known)
    ranked = git(history.repository, "rev-list", "--bisect-all", bad, *without, "--", *RUN_PATHS)
    distance = {
        found["commit"]: int(found["distance"])
        for line in ranked.stdout.decode().splitlines()
        if (found := _DISTANCE.match(line))
    }
    left = tuple(_listed(history.repository, bad, known, RUN_PATHS))
    # Git breaks ties by hash, so a history rewritten with other dates would be bisected by another road.
    order = sorted(left, key=lambda commit: -distance.get(commit, 0))
    choice = next((commit for commit in order if commit != bad and commit not in skipped), None)
    return choice, left


def describe(repository: Path, commit: str) -> Commit:
    """What a person knows it by."""
    said = git(repository, "log", "-1", "--date=short", "--format=%H%x00%s%x00%an%x00%ad", commit)
    parts = said.stdout.decode(errors="replace").strip().split("\0")
    return Commit(*parts) if len(parts) == 4 else Commit(commit, "", "", "")


def parent(repository: Path, commit: str) -> str | None:
    """Its first parent, if it is there."""
    return find_revision(repository, f"{commit}^")


def diffstat(repository: Path, commit: str, width: int = 100) -> str:
    """Which files it changes, and by how many lines."""
    shown = git(repository, "show", f"--stat={width}", "--format=", "--no-color", commit)
    return shown.stdout.decode(errors="replace").strip(os.linesep)
