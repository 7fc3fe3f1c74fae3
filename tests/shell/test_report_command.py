"""A run leaves its report, and ``sglperf report`` makes it again: on the double of SGLang."""

from __future__ import annotations

from pathlib import Path

import pytest
from double import make_target
from suite import NOT_DOUBLED, SMALL, Ended, Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(
        tmp_path_factory.mktemp("report") / "suite", {**SMALL, "html_report": True}, without=NOT_DOUBLED
    )


@pytest.fixture(scope="module")
def ended(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    target = make_target(tmp_path_factory.mktemp("target") / "sg")
    return suite.run("-m", "decode", f"--target={target}", "--baseline=off")


def test_a_run_leaves_its_report(ended: Ended) -> None:
    """Beside run.json, with every case, its plots and its settings; and a summary for a CI job's page."""
    assert ended.folder is not None, ended.output
    page = (ended.folder / "report.html").read_text(encoding="utf-8")
    summary = (ended.folder / "summary.md").read_text(encoding="utf-8")

    assert "could not be drawn" not in ended.output
    assert page.startswith("<!doctype html>")
    for section in ("series", "distributions", "environment", "config", "gates"):
        assert f'<section id="{section}"' in page
    for case in ended.run["cases"].values():
        assert case["workload"] in page
    assert len([line for line in summary.splitlines() if line.startswith("| new |")]) == len(
        ended.run["cases"]
    )


def test_the_command_makes_it_again(suite: Suite, ended: Ended, tmp_path: Path) -> None:
    """The same page from what was kept; elsewhere where that is asked for."""
    assert ended.folder is not None, ended.output
    made = (ended.folder / "report.html").read_bytes()
    (ended.folder / "report.html").unlink()

    process = suite.command("report", str(ended.folder))
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, f"{ended.folder / 'report.html'}\n")
    assert (ended.folder / "report.html").read_bytes() == made

    process = suite.command("report", str(ended.folder / "run.json"), f"--output={tmp_path / 'other.html'}")
    assert process.wait(timeout=120) == 0
    assert (tmp_path / "other.html").read_bytes() == made


def test_a_folder_that_is_no_run_is_a_usage_error(suite: Suite, tmp_path: Path) -> None:
    """One line names it."""
    process = suite.command("report", str(tmp_path))
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 2
    assert output.startswith(f"sglperf: {tmp_path / 'run.json'}: not a run")
    assert len(output.splitlines()) == 1
