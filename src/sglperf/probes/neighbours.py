"""How much of this machine's processors somebody else uses while a round runs."""

from __future__ import annotations

import os
import time

import psutil

_IDLE = ("idle", "iowait")
_COUNTED_TWICE = ("guest", "guest_nice")  # the kernel has them in user and nice already


class NeighbourWatch:
    """Watches from its making on. Ours are this process and all below it: servers, client, guardians.

    A neighbour is whatever else takes time on the processors that this process may run on, the
    hypervisor's other guests (steal) included.
    """

    def __init__(self) -> None:
        me = psutil.Process()
        self._ours = [me, *me.children(recursive=True)]
        self._begin, self._busy, self._own = time.monotonic(), busy_seconds(), self._own_seconds()

    def foreign_share(self) -> float:
        """Share of the processors used by others since then, 0 to 1."""
        seconds = (time.monotonic() - self._begin) * len(os.sched_getaffinity(0))
        foreign = busy_seconds() - self._busy - (self._own_seconds() - self._own)
        return min(max(foreign / seconds, 0.0), 1.0) if seconds > 0 else 0.0

    def _own_seconds(self) -> float:
        return sum(map(_seconds, self._ours))


def busy_seconds() -> float:
    """Seconds that the processors available to this process have not been idle, since the machine's start."""
    every = psutil.cpu_times(percpu=True)
    return sum(_busy(every[cpu]._asdict()) for cpu in os.sched_getaffinity(0) if cpu < len(every))


def _busy(times: dict[str, float]) -> float:
    return sum(seconds for kind, seconds in times.items() if kind not in (*_IDLE, *_COUNTED_TWICE))


def _seconds(process: psutil.Process) -> float:
    """Processor time of a process and of its children that have ended; a process that is gone counts nothing more."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.Error:
        return 0.0
