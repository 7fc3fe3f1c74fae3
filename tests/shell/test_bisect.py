"""Bisection on the double of SGLang: sixteen commits, two culprits, one that does not import."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from double import make_home, sources
from revisions import commit, git
from suite import NOT_DOUBLED, SMALL, Suite, alive, gone

SLOW_FROM, SHORT_FROM, BROKEN = 11, 6, 9


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home") / "env")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v0 to v16: a page of prefix match is dropped by the sixth, each token slowed down by the eleventh."""
    where = tmp_path_factory.mktemp("sglang") / "sg"
    commit(where, "zero", sources())
    git(where, "tag", "v0.5.23")
    for number in range(17):
        faults = [
            name for name, first in (("page-short", SHORT_FROM), ("slow", SLOW_FROM)) if number >= first
        ]
        files = sources("+".join(faults))
        files["python/sglang/notes.py"] = f"NUMBER = {number}\n"
        if number == BROKEN:
            files["python/sglang/launch_server.py"] = "import nothing_of_that_name\n"
        if number == 3:
            files = {"docs/readme.md": "three"}
        commit(where, f"number {number}", files)
        git(where, "tag", f"v{number}")
    return where


@pytest.fixture
def suite(tmp_path: Path, home: Path) -> Suite:
    return Suite(tmp_path / "suite", {**SMALL, "launches": 4, "sweeps": {"streams": [1], "prompt_tokens": [64]}}, without=NOT_DOUBLED, python=home)  # fmt: skip


def bisected(suite: Suite, repository: Path, *arguments: str) -> tuple[int, str]:
    process = suite.command("bisect", *arguments, "--profile=small", f"--sglang-repo={repository}")
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def found(suite: Suite) -> dict:
    (file,) = (suite.folder / "results").glob("bisect-*/bisect.json")
    return json.loads(file.read_text())


@pytest.mark.timeout(300)
def test_a_slower_commit(suite: Suite, repository: Path) -> None:
    """The commit, its effect, its confirmation beside its parent and its diffstat, by five looks or fewer."""
    before = git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")
    code, output = bisected(
        suite, repository, "v0", "v16", "-m", "decode and timing", "-k", "latency or throughput"
    )
    assert code == 0, output
    state = found(suite)
    assert state["finished"]
    assert len(state["steps"]) <= 5
    assert state["culprit"] == git(repository, "rev-parse", f"v{SLOW_FROM}")
    assert state["confirmed"]["side"] == "bad"
    assert state["why"][0].startswith("likeliest cause: operator aten::copy_")
    assert state["why"][0] in output
    assert not list((suite.folder / "results").glob("bisect-*/step-*/*/profiles"))
    assert f"first bad commit: {state['culprit'][:9]} 2026-11-25 A. Uthor: number {SLOW_FROM}" in output
    assert "launch_server.py" in output
    (page,) = (suite.folder / "results").glob("bisect-*/report.html")
    drawn = page.read_text(encoding="utf-8")
    assert f"First bad commit: {state['culprit'][:9]} 2026-11-25 A. Uthor: number {SLOW_FROM}" in drawn
    assert all(f'href="{step["run"]}/report.html"' in drawn for step in state["steps"])
    assert (git(repository, "status", "--porcelain"), git(repository, "rev-parse", "HEAD")) == before
    assert not list(repository.glob(".git/worktrees/*"))


@pytest.mark.timeout(300)
def test_a_dropped_page_after_an_interruption(suite: Suite, repository: Path) -> None:
    """A count needs one launch, and a commit that does not import is passed over with its reason.

    Ctrl-C ends everything that was started; the same command again measures only what is left.
    """
    arguments = ("bisect", "v0", "v16", "-m", "prefill and exact", "-k", "reuse", "--profile=small", f"--sglang-repo={repository}")  # fmt: skip
    process = suite.command(*arguments)
    file = _await_steps(suite, 2)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    before_output = output = process.communicate(timeout=120)[0]
    assert process.returncode == 2, output
    assert "interrupted; the same command goes on from here" in output
    assert "Traceback" not in output
    assert gone(lambda: alive(below))
    before = json.loads(file.read_text())
    assert not before["finished"]

    again = suite.command(*arguments)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert f"resuming: {len(before['steps'])} commits measured before" in output
    after = json.loads(file.read_text())
    assert after["steps"][: len(before["steps"])] == before["steps"]
    assert len(after["steps"]) <= 5
    assert after["culprit"] == git(repository, "rev-parse", f"v{SHORT_FROM}")
    assert "of which 15 touch what is run" in before_output
    (broken,) = [step for step in after["steps"] if step["side"] == "unknown"]
    assert broken["commit"] == git(repository, "rev-parse", f"v{BROKEN}")
    assert "nothing_of_that_name" in broken["sentence"]


def _await_steps(suite: Suite, number: int) -> Path:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for file in (suite.folder / "results").glob("bisect-*/bisect.json"):
            if len(json.loads(file.read_text())["steps"]) >= number:
                return file
        time.sleep(0.05)
    raise AssertionError("no step was measured")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("v6", "v7", "-m", "prefill and exact", "-k", "reuse"), 3, "nothing is worse at the bad end"),
        (("v0", "v9", "-m", "prefill and exact"), 3, "the bad end could not be measured"),
        (("v0", "v16", "-m", "no_such_area"), 2, "the ends could not be measured"),
        (("v0", "v99", "-m", "decode"), 2, "no revision 'v99'"),
        (("-m", "decode", "v0", "v16"), 2, "'-m' was taken for GOOD: name GOOD and BAD first"),
    ],
)
@pytest.mark.timeout(120)
def test_nothing_to_find(
    suite: Suite, repository: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Ends that do not differ, that cannot be measured, or that are none: one message, and what was measured is kept."""
    ended, output = bisected(suite, repository, *arguments)
    assert ended == code, output
    assert said in " ".join(output.split())
    assert "Traceback" not in output


@pytest.mark.parametrize(("head", "code"), [("v7", 1), ("v5", 0), ("v9", 125), ("v99", 129)])
@pytest.mark.timeout(120)
def test_a_step_of_git_bisect_run(suite: Suite, repository: Path, head: str, code: int) -> None:
    """Its exit codes are those that git takes for bad, good, skip and stop."""
    ended, output = bisected(
        suite, repository, "v0", head, "--step", "-m", "prefill and exact", "-k", "reuse"
    )
    assert ended == code, output


@pytest.mark.timeout(300)
def test_git_bisect_run(suite: Suite, repository: Path, tmp_path: Path) -> None:
    """git itself, with a step of ours, finds the same commit."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    git(clone, "bisect", "start", "v16", "v0")
    script = (
        f"cd {suite.folder} && {suite.python} -c 'from sglperf.cli import main; main()' bisect --step "
        f"$(git -C {clone} rev-parse v0) {clone} --sglang-repo={clone} --profile=small -m 'prefill and exact' -k reuse"
    )
    said = git(clone, "bisect", "run", "sh", "-c", script)
    assert f"{git(repository, 'rev-parse', f'v{SHORT_FROM}')} is the first bad commit" in said
