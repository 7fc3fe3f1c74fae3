"""The timings of a run as a data set that can be kept: ``python benchmarks/verdicts/samples.py results/RUN``.

Only what statistics need is taken: case, metric, launches × rounds to seven digits, versions and processor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sglperf.calibrating import timings
from sglperf.kept_run import read_run


def data_set(run: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run of one build."""
    samples, _ = timings(run["cases"])
    return {
        "sglang": run["targets"]["head"]["packages"]["sglang"],
        "processor": run["machine"]["host"]["cpu_model"],
        "cpus": run["machine"]["host"]["available_cpus"],
        "run": run["run"],
        "alpha": run["settings"]["alpha"],
        "min_effect": run["settings"]["min_effect"],
        "cases": {
            name: {
                "metric": metric.name,
                "launches": [[float(f"{value:.7g}") for value in rounds] for rounds in launches],
            }
            for name, (metric, launches) in samples.items()
        },
    }


if __name__ == "__main__":
    print(json.dumps(data_set(read_run(Path(sys.argv[1]))), separators=(",", ":")).replace('},"', '},\n"'))
