"""Traces of both builds on one workload: two servers side by side, profiled in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sglperf.core.trace import Profile, profile_of
from sglperf.job import Job
from sglperf.plan import Load
from sglperf.servers import started
from sglperf.serving import Serving
from sglperf.tracing import trace
from sglperf.turns import each
from sglperf.workload.client import StreamingClient
from sglperf.workload.shapes import Workload

TRACES = 3
"""Of each side, if its server lives through them."""
# Where this SGLang waits with its trace of decoding until a batch of so many runs; older ones do not know it.
_FULL_BATCH = "SGLANG_PROFILE_BY_STAGE_DECODE_MIN_BS"
_ATTEMPTS = 2

Traces = dict[str, list[Profile]]
"""Side → its profiles."""


def profile(groups: Sequence[Sequence[Job]], load: Load, client: StreamingClient) -> Traces:
    """Start the servers of each group and trace the workload on them in turn, in ABBA order.

    The traces stay in the run's folder. The profiler may end a server, so one trace is enough, and a side without any
    is started once more. Why it is left without is among its job's failures.
    """
    jobs = [job for group in groups for job in group]
    traced: Traces = {job.side: [] for job in jobs}
    for attempt in range(_ATTEMPTS):
        for group in groups:
            lacking = [replace(job, launch=job.launch + attempt) for job in group if not traced[job.side]]
            if lacking:
                _profile(lacking, load, client, traced)
    for job in jobs:
        if traced[job.side]:
            job.measurements.failures.pop((job.side, job.config.label), None)
    return traced


def _profile(jobs: Sequence[Job], load: Load, client: StreamingClient, traced: Traces) -> None:
    with started(jobs, client) as up:
        each(up, partial(Serving.warm_up, load=load))
        for number in range(TRACES):
            each(up, partial(_trace, load=load, number=number, traced=traced), turned=number % 2 == 1)


def full_batch(workload: Workload) -> dict[str, str]:
    """Environment of a server that is to be profiled on this workload, so that its batch is whole in each step."""
    streams = getattr(workload, "streams", 1)
    # Requests of mixed length are never all decoding for long.
    return {_FULL_BATCH: str(streams if workload.service is None else max(1, streams // 2))}


def _trace(serving: Serving, load: Load, number: int, traced: Traces) -> None:
    serving.job.says(f"trace {number + 1}/{TRACES}, {load.workload.label}")
    tracing = trace(serving, load, f"profile-{number}")
    traced[serving.job.side] += map(
        profile_of, tracing.traces
    )  # a server that dies of its profiler has left its trace
    if tracing.died is not None:
        raise tracing.died
