"""How often change points are told that are none, and how many nights a step needs: ``python benchmarks/history/steps.py``.

Otava picks the best of all splits and tests it as if it were the only one, so its p is no rate of false alarms.
"""

from __future__ import annotations

import random
import statistics

from sglperf.core import trend
from sglperf.core.catalogue import METRICS

LATENCY = METRICS["inter_token_latency"]
COURSES, NIGHTS, SPREAD, STEP, MIN_EFFECT = 400, 60, 0.02, 1.05, 0.03


def course(seed: int, step: float = 1.0, at: int = 0) -> list[float]:
    """Nights of one latency with this spread, ``step`` times as long from the night ``at``."""
    generator = random.Random(seed)
    return [
        0.005 * (step if night >= at else 1.0) * generator.lognormvariate(0, SPREAD)
        for night in range(NIGHTS)
    ]


def nights_until_told(seed: int) -> int:
    """How many nights after a step it is told, when the trend is asked every night; NIGHTS where never."""
    at = NIGHTS // 2
    values = course(seed, STEP, at)
    for seen in range(at + 1, NIGHTS + 1):
        if any(abs(one.at - at) <= 1 for one in trend.steps(LATENCY, values[:seen], MIN_EFFECT)):
            return seen - at
    return NIGHTS


def main() -> None:
    """One line for each threshold."""
    print(f"{COURSES} courses of {NIGHTS} nights, spread {SPREAD:.0%}, step {STEP - 1:.0%} in the middle\n")
    print(
        "| p | quiet courses with a change point | nights until a step is told, median | 90 % |\n|---|---|---|---|"
    )
    for p_value in (1e-3, 1e-4, 1e-5, 1e-6):
        trend.MAX_P_VALUE = p_value
        false = sum(bool(trend.steps(LATENCY, course(seed), MIN_EFFECT)) for seed in range(COURSES))
        waited = [nights_until_told(seed) for seed in range(COURSES // 4)]
        ninth = statistics.quantiles(waited, n=10)[-1]
        print(f"| {p_value:.0e} | {false / COURSES:.1%} | {statistics.median(waited):.0f} | {ninth:.0f} |")


if __name__ == "__main__":
    main()
