"""``pytest -m env`` on the double of an SGLang: what is missing fails, and a start is timed by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from double import make_target
from suite import SMALL, Ended, Suite

READY = ("-m", "env and exact", "-k", "ready", "-rA")
START = ("-m", "env", "-k", "test_start")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", SMALL)


def starts(ended: Ended, side: str = "head") -> list[float]:
    """Startup seconds of each launch of a side."""
    return [one["startup_seconds"] for one in ended.run["launches"] if one["side"] == side]


def test_what_is_missing_fails_its_area(suite: Suite, tmp_path: Path) -> None:
    """With the sentence and without a server; on a machine that has all, all is well, and TP is not asked for."""
    python = make_target(tmp_path / "sg")
    fine = suite.run(*READY, f"--target={python}")
    assert (fine.code, fine.folder) == (0, None), fine.output
    assert "PASSED perf_tests/test_environment.py::test_ready[decode]" in fine.output
    assert "the profile has no TP set of several ranks" in fine.output
    found = suite.run(*READY, f"--target={python}", "--tp-gpus=auto")
    assert (found.code, found.folder) == (0, None), found.output
    assert "PASSED perf_tests/test_environment.py::test_ready[tp]" in found.output

    (metadata,) = (tmp_path / "sg").glob("lib/python*/site-packages/sglang-*.dist-info/METADATA")
    metadata.write_text(
        metadata.read_text() + "Requires-Dist: torch==2.13.0\nRequires-Dist: nothing; extra == 'x'\n"
    )
    ended = suite.run(*READY, f"--target={python}", "--tp-gpus=0,1")
    assert (ended.code, ended.folder) == (1, None), ended.output
    said = "SGLang requires torch==2.13.0 (2.14.1 is installed): pip install that there, or name another --target"
    assert ended.output.count(said) == 10
    for area in ("env", "decode", "tp"):
        assert f"FAILED perf_tests/test_environment.py::test_ready[{area}]" in ended.output
    assert "Traceback" not in ended.output


def test_a_target_that_is_not_there(suite: Suite, tmp_path: Path) -> None:
    """One line for each area, and no traceback."""
    ended = suite.run(*READY, f"--target={tmp_path / 'nowhere'}")

    assert ended.code != 0
    assert "nowhere" in ended.output
    assert "Traceback" not in ended.output


def test_a_start_counts_once_a_launch(suite: Suite, tmp_path: Path) -> None:
    """However many rounds and workloads follow; beside it the size of the KV cache, exactly."""
    target = f"--target={make_target(tmp_path / 'sg')}"
    first = suite.run("-m", "env or decode", "-k", "test_start or streams1", target)
    assert first.code == 0, first.output
    (start,) = [case for case in first.run["cases"].values() if case["metric"]["name"] == "startup_seconds"]
    assert start["head"] == [[seconds] for seconds in starts(first)]
    assert len(start["head"]) == SMALL["launches"]
    assert first.status("prefill-p16-r1", "kv_capacity_tokens") == "new"

    again = suite.run(*START, target)
    assert again.code in (0, 1), again.output
    assert again.status("prefill-p16-r1", "kv_capacity_tokens") == "unchanged"
    assert again.status("prefill-p16-r1", "startup_seconds") in (
        "unchanged",
        "inconclusive",
        "regressed",
        "improved",
    )


def test_timed_starts_of_two_builds_follow_one_another(suite: Suite, tmp_path: Path) -> None:
    """Side by side each would be slowed by the other, and the second one waited for would count the first one's time."""
    builds = [f"--{side}={make_target(tmp_path / side)}" for side in ("base", "head")]
    ended = suite.run(*START, *builds, "--why=off")

    assert ended.code in (0, 1), ended.output
    taken = sum(starts(ended, "base")) + sum(starts(ended, "head"))
    assert taken <= ended.run["seconds"]["start"]
