"""Rounds in workers: what is measured in the target's own interpreter, without a server."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from sglperf.asking import answered, request
from sglperf.core.gates import Gate, Limits, gpu_gates, host_gates
from sglperf.core.gpu_watch import GpuWatched
from sglperf.errors import MeasurementError
from sglperf.job import Job
from sglperf.measurements import Launch, Round
from sglperf.plan import Load
from sglperf.probes.gpu_watch import GpuWatch, settle, watch_gpus, watching
from sglperf.probes.neighbours import NeighbourWatch
from sglperf.server.leases import Lease
from sglperf.server.worker import Worker, start_worker
from sglperf.servers import leased_together
from sglperf.turns import take_turns


def work(jobs: Sequence[Job], loads: Mapping[str, Sequence[Load]], name: str) -> None:
    """Start a worker of each of these jobs, and measure their workloads in turn.

    A worker that does not come up, or fails, ends its own job only.

    Args:
        loads: server config's label → what its worker is asked for.
        name: script of `sglperf.workers`.
    """
    config = jobs[0].config
    with ExitStack() as stack:
        up: list[Working] = []
        gpus = watch_gpus(config.tp_set) if config.device == "cuda" else None
        with jobs[0].measurements.timed("start"):
            try:
                leases = leased_together(jobs, stack)
            except MeasurementError as error:
                for job in jobs:
                    job.failed(error)
                return
            for job in jobs:
                job.attempt(partial(_come_up, job, name, leases, gpus, stack, up))
        for group in dict.fromkeys(job.config.group for job in jobs):
            take_turns([one for one in up if one.job.config.group == group], loads)


def _come_up(
    job: Job,
    name: str,
    leases: Sequence[Lease] | None,
    gpus: GpuWatch | None,
    stack: ExitStack,
    up: list[Working],
) -> None:
    job.says(f"worker {name}")
    worker = start_worker(
        job.target, job.config, name, log_path=job.log, timeout=job.settings.start_timeout, gpus=leases
    )
    stack.enter_context(worker)
    seconds, version = worker.startup_seconds, job.target.version
    job.launched(Launch(job.side, job.config.label, job.launch, seconds, version, {}, None, name, job.gpus))
    up.append(Working(job, worker, gpus))


@dataclass(frozen=True, eq=False)
class Working:
    """Rounds in a running worker.

    Attributes:
        gpus: those it runs on, watched; None on a CPU.
    """

    job: Job
    worker: Worker
    gpus: GpuWatch | None = None

    def warm_up(self, load: Load) -> None:
        """A round that is not kept. The first one loads what is measured, and compiles it."""
        self.job.says(f"warm-up, {load.workload.label}")
        with self.job.measurements.timed("warm-up"):
            self._ask(load, self.job.settings.start_timeout)
        if self.gpus:
            self.gpus.ours_are_up()  # a worker opens its GPU when it is first asked

    def round(self, load: Load, index: int) -> None:
        """One round, repeated a bounded number of times while a gate rejects it."""
        if self.gpus and not load.timed:
            self.warm_up(load)  # else it would open its GPU in the round, as a neighbour would
        self.job.says(f"round {index + 1}/{self.job.plan.rounds}, {load.workload.label}")
        for _ in range(1 + self.job.settings.round_retries):
            neighbours, begin = NeighbourWatch(), time.monotonic()
            with watching(self.gpus) as watched:
                said = self._ask(load, self.job.settings.round_timeout)
                gpus = watched()
            seconds = time.monotonic() - begin
            round_ = self._digest(load, index, said, self._gates(neighbours, gpus), seconds)
            self.job.measured(round_, {"said": said, "gpus": gpus})
            # What a kernel computes is the same the next time.
            passing = [gate for gate in round_.gates if gate.metrics is None]
            if not any(load.timed or not gate.timing_only for gate in passing):
                return
            settle(self.gpus, round_.gates)

    def _gates(self, neighbours: NeighbourWatch, gpus: tuple[GpuWatched, ...]) -> tuple[Gate, ...]:
        limits = Limits(foreign_cpu_share=self.job.settings.foreign_cpu_share)
        return (*gpu_gates(gpus), *host_gates(neighbours.foreign_share(), limits))

    def _digest(self, load: Load, index: int, said: Any, gates: tuple[Gate, ...], seconds: float) -> Round:
        answer = answered(self.job.config, load.workload, said)
        gates = (*answer.gates, *gates)
        return Round(
            self.job.side,
            self.job.config.label,
            self.job.launch,
            load.workload.label,
            index,
            answer.believable(gates),
            gates,
            {},
            seconds,
            method=answer.method,
        )

    def _ask(self, load: Load, timeout: float) -> Any:
        job = self.job
        return self.worker.ask(request(job.settings, job.config, job.target, load), timeout)
