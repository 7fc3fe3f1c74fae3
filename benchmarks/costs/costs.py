"""What the harness itself costs: collecting the suite, and the part of a run that measures nothing.

    python benchmarks/costs/costs.py [RUN.json ...]

Collection is timed in fresh processes, the suite and as many empty tests taking turns, so that a busy
machine slows both. For each ``run.json`` given, the wall time is divided into server starts, the warm-up
that ends a start (SGLang's own is skipped), measured load and the rest.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
TURNS = 11


def main() -> None:
    """Print one table."""
    table = Table(title="Costs of the harness", title_justify="left")
    for column in ("what", "figure", "limit"):
        table.add_column(column)
    suite, empty, tests = collection_seconds()
    table.add_row(f"collect {tests} perf tests, median of {TURNS}", f"{suite:.2f} s", "")
    table.add_row(f"collect {tests} empty tests without sglperf", f"{empty:.2f} s", "")
    table.add_row("the suite's own share", f"{suite - empty:.2f} s", "0.5 s")
    for path in sys.argv[1:]:
        for what, figure, limit in run_rows(json.loads(Path(path).read_text())):
            table.add_row(what, figure, limit)
    Console(width=100).print(table)


def collection_seconds() -> tuple[float, float, int]:
    """Median seconds to collect the suite, to collect as many empty tests, and how many they are."""
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch)
        listed = run_pytest(ROOT, "--collect-only", "-q", "--profile=cpu")
        tests = sum("::" in line for line in listed.splitlines())
        (empty / "test_empty.py").write_text("".join(f"def test_{n}(): pass\n" for n in range(tests)))
        (empty / "pytest.ini").write_text("[pytest]\n")
        times: dict[str, list[float]] = {"suite": [], "empty": []}
        for _ in range(TURNS):
            times["suite"].append(timed(ROOT, "--collect-only", "-q", "--profile=cpu"))
            times["empty"].append(timed(empty, "--collect-only", "-q", "-p", "no:sglperf"))
    return statistics.median(times["suite"]), statistics.median(times["empty"]), tests


def timed(folder: Path, *arguments: str) -> float:
    """Wall seconds of a pytest process."""
    begin = time.perf_counter()
    run_pytest(folder, *arguments)
    return time.perf_counter() - begin


def run_pytest(folder: Path, *arguments: str) -> str:
    """Output of pytest in ``folder``."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def run_rows(run: dict[str, object]) -> list[tuple[str, str, str]]:
    """Rows for one run's wall time."""
    seconds = run["seconds"]
    assert isinstance(seconds, dict)
    rest = seconds["total"] - seconds["start"] - seconds["warm-up"] - seconds["load"]
    return [
        (f"run {run['run']}, wall time", f"{seconds['total']:.0f} s", "240 s"),
        ("  server starts", f"{seconds['start']:.0f} s", ""),
        ("  warm-up: each shape's first pass", f"{seconds['warm-up']:.0f} s", ""),
        ("  measured load", f"{seconds['load']:.0f} s", ""),
        ("  the rest", f"{rest:.1f} s = {rest / seconds['total']:.1%}", "3 %"),
    ]


if __name__ == "__main__":
    main()
