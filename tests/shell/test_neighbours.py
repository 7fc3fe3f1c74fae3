"""Who uses the processors: this process tree, or somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from sglperf.probes.neighbours import NeighbourWatch, busy_seconds

SPIN = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
# Starts a spinner in a session of its own and ends, so that it is nobody's child here.
STRANGER = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {SPIN!r}], stdout=subprocess.DEVNULL, start_new_session=True).pid)
"""


@contextmanager
def spinning_child() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as child:
        try:
            yield psutil.Process(child.pid)
        finally:
            child.kill()


@contextmanager
def spinning_stranger() -> Iterator[psutil.Process]:
    stranger = psutil.Process(int(subprocess.check_output([sys.executable, "-c", STRANGER])))
    try:
        yield stranger
    finally:
        stranger.kill()


@dataclass(frozen=True)
class Shares:
    """Of all processors: what the watch calls foreign, what these processes used, and what was busy in all."""

    foreign: float
    used: float
    busy: float


def shares(spinners: list[psutil.Process], seconds: float = 1.0) -> Shares:
    """What is seen in that time, whatever else this machine does."""
    time.sleep(0.3)
    watch, begin = NeighbourWatch(), time.monotonic()
    used, busy = _seconds(spinners), busy_seconds()
    time.sleep(seconds)
    used, busy = _seconds(spinners) - used, busy_seconds() - busy
    foreign = watch.foreign_share()
    capacity = (time.monotonic() - begin) * len(os.sched_getaffinity(0))
    return Shares(foreign, used / capacity, busy / capacity)


def _seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def test_a_child_is_no_neighbour() -> None:
    """What this process and its children use is not counted as foreign."""
    with ExitStack() as spinning:
        seen = shares([spinning.enter_context(spinning_child()) for _ in os.sched_getaffinity(0)])
    assert seen.used > 0
    assert seen.foreign < seen.busy - 0.5 * seen.used


def test_a_stranger_is_one() -> None:
    """What a process outside this tree uses is counted as foreign."""
    with spinning_stranger() as stranger:
        seen = shares([stranger])
    assert seen.used > 0
    assert seen.foreign > 0.5 * seen.used
