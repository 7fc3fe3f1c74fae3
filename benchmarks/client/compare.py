"""Prints the tables of docs/client.md: ``python benchmarks/client/compare.py [--quick]``.

The source has one core to itself and the client another, so two idle ones are needed: check with ``uptime``.
aiohttp is not among sglperf's dependencies (SGLang's environment has it); a client that is not
installed is left out, and the table says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from sglperf.workload.client import StreamingClient
from sglperf.workload.plan import RequestPlan, RoundPlan

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))
LOADS = ((32, 3_200), (64, 11_000), (200, 37_000))  # streams, chunks a second
CLIENTS = {
    "ours": "`asyncio.Protocol` on uvloop (ours)",
    "aiohttp-uvloop": "aiohttp lines on uvloop",
    "aiohttp-asyncio": "aiohttp lines on asyncio",
    "httpx-uvloop": "httpx lines on uvloop",
    "floor": "(reading and stamping only)",
}


def main() -> None:
    quick = "--quick" in sys.argv
    seconds, repeats = (1, 1) if quick else (2, 5)
    print(f"{platform.machine()}, {len(CORES)} cores, Python {platform.python_version()}")
    for streams, rate in LOADS:
        print(f"\n{streams} streams, {rate:,} chunks/s asked for, {repeats} rounds of {seconds} s:\n")
        print(
            "| client | CPU per chunk, µs | delay, median, ms | delay, p99, ms | chunks/s |\n|---|---|---|---|---|"
        )
        for name, title in CLIENTS.items():
            print(row(name, title, streams, rate, seconds, repeats), flush=True)
    print("\nEach cell: median of the rounds (smallest – largest).")
    overhead(5 if quick else 20)


def row(name: str, title: str, streams: int, rate: int, seconds: int, repeats: int) -> str:
    library = name.split("-")[0]
    if library in ("aiohttp", "httpx") and importlib.util.find_spec(library) is None:
        return f"| {title} | not installed | | | |"
    return table_row(title, (measured(name, streams, rate, seconds) for _ in range(repeats)))


def measured(name: str, streams: int, rate: int, seconds: int) -> tuple[float, float, float, float]:
    """One round's figures, in the order of the table's columns."""
    with source(streams, rate * seconds // streams, rate) as port:
        command = [sys.executable, HERE / "clients.py", name, str(port), str(streams), str(CORES[0])]
        cpu, median, p99, achieved = json.loads(subprocess.check_output(command))
    return cpu, median, p99, achieved


@contextmanager
def source(streams: int, chunks: int, rate: float) -> Iterator[int]:
    """A paced source on the last core, as its port."""
    command = [sys.executable, HERE / "paced_source.py", *map(str, (streams, chunks, rate, CORES[-1]))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def table_row(title: object, rounds: Iterable[tuple[float, ...]]) -> str:
    return f"| {title} | {' | '.join(spread(column) for column in zip(*rounds, strict=True))} |"


def spread(values: tuple[float, ...]) -> str:
    middle, least, most = map(figure, (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} – {most})"


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def overhead(rounds: int) -> None:
    """What a call of `StreamingClient.execute` takes beyond the round that it plays."""
    print(f"\n`execute()` beyond the round itself, 32 requests × 64 tokens, {rounds} rounds after a first:\n")
    print("| prompt tokens | beyond the round, ms | round, ms | client lag p99, ms |\n|---|---|---|---|")
    for prompt in (512, 2048):
        plan = RoundPlan((RequestPlan(tuple(range(prompt)), 64),) * 32, 32)
        with source(32, 64, 3200) as port, StreamingClient() as client:
            found = [timed(client, f"http://127.0.0.1:{port}", plan) for _ in range(rounds + 1)]
        print(table_row(prompt, found[1:]), flush=True)


def timed(client: StreamingClient, url: str, plan: RoundPlan) -> tuple[float, float, float]:
    begin = perf_counter()
    requests, health = client.execute(url, plan, timeout=60)
    whole = perf_counter() - begin
    assert not any(request.error for request in requests), requests[0].error
    return (whole - health.wall_seconds) * 1e3, health.wall_seconds * 1e3, health.lag_p99 * 1e3


if __name__ == "__main__":
    main()
