"""pytest-xdist, which runs tests in several processes at once: servers would be measured beside one another."""

from __future__ import annotations

from pathlib import Path

from double import make_target
from suite import SMALL, Suite


def test_the_suite_refuses_to_run_side_by_side(tmp_path: Path) -> None:
    """Nothing is measured, it is said why, and the exit code is not that of a regression."""
    suite = Suite(tmp_path / "suite", SMALL)
    target = f"--target={make_target(tmp_path / 'sg')}"
    ended = suite.run("-m", "decode and timing", "-n", "2", target, PYTEST_ADDOPTS="")

    assert ended.code == 4, ended.output
    assert "would measure servers beside one another" in ended.output
    assert "Traceback" not in ended.output
    assert not list((suite.folder / "results").glob("*"))
    alone = suite.run("-m", "decode and exact", "-n", "0", target, PYTEST_ADDOPTS="")
    assert alone.code == 0, alone.output
