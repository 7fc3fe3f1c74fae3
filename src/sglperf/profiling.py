"""Traces of both builds on one workload: two servers side by side, profiled in turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sglperf.core.trace import Profile
from sglperf.job import Job
from sglperf.plan import Load
from sglperf.probes.profiler import read_profiles, start_profile, stop_profile
from sglperf.serving import Serving, each, started
from sglperf.workload.client import StreamingClient
from sglperf.workload.shapes import Workload

TRACES = 4
"""Of each side that count; one before them loads the profiler."""
_MOST_STEPS = 32
# Where this SGLang waits with its trace of decoding until a batch of so many runs; older ones do not know it.
_FULL_BATCH = "SGLANG_PROFILE_BY_STAGE_DECODE_MIN_BS"


_FEWEST_TRACES = 2
_ATTEMPTS = 2


def profile(jobs: Sequence[Job], load: Load, client: StreamingClient) -> dict[str, list[Profile]]:
    """Start the jobs' servers and trace the workload on each in turn, in ABBA order; side → its profiles.

    The traces stay in the run's folder. torch's profiler itself may end a server (one in thirty traces of a CPU
    server did): then both are started once more. Why a side is left with too few traces is among its job's failures.
    """
    traced: dict[str, list[Profile]] = {}
    for _ in range(_ATTEMPTS):
        jobs[0].measurements.failures.clear()
        traced = _profile(jobs, load, client)
        if all(len(traced[job.side]) >= _FEWEST_TRACES for job in jobs):
            jobs[0].measurements.failures.clear()
            break
    return traced


def _profile(jobs: Sequence[Job], load: Load, client: StreamingClient) -> dict[str, list[Profile]]:
    traced: dict[str, list[Profile]] = {job.side: [] for job in jobs}
    with started(jobs, client) as up:
        each(up, partial(Serving.warm_up, load=load))
        for number in range(TRACES + 1):
            each(up, partial(_trace, load=load, number=number, traced=traced), turned=number % 2 == 1)
    return traced


def full_batch(workload: Workload) -> dict[str, str]:
    """Environment of a server that is to be profiled on this workload, so that its batch is whole in each step."""
    return {_FULL_BATCH: str(getattr(workload, "streams", 1))}


def _trace(serving: Serving, load: Load, number: int, traced: dict[str, list[Profile]]) -> None:
    job, adapter = serving.job, serving.job.target.adapter
    job.says(f"trace {number}/{TRACES}, {load.workload.label}")
    folder = job.folder.path / "profiles" / f"{job.side}-{job.config.label}-{load.workload.label}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    steps = max(1, min(_MOST_STEPS, min(request.max_new_tokens for request in load.round.requests) // 2))
    url = serving.server.base_url
    start_profile(
        url,
        folder,
        path=adapter.start_profile,
        steps=steps,
        gpu=job.config.device == "cuda",
    )
    try:
        serving.observe(load)
    finally:
        stop_profile(url, folder, path=adapter.stop_profile)
    if number:
        traced[job.side] += read_profiles(folder)
