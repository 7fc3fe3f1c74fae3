"""The window's rule beside MSER, on a queue whose steady state is known: the table of docs/serving.md."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "unit"))
from queues import poisson_queue

from sglperf.core.served import LATEST_BEGIN, in_flight, mean_level, steady_window
from sglperf.core.service import Objective, Service

OPEN = Service(Objective(1.0, 1.0), open=True)
SEEDS = 150
AVERAGES = 40


def mser(values: np.ndarray) -> tuple[int, bool]:
    """Where the rest has the smallest standard error, and whether that is in its first half (White 1997)."""
    most = len(values) // 2
    errors = [values[cut:].var() / (len(values) - cut) for cut in range(most + 1)]
    cut = int(np.argmin(errors))
    return cut, cut < most


def one(load: float, arrivals: int, seed: int) -> tuple[float, float, float, bool, bool]:
    """Mean number in the system: with nothing cut, after the crossing, after MSER's cut; and whether each was refused."""
    queue = poisson_queue(load, arrivals, seed)
    window = steady_window(queue, OPEN)
    edges = np.linspace(window.since, window.end, AVERAGES + 1)
    series = mean_level(*in_flight(queue), edges)
    cut, sound = mser(series)
    crossed = float(mean_level(*in_flight(queue), np.array([window.begin, window.end]))[0])
    late = window.begin - window.since > LATEST_BEGIN * (window.end - window.since)
    return float(series.mean()), crossed, float(series[cut:].mean()), late, not sound


def main() -> None:
    print("load, arrivals | true | nothing cut | crossing | MSER | refused: crossing | MSER")
    for load in (0.5, 0.7, 0.8):
        true = load / (1 - load)
        for arrivals in (60, 200):
            found = np.mean([one(load, arrivals, seed) for seed in range(SEEDS)], axis=0)
            errors = " | ".join(f"{value - true:+.2f}" for value in found[:3])
            print(f"{load}, {arrivals} | {true:.2f} | {errors} | {found[3]:.0%} | {found[4]:.0%}")


if __name__ == "__main__":
    main()
