"""Verdicts on real launches of one build: ``python benchmarks/verdicts/real.py [DATA_SET]``.

Splits of the same launches are judged as if one side were base and the other head, as they are and with one
metric of the head made worse. The data set is what samples.py keeps of a run; default: the one of the tests.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sglperf.core.calibration import calibrate, judged_splits
from sglperf.core.catalogue import METRICS
from sglperf.core.launches import Launches
from sglperf.core.metric import Metric
from sglperf.core.verdict import Policy, Status

DATA = Path(__file__).parents[2] / "tests" / "data" / "aa_cpu.json"
SIDES = (3, 4, 5, 7)
SLOWER = (1.03, 1.05, 1.10, 1.20, 1.30, 1.40)
SPLITS = 2000
SPLITS_OF_A_METRIC = 100

Samples = dict[str, tuple[Metric, Launches]]


def main() -> None:
    """Print two tables."""
    data = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else DATA).read_text())
    samples = {name: (METRICS[case["metric"]], case["launches"]) for name, case in data["cases"].items()}
    policy = Policy(alpha=data["alpha"], min_effect=data["min_effect"])
    launches = min(len(rounds) for _, rounds in samples.values())
    print(f"SGLang {data['sglang']}, {data['processor']}, {data['cpus']} CPUs: {launches} launches, ", end="")
    print(f"{len(samples)} timings\n")
    print("| launches a side | any regressed | any improved | detectable, median metric |\n|---|---|---|---|")
    for side in SIDES:
        if 2 * side <= launches:
            print(row_of_alarms(samples, policy, side), flush=True)
    print(
        f"\n| one metric worse by | {' | '.join(f'found, {side} a side' for side in (4, 7))} |\n|---|---|---|"
    )
    for factor in SLOWER:
        found = (power(samples, policy, side, factor) for side in (4, 7))
        print(f"| {factor - 1:.0%} | {' | '.join(found)} |", flush=True)


def row_of_alarms(samples: Samples, policy: Policy, side: int) -> str:
    """How often anything of the family is called changed, though nothing has."""
    learnt = calibrate(samples, policy, n_base=side, n_head=side, splits=SPLITS)
    detectable = statistics.median(noise.detectable_effect for noise in learnt.noise.values())
    return f"| {side} | {learnt.regressed:.1%} | {learnt.improved:.1%} | {detectable:.0%} |"


def power(samples: Samples, policy: Policy, side: int, factor: float) -> str:
    """Share of splits in which the metric that was made worse is called regressed: median metric and range."""
    shares = sorted(_found(samples, policy, side, factor))
    return f"{statistics.median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%})"


def _found(samples: Samples, policy: Policy, side: int, factor: float) -> Iterator[float]:
    for name in samples:
        arguments: dict[str, Any] = {"n_base": side, "n_head": side, "splits": SPLITS_OF_A_METRIC}
        outcomes = judged_splits(samples, policy, slower={name: factor}, **arguments)
        yield statistics.fmean(one[name].status is Status.REGRESSED for one in outcomes)


if __name__ == "__main__":
    main()
