"""One launch's rounds in a worker: what is measured in the target's own interpreter, without a server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sglperf.core.derive import growth
from sglperf.core.gates import Limits, host_gates
from sglperf.job import Job
from sglperf.measurements import Launch, Round
from sglperf.plan import Load
from sglperf.probes.neighbours import NeighbourWatch
from sglperf.server.worker import Worker, start_worker
from sglperf.serving import counted
from sglperf.workload.shapes import TreeGrowth


def work(job: Job, loads: Sequence[Load]) -> None:
    """Start the worker of these workloads, and measure them.

    Raises:
        MeasurementError: it did not come up, failed, or went away.
    """
    (name,) = {load.workload.worker for load in loads}
    assert name is not None
    job.says(f"worker {name}")
    with job.measurements.timed("start"):
        worker = start_worker(
            job.target, job.config, name, log_path=job.log, timeout=job.settings.start_timeout
        )
    with worker:
        job.launched(
            Launch(
                job.side,
                job.config.label,
                job.launch,
                worker.startup_seconds,
                job.target.version,
                {},
                None,
                name,
            )
        )
        for load in loads:
            job.says(f"warm-up, {load.workload.label}")
            with job.measurements.timed("warm-up"):
                _ask(job, worker, load)
        for index in range(job.plan.rounds):
            for load in loads:
                job.says(f"round {index + 1}/{job.plan.rounds}, {load.workload.label}")
                _round(job, worker, load, index)
    done = f"{counted(job.plan.rounds, 'round')} of {counted(len(loads), 'workload')} in worker {name}"
    job.says(done, done=True)


def _round(job: Job, worker: Worker, load: Load, index: int) -> None:
    """One round, repeated a bounded number of times while a neighbour spoils it."""
    limits = Limits(foreign_cpu_share=job.settings.foreign_cpu_share)
    for _ in range(1 + job.settings.round_retries):
        neighbours, begin = NeighbourWatch(), time.monotonic()
        said = _ask(job, worker, load)
        seconds, gates = time.monotonic() - begin, tuple(host_gates(neighbours.foreign_share(), limits))
        values = {} if gates else _values(load, said)
        job.measured(
            Round(
                job.side, job.config.label, job.launch, load.workload.label, index, values, gates, {}, seconds
            ),
            said,
        )
        if not gates:
            return


def _ask(job: Job, worker: Worker, load: Load) -> Any:
    return worker.ask(_request(job, load), job.settings.round_timeout)


def _request(job: Job, load: Load) -> dict[str, object]:
    workload = load.workload
    assert isinstance(workload, TreeGrowth)
    return {
        "nodes": workload.sizes,
        "page_size": job.config.page_size,
        "seed": job.plan.seed,
        "unified": job.target.adapter.unified_radix_cache,
    }


def _values(load: Load, said: Any) -> dict[str, float]:
    workload = load.workload
    assert isinstance(workload, TreeGrowth)
    return growth(workload.sizes, said["match"], said["evict"])
