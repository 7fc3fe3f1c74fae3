"""How long the history takes with 100,000 results: ``python benchmarks/history/query.py [--results N] [--url URL]``.

Prints a table. Without a URL it fills a SQLite file in a temporary folder; a PostgreSQL's database must be empty.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sglperf.core.history import Entry
from sglperf.core.trend import Build
from sglperf.core.verdict import Policy
from sglperf.history.database import History, Kept
from sglperf.trending import trend

METRICS = ("inter_token_latency", "time_to_first_token", "decode_throughput", "prefill_tokens")
POINTS, LAUNCHES, ROUNDS = 25, 5, 10  # servers and workloads; launches and rounds of each
REPEATS = 5


def night(
    number: int, generator: random.Random
) -> tuple[Kept, list[Entry], dict[str, dict[str, dict[str, str]]]]:
    """A run of all metrics; every hundredth night another version."""
    at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=6 * number)
    version = f"0.5.{number // 100}"
    kept = Kept(
        f"{number:064x}", f"run-{number}", f"{at:%Y-%m-%dT%H:%M:%SZ}", "release" if number % 100 == 0 else "nightly",
        Build(version), f"sglang {version}", False, "results",
    )  # fmt: skip
    context = f"{number // 100:012x}"
    entries = [
        entry(f"model/server/load-{point}/{metric}", metric, context, generator)
        for point in range(POINTS)
        for metric in METRICS
    ]
    return kept, entries, {context: {"versions": {"sglang": version}, "resolved": {}, "machine": {}}}


def entry(name: str, metric: str, context: str, generator: random.Random) -> Entry:
    """Noisy rounds, or a count that stays."""
    if metric == "prefill_tokens":
        launches = [[512.0]]
    else:
        launches = [
            [0.005 * generator.lognormvariate(0, 0.02) for _ in range(ROUNDS)] for _ in range(LAUNCHES)
        ]
    return Entry("machine", "decode", name, "s", "work", launches[0][0], launches, "unchanged", context)


def timed(action: Callable[[], object]) -> float:
    """Seconds, the best of a few."""
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begin)
    return best


def rows(history: History) -> Iterator[tuple[str, float]]:
    """What is asked, and how long it takes."""
    one = "model/server/load-7/inter_token_latency"
    yield "one metric's course", timed(lambda: history.series([one]))
    yield "trend of one metric: change points, release, creep", timed(lambda: trend(history, [one], Policy()))
    yield "the courses of all metrics", timed(history.series)
    yield "the last 20 runs", timed(lambda: history.kept(20))
    yield "trend of all metrics over the last 365 nights", timed(lambda: trend(history, [], Policy()))


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=int, default=100_000)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    generator = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        history = History(arguments.url or f"sqlite:///{Path(folder) / 'history.sqlite'}")
        nights = arguments.results // (POINTS * len(METRICS))
        begin = time.perf_counter()
        for number in range(nights):
            history.add(*night(number, generator))
        filled = time.perf_counter() - begin
        print(f"{platform.machine()}, Python {platform.python_version()}, {history.place.partition(':')[0]}")
        print(
            f"{nights * POINTS * len(METRICS):,} results of {nights:,} runs, {LAUNCHES} × {ROUNDS} samples each\n"
        )
        print("| asked | seconds |\n|---|---|")
        print(f"| one run added | {filled / nights:.3f} |")
        for asked, seconds in rows(history):
            print(f"| {asked} | {seconds:.3f} |", flush=True)
        history.close()


if __name__ == "__main__":
    main()
