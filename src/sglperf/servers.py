"""Servers from start to stop: brought up side by side, their rounds interleaved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from sglperf.errors import MeasurementError
from sglperf.job import Job
from sglperf.plan import Load
from sglperf.probes.gpu_watch import GpuWatch, watch_gpus
from sglperf.server.launch import Starting, begin_server
from sglperf.server.leases import Lease, gpu_uuids, lease_gpus
from sglperf.serving import Serving
from sglperf.turns import take_turns
from sglperf.workload.client import StreamingClient


def serve(jobs: Sequence[Job], loads: Mapping[str, Sequence[Load]], client: StreamingClient) -> None:
    """Start the jobs' servers side by side, and measure their workloads.

    Builds, and servers that are compared with one another, take their rounds in turn where they are up together. A
    server that does not come up, or goes away, ends its own job only.

    Args:
        loads: server config's label → what is sent to its servers.
    """
    with started(jobs, client) as up:
        for serving in up:
            serving.launched()
        for group in dict.fromkeys(job.config.group for job in jobs):
            take_turns([serving for serving in up if serving.job.config.group == group], loads)


@contextmanager
def started(jobs: Sequence[Job], client: StreamingClient) -> Iterator[list[Serving]]:
    """The servers of those jobs that come up, in the same order, until the end of the block.

    On a CPU their processes are all started before the first is waited for: most of a start is one processor's work.
    On a GPU one comes up after the other, since each measures the memory that it finds free; so they do where the
    start itself is timed.
    """
    measurements = jobs[0].measurements
    with ExitStack() as stack:
        up: list[Serving] = []
        config = jobs[0].config
        gpus = watch_gpus(config.tp_set) if config.device == "cuda" else None
        with measurements.timed("start"):
            try:
                leases = leased_together(jobs, stack)
            except MeasurementError as error:
                for job in jobs:
                    job.failed(error)
            else:
                timed = any(job.plan.times_start(job.config) for job in jobs)
                for group in [[job] for job in jobs] if gpus or timed else [jobs]:
                    up += _come_up(group, client, stack, leases, gpus)
                if gpus:
                    gpus.ours_are_up()
        try:
            yield up
        finally:
            with measurements.timed("stop"):
                stack.close()


def leased_together(jobs: Sequence[Job], stack: ExitStack) -> list[Lease] | None:
    """The GPUs that several servers are to share; None where each leases its own, or needs none."""
    if len(jobs) == 1 or jobs[0].config.device != "cuda":
        return None
    return stack.enter_context(lease_gpus(gpu_uuids(jobs[0].config.tp_set)))


def _come_up(
    jobs: Sequence[Job],
    client: StreamingClient,
    stack: ExitStack,
    leases: Sequence[Lease] | None,
    gpus: GpuWatch | None,
) -> list[Serving]:
    """Start all, then wait for all."""
    starting: list[tuple[Job, Starting]] = []
    up: list[Serving] = []
    for job in jobs:
        job.attempt(partial(_begin, job, stack, leases, starting))
    for job, server in starting:
        job.attempt(partial(_await, job, server, client, stack, gpus, up))
    return up


def _begin(
    job: Job, stack: ExitStack, leases: Sequence[Lease] | None, starting: list[tuple[Job, Starting]]
) -> None:
    config = job.config
    if leases is not None:  # an idle scheduler polls, and would take a processor from the one being measured
        config = replace(config, arguments=(*config.arguments, job.target.adapter.sleep_on_idle))
    server = begin_server(job.target, config, log_path=job.log, gpus=leases)
    stack.callback(server.stop)
    starting.append((job, server))


def _await(
    job: Job,
    starting: Starting,
    client: StreamingClient,
    stack: ExitStack,
    gpus: GpuWatch | None,
    up: list[Serving],
) -> None:
    server = starting.ready(job.settings.start_timeout, lambda _, stage: job.says(stage))
    stack.callback(server.stop)
    up.append(Serving(job, client, server, gpus))
