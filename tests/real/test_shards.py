"""A run of real SGLang in four shards against the unsplit one: counts have no noise, so both come to the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from suite import Ended, Suite

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"),
    pytest.mark.nightly,
]
SMALL = {
    "launches": 3,
    "rounds": 2,
    "sweeps": {"streams": [1], "prompt_tokens": [64], "prefix_tokens": [256]},
}
# Servers with and without a prefix cache, on two sizes of pages.
WHAT = ("-m", "radix and exact", "--page-size=1,16", "-k", "not policies and not 10000 and not 100000")
# Of a case, all but where and when.
CASE = ("area", "model", "config", "workload", "metric", "base", "head", "status", "code", "sentence")


def cases(ended: Ended) -> dict[str, dict]:
    return {name: {key: case[key] for key in CASE} for name, case in ended.run["cases"].items()}


def test_four_shards_are_one_run(tmp_path: Path) -> None:
    """Same cases, same counts, same verdicts; each server in one shard; and the merge starts nothing."""
    suite = Suite(tmp_path / "suite", SMALL)
    whole = suite.run(*WHAT)
    assert whole.code == 0, whole.output
    shards = [
        suite.run(*WHAT, f"--shard={index}/4", f"--results-dir=parts/{index}") for index in (1, 2, 3, 4)
    ]
    assert [one.code for one in shards] == [0] * 4, "\n".join(one.output for one in shards)
    merged = suite.run(*WHAT, "--merge-shards=parts", timeout=60)

    assert merged.code == 0, merged.output
    assert {case["code"] for case in cases(whole).values()} == {"as-predicted"}
    assert cases(merged) == cases(whole)
    started = sorted(launch["config"] for launch in whole.run["launches"])
    assert sorted(launch["config"] for launch in merged.run["launches"]) == started
    assert len(started) == len(set(started)) > 4
