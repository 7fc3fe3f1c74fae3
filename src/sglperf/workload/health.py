"""Whether the client kept up: its priority, its processor time and its lag, over one round."""

from __future__ import annotations

import asyncio
import os
from time import monotonic_ns, process_time, time

from sglperf.core.observation import ClientHealth
from sglperf.workload.heartbeat import Heartbeat, quantile


class HealthWatch:
    """Watches this process from `start` to `stop`; while it exists, the process runs first if it may."""

    def __init__(self) -> None:
        self._realtime = run_first()
        self._heartbeat = Heartbeat(asyncio.get_running_loop())
        self._begin_ns, self._cpu_before, self._began = monotonic_ns(), process_time(), time()

    def start(self) -> int:
        """The round begins now: the time, monotonic clock, nanoseconds."""
        self._begin_ns, self._cpu_before, self._began = monotonic_ns(), process_time(), time()
        self._heartbeat.start(self._begin_ns)
        return self._begin_ns

    def stop(self) -> ClientHealth:
        """The round is over."""
        cpu_seconds, end_ns = process_time() - self._cpu_before, monotonic_ns()
        self._heartbeat.stop()
        run_as_usual()
        lags_ns = self._heartbeat.lags_ns
        return ClientHealth(
            lag_p99=quantile(lags_ns, 0.99) / 1e9,
            lag_max=quantile(lags_ns, 1.0) / 1e9,
            beats=len(lags_ns),
            cpu_seconds=cpu_seconds,
            wall_seconds=(end_ns - self._begin_ns) / 1e9,
            realtime=self._realtime,
            began=self._began,
        )


def run_first() -> bool:
    """Put this process before all ordinary ones, the server's threads included; False where that is not permitted.

    On a machine whose cores are all taken it brings the p99 lag from 2–12 ms to 0.1 ms (docs/client.md).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    return True


def run_as_usual() -> None:
    """Queue with everybody else again."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
