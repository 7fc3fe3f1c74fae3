"""Who uses the processors: this process tree, or somebody else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from sglperf.probes.neighbours import NeighbourWatch, busy_seconds

SPIN = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
# Starts a spinner in a session of its own and ends, so that it is nobody's child here.
STRANGER = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {SPIN!r}], stdout=subprocess.DEVNULL, start_new_session=True).pid)
"""


@contextmanager
def spinning_child() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", SPIN]) as child:
        try:
            yield
        finally:
            child.kill()


@contextmanager
def spinning_stranger() -> Iterator[None]:
    pid = int(subprocess.check_output([sys.executable, "-c", STRANGER]))
    try:
        yield
    finally:
        psutil.Process(pid).kill()


def shares(seconds: float) -> tuple[float, float]:
    """Of all processors: what the watch calls foreign, and what was busy in all."""
    watch, busy, begin = NeighbourWatch(), busy_seconds(), time.monotonic()
    time.sleep(seconds)
    foreign = watch.foreign_share()
    cpus = len(os.sched_getaffinity(0))
    return foreign, (busy_seconds() - busy) / ((time.monotonic() - begin) * cpus)


def test_a_child_is_no_neighbour() -> None:
    """What this process and its children use is not counted as foreign."""
    with ExitStack() as spinning:
        for _ in os.sched_getaffinity(0):
            spinning.enter_context(spinning_child())
        time.sleep(0.3)
        foreign, busy = shares(1.0)
    assert busy > 0.8
    assert foreign < 0.5 * busy


def test_a_stranger_is_one() -> None:
    """What a process outside this tree uses is counted as foreign."""
    with spinning_stranger():
        time.sleep(0.3)
        foreign, _ = shares(1.0)
    assert foreign > 0.5 / len(os.sched_getaffinity(0))
