"""What lies between two revisions, in git's own order; and every way in which they are no two ends."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from revisions import commit, git

from sglperf.errors import TargetError
from sglperf.target.history import describe, diffstat, history, next_candidate, parent


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Sixteen commits after a first one; every fourth touches only the documentation."""
    where = tmp_path / "sg"
    commit(where, "zero", {"python/a.py": "0", "docs/a.md": "0"})
    git(where, "tag", "v0")
    for number in range(1, 17):
        name = "docs/a.md" if number % 4 == 0 else "python/a.py"
        commit(where, f"number {number}", {name: str(number)})
        git(where, "tag", f"v{number}")
    return where


def found_by_bisection(
    repository: Path, culprit: int, broken: frozenset[int] = frozenset()
) -> tuple[str, int]:
    """Bisect with a judge that knows; the culprit's subject and how many commits were looked at."""
    between = history(repository, "v0", "v16")
    good, bad, skipped, looks = [], between.bad, [], 0
    while True:
        choice, left = next_candidate(between, good, bad, skipped)
        if choice is None:
            assert len(left) == 1 or broken
            return describe(repository, bad).subject, looks
        looks += 1
        number = int(describe(repository, choice).subject.split()[1])
        if number in broken:
            skipped.append(choice)
        elif number >= culprit:
            bad = choice
        else:
            good.append(choice)


@pytest.mark.parametrize("culprit", [1, 2, 3, 7, 9, 11, 13, 14, 15])
def test_every_culprit_is_found(repository: Path, culprit: int) -> None:
    """By as many looks as halving takes; commits that touch nothing that is run are never looked at."""
    subject, looks = found_by_bisection(repository, culprit)
    assert subject == f"number {culprit}"
    assert looks <= math.ceil(math.log2(12))


def test_broken_commits_are_passed_over(repository: Path) -> None:
    """One that cannot be told costs one look, unless the culprit is next to it."""
    subject, looks = found_by_bisection(repository, 11, frozenset({7}))
    assert subject == "number 11"
    assert looks <= math.ceil(math.log2(12)) + 1


@pytest.mark.parametrize("newest", [1, 3, 5, 7, 9])
def test_ties(repository: Path, newest: int) -> None:
    """Of two that halve what is left alike the newer one is taken, whatever their hashes are."""
    between = history(repository, "v0", "v16")
    choice, left = next_candidate(between, [], between.candidates[newest], [])
    assert len(left) % 2 == 1
    assert choice == left[len(left) // 2]


def test_next_to_a_broken_one(repository: Path) -> None:
    """Where the commit before the first bad one cannot be told, both are left."""
    between = history(repository, "v0", "v16")
    commits = {int(describe(repository, one).subject.split()[1]): one for one in between.candidates}
    choice, left = next_candidate(between, [commits[5]], commits[7], [commits[6]])
    assert choice is None
    assert left == (commits[7], commits[6])


def test_what_lies_between(repository: Path) -> None:
    """All commits are counted, those that matter are listed, and the bad end is the last of these."""
    between = history(repository, "v0", "v16")
    assert (between.commits, len(between.candidates)) == (16, 12)
    assert between.bad == git(repository, "rev-parse", "v15")
    assert describe(repository, between.bad).subject == "number 15"
    assert describe(repository, between.bad).author == "A. Uthor"
    assert parent(repository, between.bad) == git(repository, "rev-parse", "v14")
    assert diffstat(repository, between.bad).splitlines()[0].split() == ["python/a.py", "|", "2", "+-"]


def test_two_branches(repository: Path) -> None:
    """A branch is refused with the commit where it parted."""
    git(repository, "checkout", "-q", "-b", "side", "v5")
    commit(repository, "aside", {"python/b.py": "1"})
    parted = git(repository, "rev-parse", "v5")[:9]
    with pytest.raises(TargetError, match=f"v9 is no ancestor of side: they parted at {parted}"):
        history(repository, "v9", "side")


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("v9", "v5", "v5 comes before v9, or is it: give the good revision first"),
        ("v3", "v4", "v3 and v4 run the same code: none of the 1 commits between them touches python"),
        ("v3", "v3", "v3 and v3 run the same code"),
        ("v3", "v99", "no revision 'v99' in .*: fetch it"),
        ("--all", "v3", "no revision '--all'"),
    ],
)
def test_no_two_ends(repository: Path, good: str, bad: str, said: str) -> None:
    """One message that says what is wrong with them."""
    with pytest.raises(TargetError, match=said):
        history(repository, good, bad)


def test_shallow_clone(repository: Path, tmp_path: Path) -> None:
    """A revision that a shallow clone lacks is named, with how to get it."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "3", "--no-tags", repository.as_uri(), str(clone))
    old = git(repository, "rev-parse", "v2")
    with pytest.raises(
        TargetError, match=r"which is a shallow clone: fetch the rest \(git -C .* fetch --unshallow"
    ):
        history(clone, old, "HEAD")


def test_no_repository(tmp_path: Path) -> None:
    """A folder that is no repository is named as that."""
    with pytest.raises(TargetError, match="is no git repository: give the path of an SGLang clone"):
        history(tmp_path, "v1", "v2")
