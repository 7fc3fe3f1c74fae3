"""``sglperf calibrate``, run as a user runs it, on the double of an SGLang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from double import make_target
from suite import NOT_DOUBLED, SMALL, Suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", SMALL, without=NOT_DOUBLED)


def sglperf(suite: Suite, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from sglperf.cli import main; main()", *arguments],
        cwd=suite.folder,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_launches_of_one_build_are_measured_kept_and_quoted(suite: Suite, tmp_path: Path) -> None:
    """It prints a table, keeps a file beside the baseline, records no baseline, and later verdicts quote it."""
    target = f"--target={make_target(tmp_path / 'sg')}"
    done = sglperf(
        suite, "calibrate", "--launches=4", "--a-side=2", "-m", "decode", "--profile=small", target
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 launches of one build, 400 splits into 2 and 2" in done.stdout
    (file,) = suite.folder.glob("baselines/*/*.json")
    assert file.name == "decode.calibration.json"
    assert str(file.relative_to(suite.folder)) in done.stdout
    for _ in range(2):
        ended = suite.run("-m", "decode", target)
    assert ended.code in (0, 1), ended.output
    timing = next(
        case for case in ended.run["cases"].values() if case["metric"]["name"] == "decode_throughput"
    )
    assert "calibrated on 4 launches of one build" in timing["sentence"]


def test_a_run_that_was_made_can_be_learnt_from(suite: Suite, tmp_path: Path) -> None:
    """--of starts nothing; too few launches are said with the number that it takes."""
    target = f"--target={make_target(tmp_path / 'sg')}"
    ended = suite.run("-m", "decode", target, "--launches=4", "--baseline=off")
    assert ended.folder is not None
    done = sglperf(suite, "calibrate", f"--of={ended.folder}", "--a-side=2", "--json=-")

    assert json.loads(done.stdout)["launches"] == 4
    done = sglperf(suite, "calibrate", f"--of={ended.folder}", "--a-side=3")
    assert (done.returncode, done.stdout) == (3, "")
    assert "measure 6 or more" in done.stderr
    done = sglperf(suite, "calibrate", "--of=nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere: not a run" in done.stderr


def test_what_stops_the_suite_stops_the_calibration(suite: Suite) -> None:
    """A bad option of pytest's side ends it with the suite's own message and code."""
    done = sglperf(suite, "calibrate", "-m", "decode", "--profile=nope")

    assert done.returncode == 2
    assert "unknown profile 'nope'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
