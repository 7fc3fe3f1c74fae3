"""Two builds beside each other, on the double of SGLang: order of rounds, and one of them having a bad day."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import pytest
from double import make_target
from suite import NOT_DOUBLED, SMALL, Ended, Suite, interrupt


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", {**SMALL, "launches": 4}, without=NOT_DOUBLED)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_target(tmp_path_factory.mktemp("good") / "sg")


def compared(suite: Suite, base: Path, head: Path, *arguments: str) -> Ended:
    return suite.run("-m", "decode", f"--base={base}", f"--head={head}", *arguments)


def test_rounds_take_turns(suite: Suite, good: Path) -> None:
    """Both servers are up at once, and their rounds of each workload come in ABBA order; which is A is drawn."""
    ended = compared(suite, good, good)
    assert ended.code == 0, ended.output
    journal = ended.journal
    for launch in range(4):
        kinds = [
            line["kind"]
            for line in journal
            if line.get("launch", line.get("round", {})) and _launch_of(line) == launch
        ]
        assert [kind for kind, _ in groupby(kinds)] == ["launch", "round"]
        rounds = [
            line["round"] for line in journal if line["kind"] == "round" and line["round"]["launch"] == launch
        ]
        for workload in {one["workload"] for one in rounds}:
            sides = [one["side"] for one in rounds if one["workload"] == workload]
            assert len(sides) == 4
            assert sides == sides[::-1]
    first = [
        next(
            line["round"]["side"]
            for line in journal
            if _launch_of(line) == launch and line["kind"] == "round"
        )
        for launch in range(4)
    ]
    assert sorted(first[:2]) == sorted(first[2:]) == ["base", "head"]


def _launch_of(line: dict) -> int | None:
    if line["kind"] == "launch":
        return int(line["launch"]["index"])
    return int(line["round"]["launch"]) if line["kind"] == "round" else None


def test_slower_head(suite: Suite, good: Path, tmp_path: Path) -> None:
    """A head that is five times slower is regressed against the base beside it, and its counts are not."""
    ended = compared(suite, good, make_target(tmp_path / "slow", "slow"))
    assert ended.code == 1, ended.output
    assert ended.status("decode-p64-n12-s1", "inter_token_latency") == "regressed"
    assert ended.status("decode-p64-n12-s1", "decode_tokens") == "unchanged"
    (why,) = ended.run["explanations"].values()
    assert why["sentence"].startswith(
        "likeliest cause: operator aten::copy_, 0.000 → 4.000 ms a step: 100% of"
    )
    assert "calls in a step that changed: aten::copy_ 0 → 1" in why["sentence"]
    assert why["sentence"] in " ".join(ended.output.split())


def test_why_can_be_left_out(suite: Suite, good: Path, tmp_path: Path) -> None:
    """``--why=off`` starts nothing after the verdicts; ``always`` profiles what did not change."""
    slow = make_target(tmp_path / "slow", "slow")
    ended = compared(suite, good, slow, "--why=off")
    assert not ended.run["explanations"]["torch_native-page16-tp0"]["profiles"]
    assert ended.folder is not None
    assert not (ended.folder / "profiles").exists()
    ended = compared(suite, good, good, "--why=always")
    assert ended.code == 0, ended.output
    assert ended.run["explanations"]["torch_native-page16-tp0"]["profiles"]


def test_as_json(suite: Suite, good: Path) -> None:
    """``sglperf compare --json=-`` prints the table and what differs as JSON, and nothing else."""
    done = subprocess.run(
        [
            sys.executable, "-c", "from sglperf.cli import main; main()",
            "compare", str(good), str(good), "--json=-", "-m", "decode and exact", "--profile=small",
        ],
        cwd=suite.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {case["status"] for case in found["cases"].values()} == {"unchanged"}
    assert found["targets"]["base"]["version"] == "0.5.23"
    assert (found["explanations"], found["failures"]) == ({}, [])
    assert "=== sglperf ===" in done.stderr


def test_interrupted_profile(suite: Suite, good: Path, tmp_path: Path) -> None:
    """Ctrl-C while the two are profiled ends them, and the verdicts are shown all the same."""
    process = suite.start(
        "-m", "decode", f"--base={good}", f"--head={make_target(tmp_path / 'slow', 'slow')}"
    )
    end = time.monotonic() + 120
    while not list(suite.folder.glob("results/*/profiles")) and time.monotonic() < end:
        time.sleep(0.02)
    interrupt(process)
    ended = suite.finish(process)
    assert ended.code == 1, ended.output
    assert "interrupted: the verdicts stand, without a profile" in ended.output
    assert ended.status("decode-p64-n12-s1", "inter_token_latency") == "regressed"


@pytest.mark.parametrize(("side", "said"), [("head", "invalid"), ("base", "base:")])
def test_one_dies(suite: Suite, good: Path, tmp_path: Path, side: str, said: str) -> None:
    """A server that dies in a round ends its own side only: the other is measured to its end, and the cases are invalid."""
    bad = make_target(tmp_path / "bad", "dies-mid-round")
    ended = compared(suite, *((bad, good) if side == "base" else (good, bad)))
    assert ended.code == 3, ended.output
    assert set(ended.statuses().values()) == {"invalid"}
    assert said in ended.output
    rounds = [line["round"]["side"] for line in ended.journal if line["kind"] == "round"]
    other = "base" if side == "head" else "head"
    assert rounds.count(other) == 4 * 2 * 2
    assert rounds.count(side) < 4


def test_time_is_over(suite: Suite, good: Path) -> None:
    """No launch is begun that would not end in time; what was measured is judged and kept, with the reason."""
    ended = suite.run("-m", "decode", f"--target={good}", "--time-limit=0.1")
    assert ended.code == 0, ended.output
    assert {one["index"] for one in ended.run["launches"]} == {0}
    assert set(ended.statuses().values()) == {"new"}
    assert "ended after 1 of 4 launches: another one would not fit in 0.1 s (--time-limit)" in " ".join(
        ended.output.split()
    )


def test_no_time_for_a_profile(suite: Suite, good: Path) -> None:
    """What the time limit has no room for is not begun after the verdicts either, and why says so."""
    ended = compared(suite, good, good, "--why=always", "--time-limit=0.1")
    (why,) = ended.run["explanations"].values()
    assert why["notes"] == ["no profile: it would not fit in 0.1 s (--time-limit)"]
    assert why["profiles"] == []
    assert "no profile: it would not fit in 0.1 s" in ended.output
    assert ended.folder is not None
    assert not (ended.folder / "profiles").exists()
