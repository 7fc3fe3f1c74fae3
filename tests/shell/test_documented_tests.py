"""The tests that docs/writing-tests.md writes down, run as they stand there.

The first on a double of SGLang; of the second, which needs a prefix cache, what it plans.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from double import make_target
from suite import ROOT, SMALL, Suite

PAGE = (ROOT / "docs" / "writing-tests.md").read_text(encoding="utf-8")
FIRST, _, PREFIXES, PLUGIN = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", {**SMALL, "launches": 3, "sweeps": {"streams": [1]}})


def test_it_has_ten_lines_at_most() -> None:
    """As promised, blank ones apart."""
    assert 0 < sum(bool(line.strip()) for line in FIRST.splitlines()) <= 10


def test_the_first_finds_a_slower_server(suite: Suite, tmp_path: Path) -> None:
    """New at first, then compared: what is the same is not regressed, and a server that takes five times as long is."""
    name = re.search(r"perf_tests/test_\w+\.py", PAGE)
    assert name is not None
    (suite.folder / name[0]).write_text(FIRST)
    arguments = ("-k", "long_answers", f"--target={make_target(tmp_path / 'target')}")

    first = suite.run(*arguments)
    assert first.code == 0, first.output
    assert len(first.statuses()) == 2
    assert set(first.statuses().values()) == {"new"}
    assert "test_long_answers[torch_native-page16-tp0-streams1-decode_throughput]" in first.output
    slower = suite.run(*arguments, DOUBLE_FAULT="slow")
    assert slower.code == 1, slower.output
    assert set(slower.statuses().values()) == {"regressed"}


def test_prefixes_can_be_planned(suite: Suite) -> None:
    """Two counts on pages of each of three sizes."""
    (suite.folder / "perf_tests" / "test_drafts.py").write_text(PREFIXES)
    ended = suite.run("--collect-only", "-q", "-k", "two_drafts")
    assert ended.code == 0, ended.output
    assert ended.output.count("test_two_drafts[torch_native-page") == 6


def test_a_conftest_is_enough_elsewhere(suite: Suite) -> None:
    """Without a line of the suite's own: the plugin named in the top folder."""
    for name in ("pyproject.toml", "perf_tests/test_decode.py"):
        (suite.folder / name).unlink()
    (suite.folder / "conftest.py").write_text(PLUGIN)
    (suite.folder / "perf_tests" / "test_mine.py").write_text(FIRST)
    ended = suite.run("--collect-only", "-q", "perf_tests/test_mine.py")
    assert ended.code == 0, ended.output
    assert "test_long_answers[torch_native-page16-tp0-streams1-inter_token_latency]" in ended.output
