"""pytest-benchmark shows exactly what was measured elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.catalogue import METRICS
from sglperf.recorder import ReplayTimer, durations

pytest_plugins = ("pytester",)


@given(st.lists(st.floats(1e-7, 1e3), min_size=1, max_size=50))
def test_the_clock_moves_by_what_was_measured_and_only_then(seconds):
    """Read before and after each round, it gives back each duration; read twice, it stands still."""
    timer = ReplayTimer()
    found = []
    for value in seconds:
        before = timer()
        assert timer() == before
        timer.advance(value)
        found.append(timer() - before)

    assert found == pytest.approx(seconds, rel=1e-6, abs=1e-11)


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("inter_token_latency", (0.1, 0.2), (0.1, 0.2)),
        ("decode_throughput", (100.0, 50.0), (0.01, 0.02)),
        ("inter_token_latency_growth", (1.1,), ()),
        ("inter_token_latency_slope", (1e-7,), ()),
        ("cached_tokens", (288.0,), ()),
        ("prompt_tokens", (0.0,), ()),
        ("inter_token_latency", (), ()),
    ],
)
def test_what_is_a_duration(metric, values, expected):
    """Seconds as they are, throughputs as seconds per token, everything else not at all."""
    assert durations(METRICS[metric], values) == expected


SUITE = """
from types import SimpleNamespace

import pytest
from sglperf.core.catalogue import METRICS
from sglperf.core.judgement import Evidence, Question
from sglperf.core.verdict import Status, Verdict
from sglperf.recorder import record

LAUNCHES = {
    "inter_token_latency": ((0.005, 0.006), (0.007,)),
    "decode_throughput": ((100.0,), (50.0, 200.0)),
    "cached_tokens": ((288.0,),),
    "time_to_first_token": (),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_case(request, name):
    question = Question(METRICS[name], Evidence(LAUNCHES[name]), None)
    verdict = Verdict(Status.NEW, "no-baseline", "no baseline yet")
    outcome = SimpleNamespace(questions={name: question}, verdicts={name: verdict}, folder="results")
    record(request, outcome, name)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """Four cases, two of which are durations."""
    pytester.makepyfile(test_suite=SUITE)
    pytester.mkdir("results")
    return pytester


def benchmarks(path: Path) -> dict[str, dict[str, object]]:
    return {entry["group"]: entry for entry in json.loads(path.read_text())["benchmarks"]}


def test_rounds_reach_the_report_of_pytest_benchmark(suite):
    """All rounds of all launches are in its file, with the verdict beside them, and medians in its table."""
    result = suite.runpytest_inprocess("-p", "no:cacheprovider")
    found = benchmarks(suite.path / "results" / "benchmark.json")

    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random(["*inter_token_latency*", "*decode_throughput*"])
    assert set(found) == {"inter_token_latency", "decode_throughput"}
    assert found["inter_token_latency"]["stats"]["data"] == pytest.approx([0.005, 0.006, 0.007])
    assert found["inter_token_latency"]["stats"]["median"] == pytest.approx(0.006)
    assert found["decode_throughput"]["stats"]["data"] == pytest.approx([0.01, 0.02, 0.005])
    assert 1 / found["decode_throughput"]["stats"]["median"] == pytest.approx(100)
    assert found["decode_throughput"]["extra_info"] == {
        "case": "decode_throughput",
        "unit": "tok/s",
        "launches": [[100.0], [50.0, 200.0]],
        "verdict": "new",
        "code": "no-baseline",
        "sentence": "no baseline yet",
    }


def test_a_file_that_the_user_names_is_the_one_written(suite):
    """--benchmark-json keeps its meaning, and nothing is written beside it."""
    result = suite.runpytest_inprocess("-p", "no:cacheprovider", "--benchmark-json=mine.json")

    result.assert_outcomes(passed=4)
    assert set(benchmarks(suite.path / "mine.json")) == {"inter_token_latency", "decode_throughput"}
    assert list((suite.path / "results").iterdir()) == []


@pytest.mark.parametrize("option", ["--benchmark-disable", "-pno:benchmark"])
def test_without_the_recorder_the_tests_still_run(suite, option):
    """A run is judged the same where pytest-benchmark is switched off or absent."""
    suite.runpytest_inprocess("-p", "no:cacheprovider", option).assert_outcomes(passed=4)
