"""Traced rounds where the profiler misbehaves, on the double: its traces are made up, what becomes of the server is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from double import make_target
from suite import NOT_DOUBLED, SMALL, Ended, Suite

TRACES = ("trace-decode", "trace-prefill")


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """The suite with a profile for the double."""
    return Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)


def lifecycle(suite: Suite, tmp_path: Path, fault: str = "") -> Ended:
    target = make_target(tmp_path / "target")
    return suite.run("-m", "lifecycle", f"--target={target}", "--baseline=off", DOUBLE_FAULT=fault)


def traced(ended: Ended) -> list[tuple[int, str, float | None]]:
    """Launch, workload and operators of a step of each traced round."""
    return [
        (one["launch"], one["workload"].rsplit("-p", 1)[0], one["values"].get("step_operators"))
        for one in ended.run["rounds"]
        if one["workload"].startswith("trace-")
    ]


def test_every_launch_is_traced_last(suite: Suite, tmp_path: Path) -> None:
    """Another workload first on each; a request's life is shown."""
    ended = lifecycle(suite, tmp_path)
    assert ended.code == 0, ended.output
    assert traced(ended) == [
        (0, "trace-prefill", 1.0),
        (0, "trace-decode", 1.0),
        (1, "trace-decode", 1.0),
        (1, "trace-prefill", 1.0),
    ]
    assert set(ended.statuses().values()) == {"new"}
    assert "on the way to the first token" in ended.output
    plain = [one for one in ended.run["rounds"] if one["launch"] == 0]
    assert [one["workload"][:9] for one in plain] == ["lifecycle", "lifecycle", "trace-pre", "trace-dec"]


def test_a_server_that_dies_of_its_profiler_has_been_measured(suite: Suite, tmp_path: Path) -> None:
    """Its trace counts, and what came before; the next launch begins with the workload that it was too late for."""
    ended = lifecycle(suite, tmp_path, "dies-of-its-profiler")
    assert ended.code == 0, ended.output
    assert traced(ended) == [(0, "trace-prefill", 1.0), (1, "trace-decode", 1.0)]
    assert set(ended.statuses().values()) == {"new"}


def test_a_profiler_that_leaves_nothing_is_named(suite: Suite, tmp_path: Path) -> None:
    """What only a trace tells is invalid, and nothing else."""
    ended = lifecycle(suite, tmp_path, "no-trace+dies-of-its-profiler")
    assert ended.code != 0
    assert "the server's profiler left no trace of trace-prefill-p512-r2" in ended.output
    invalid = {name for name, status in ended.statuses().items() if status == "invalid"}
    assert {name.split("/")[-2][:6] for name in invalid} == {"trace-"}
    assert {status for name, status in ended.statuses().items() if name not in invalid} == {"new"}


def test_a_server_whose_clock_is_wrong(suite: Suite, tmp_path: Path) -> None:
    """Its story and the client's contradict one another: no phase is believed, what the client saw is."""
    ended = lifecycle(suite, tmp_path, "clock-behind")
    assert ended.code != 0
    assert ended.status("lifecycle", "time_to_batch") == "invalid"
    assert ended.status("lifecycle", "inter_token_latency") == "new"
    assert "the server's times contradict the client's by" in " ".join(ended.output.split())
