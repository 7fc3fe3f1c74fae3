"""The prefix cache on real SGLang: every workload as the model predicts, and faults caught by name."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from faults import (
    ANSWERS_FORGOTTEN,
    FLUSH_IGNORED,
    HALF_THE_POOL,
    NEWEST_EVICTED,
    PAGE_SHORT,
    PAST_THE_DIFFERENCE,
    PYTHON_CORE,
    Edit,
    faulty,
)
from suite import Ended, Suite

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)
SMALL = {
    "launches": 3,
    "rounds": 2,
    "sweeps": {"streams": [1], "prompt_tokens": [64], "prefix_tokens": [256]},
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("radix") / "suite", SMALL)


def workloads(ended: Ended) -> Counter[str]:
    """Kind of server → cases."""
    return Counter(case["config"].partition("-tp0")[2] for case in ended.run["cases"].values())


def test_pages_of_16(suite: Suite) -> None:
    """Every workload, with the cache and without it, agrees with the model to the token."""
    ended = suite.run("-m", "radix and exact", "--page-size=16", "-k", "not policies", timeout=900)
    assert ended.code == 0, ended.output
    assert set(ended.statuses().values()) == {"unchanged"}, ended.output
    assert {case["code"] for case in ended.run["cases"].values()} == {"as-predicted"}
    assert set(workloads(ended)) == {"", "-radix", "-radix-no-prefix-cache"}


@pytest.mark.nightly
def test_as_predicted(suite: Suite) -> None:
    """Every workload, on pages of 1, 16 and 64 tokens and under every policy, agrees with the model to the token."""
    ended = suite.run("-m", "radix and exact", timeout=900)
    assert ended.code == 0, ended.output
    assert set(ended.statuses().values()) == {"unchanged"}, ended.output
    codes = {case["code"] for case in ended.run["cases"].values()}
    assert codes == {"as-predicted"}
    pages = Counter(case["config"].split("-")[1] for case in ended.run["cases"].values())
    assert set(pages) == {"page1", "page16", "page64"}
    assert set(workloads(ended)) == {
        "",
        "-radix",
        "-radix-no-prefix-cache",
        "-policies-lfu",
        "-policies-slru",
        "-policies-priority",
    }


# Fault → what is changed, the test that it fails, and what is said of the first request that differs.
FAULTS: dict[str, tuple[tuple[Edit, ...], str, str]] = {
    "matches-one-page-short": (
        (PAGE_SHORT,),
        "cold_and_warm",
        "request 2 (300 tokens, 288 shared with request 0): 272 cached, 288 predicted",
    ),
    "matches-past-the-difference": (
        (PYTHON_CORE, PAST_THE_DIFFERENCE),
        "one_token_different",
        "request 2 (300 tokens, 256 shared with request 0): 272 cached, 256 predicted",
    ),
    "evicts-the-newest": ((PYTHON_CORE, NEWEST_EVICTED), "eviction and newest", "cached, 480 predicted"),
    "forgets-answers": ((ANSWERS_FORGOTTEN,), "conversation", "cached, 64 predicted"),
    "ignores-a-flush": ((FLUSH_IGNORED,), "flush", "0 shared): 192 cached, 0 predicted"),
    "halves-the-pool": ((HALF_THE_POOL,), "eviction and newest", "cached, 480 predicted"),
}


AT_NIGHT = ("evicts-the-newest", "forgets-answers", "halves-the-pool", "matches-past-the-difference")


@pytest.mark.parametrize(
    ("edits", "test", "said"),
    [
        pytest.param(*fault, id=name, marks=[pytest.mark.nightly] if name in AT_NIGHT else [])
        for name, fault in FAULTS.items()
    ],
)
def test_faults(suite: Suite, tmp_path: Path, edits: tuple[Edit, ...], test: str, said: str) -> None:
    """A build with a fault in its prefix cache is regressed, with the first request that differs."""
    target = faulty(tmp_path / "sglang", *edits)
    ended = suite.run("-m", "radix and exact", "--page-size=16", "-k", f"{test} and radix-cached", target)
    assert ended.code == 1, ended.output
    assert set(ended.statuses().values()) == {"regressed"}
    assert said in " ".join(ended.output.split()), ended.output
