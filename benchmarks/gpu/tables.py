"""Figures of runs with their intervals, as tables for a page of the documentation.

    python benchmarks/gpu/tables.py results/gpu/flashinfer/RUN/run.json …

The value is the geometric mean of launches, the interval holds it with 95 % confidence as far as the launches of one
run tell; one launch tells none. Of a comparison and of a contrast, the ratio is shown instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sglperf.core.catalogue import METRICS
from sglperf.core.estimate import estimate
from sglperf.report.quantity import quantity


def main() -> None:
    """One table a run."""
    for name in sys.argv[1:]:
        run = json.loads(Path(name).read_text())
        print(f"\n{run['run']}, {run['targets']['head']['label']}\n")
        print("| server | workload | metric | value | 95 % interval | launches |\n|---|---|---|---|---|---|")
        for row in rows(run):
            print(f"| {' | '.join(row)} |")
        for line in contrasts(run):
            print(line)


def contrasts(run: dict[str, Any]) -> Iterator[str]:
    """Servers side by side as a table, where there are any."""
    if run["contrasts"]:
        yield "\n| servers | workload | metric | times | 95 % interval |\n|---|---|---|---|---|"
    for one in run["contrasts"]:
        value, low, high = one["speedup"]
        # A single launch of each tells no interval: its ends are nothing and infinity.
        interval = f"{low:.3f} … {high:.3f}" if low and high else "–"
        servers = f"{one['other']} over {one['reference']}"
        yield f"| {servers} | {one['workload']} | {one['metric']} | {value:.3f} | {interval} |"


def rows(run: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Of every timing that was measured."""
    for case in run["cases"].values():
        if case["metric"]["kind"] != "timing" or not case["head"]:
            continue
        found = estimate(case["head"], METRICS[case["metric"]["name"]], alpha=0.05)
        assert found is not None
        value, low, high = (quantity(one, case["metric"]["unit"]) for one in found)
        interval = f"{low} … {high}" if len(case["head"]) > 1 else "–"
        launches = str(len(case["head"]))
        yield case["config"], case["workload"], case["metric"]["name"], value, interval, launches


if __name__ == "__main__":
    main()
