"""How late the client is on cores that are all taken, with and without real-time priority.

``python benchmarks/client/contention.py``: a spinning process more than there are cores, the client's
own heartbeat among them for 4 s at a time. Needs the right to use SCHED_FIFO (root, or CAP_SYS_NICE).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic_ns, process_time

import uvloop

from sglperf.workload.health import run_as_usual, run_first
from sglperf.workload.heartbeat import Heartbeat, quantile

SECONDS = 4.0
REPEATS = 3


def main() -> None:
    print(
        "| cores | priority | lag, median, ms | p99, ms | largest, ms | CPU per beat, µs |\n|---|---|---|---|---|---|"
    )
    for taken in (False, True):
        for realtime in (False, True):
            for _ in range(REPEATS):
                with ExitStack() as spinning:
                    for _ in range(len(os.sched_getaffinity(0)) + 1 if taken else 0):
                        spinning.enter_context(spinner())
                    print(row(taken, realtime), flush=True)


def row(taken: bool, realtime: bool) -> str:
    if realtime and not run_first():
        return "| | real-time: not permitted | | | | |"
    lags_ns, cpu_seconds = uvloop.run(beating())
    run_as_usual()
    figures = " | ".join(f"{quantile(lags_ns, share) / 1e6:.2f}" for share in (0.5, 0.99, 1.0))
    names = "taken" if taken else "idle", "real-time" if realtime else "normal"
    return f"| {' | '.join(names)} | {figures} | {cpu_seconds / len(lags_ns) * 1e6:.0f} |"


async def beating() -> tuple[list[int], float]:
    heartbeat, before = Heartbeat(asyncio.get_running_loop()), process_time()
    heartbeat.start(monotonic_ns())
    await asyncio.sleep(SECONDS)
    heartbeat.stop()
    return heartbeat.lags_ns, process_time() - before


@contextmanager
def spinner() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
