"""Servers that a test names by mark: who selects the test is told what is wrong with them, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from suite import SMALL, Suite

COLLECT = ("--collect-only", "-q", "--page-size=3")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", SMALL)


def test_only_the_selected_tests_matter(suite: Suite) -> None:
    """A page size that does not divide the prefix cache's chunk is no matter to decoding."""
    ended = suite.run("-m", "decode", *COLLECT)
    assert ended.code == 0, ended.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (COLLECT, "chunked_prefill_tokens is 512: not a multiple of the page of 3 tokens"),
        (("--collect-only",), "no settings for a server 'radix' in"),
    ],
)
def test_what_is_wrong_is_said_once(suite: Suite, arguments: tuple[str, ...], said: str) -> None:
    """A chunk that is no whole number of pages, or a name that no configuration has: one message, before anything starts."""
    if "--page-size=3" not in arguments:
        file = suite.folder / "config" / "suite.yaml"
        file.write_text(file.read_text().replace("  radix: {", "  other: {"))
    ended = suite.run("-m", "radix and not timing", *arguments)
    assert ended.code == 2, ended.output
    assert " ".join(ended.output.split()).count(said) == 1
    assert "Traceback" not in ended.output


def test_each_workload_has_a_verdict_of_its_own(suite: Suite) -> None:
    """A test that asks for a metric twice is told to become two."""
    (suite.folder / "perf_tests" / "test_twice.py").write_text(
        "import pytest\nfrom sglperf import ColdWarm, Flushed\n\n\n"
        "@pytest.mark.radix\n@pytest.mark.server('radix')\ndef test_twice(server, measure):\n"
        "    measure(ColdWarm()).expect('cached_tokens')\n    measure(Flushed()).expect('cached_tokens')\n"
    )
    ended = suite.run("--collect-only", "-q")
    assert ended.code != 0
    assert "asks for cached_tokens twice, and an item has one verdict" in ended.output
