"""Executing a plan: launch by launch, all workloads of a config on one server, every round journalled."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from random import Random

from sglperf.config import Settings
from sglperf.core.server_config import ServerConfig
from sglperf.job import Job
from sglperf.measurements import Measurements, Progress
from sglperf.plan import Plan
from sglperf.serving import serve
from sglperf.store import RunFolder
from sglperf.target.build import Target
from sglperf.working import work
from sglperf.workload.client import StreamingClient


def execute(
    plan: Plan,
    settings: Settings,
    targets: Mapping[str, Target],
    folder: RunFolder,
    progress: Progress,
    measurements: Measurements,
    still_open: Callable[[int], Collection[str]],
    beside: Collection[str] = (),
) -> None:
    """Start every server of the plan in turn and measure all its workloads.

    A launch that fails ends its config on that side, with its reason kept; the others go on.

    Args:
        targets: side → SGLang build; ``head`` alone, or ``base`` and ``head``.
        measurements: filled as the run goes, so that what was measured survives an interruption.
        still_open: told how many launches are complete, says which configs (by label) need another.
        beside: labels of GPU configs of which two servers fit on their GPUs.
    """
    with StreamingClient() as client:
        number, most = 0, plan.starts * len(targets)
        labels: Collection[str] = {config.label for config in plan.configs}
        for launch in range(plan.launches):
            jobs = []
            for config, sides in schedule(plan, tuple(targets), launch):
                for side in sides:
                    number += 1
                    if (side, config.label) not in measurements.failures and config.label in labels:
                        title = f"server {number}/{most}: {_name(side, targets)}{config.label}"
                        jobs.append(
                            Job(
                                plan,
                                settings,
                                side,
                                targets[side],
                                config,
                                launch,
                                folder,
                                progress,
                                measurements,
                                title,
                            )
                        )
            for some in at_once(jobs, beside):
                _launch(some, client)
            labels = still_open(launch + 1)


def at_once(
    jobs: Sequence[Job], beside: Collection[str] = (), processors: int | None = None
) -> Iterator[list[Job]]:
    """Whose servers are up together.

    Both builds' are, since an idle one sleeps: on a CPU always, on a GPU where it has memory for two. On a CPU,
    where nothing is timed, so are those of different configs, one for each processor.
    """
    processors = processors or len(os.sched_getaffinity(0))
    counted: list[Job] = []
    for _, group in groupby(jobs, lambda job: job.config.label):
        mine = list(group)
        if mine[0].config.device != "cpu":
            yield from [mine] if mine[0].config.label in beside else ([job] for job in mine)
        elif any(load.timed for load in mine[0].loads):
            yield mine
        else:
            counted += mine
    yield from (counted[begin : begin + processors] for begin in range(0, len(counted), processors))


def _launch(jobs: Sequence[Job], client: StreamingClient) -> None:
    """First what needs a server, then, with that out of the way, what needs a worker."""
    served = {job.config.label: [load for load in job.loads if load.workload.worker is None] for job in jobs}
    serving = [job for job in jobs if served[job.config.label]]
    if serving:
        serve(serving, served, client)
    for job in jobs:
        worked = [load for load in job.loads if load.workload.worker is not None]
        if worked and (job.side, job.config.label) not in job.measurements.failures:
            job.attempt(partial(work, job, worked))


def schedule(plan: Plan, sides: Sequence[str], launch: int) -> Iterator[tuple[ServerConfig, tuple[str, ...]]]:
    """Server configs in order, each with its sides in the order in which they take their turns.

    Which side of a pair of launches goes first is drawn by the run's seed, and the next pair is the other way. So
    neither is the later one more often, and no rhythm of the machine can go with one side.
    """
    for config in plan.configs:
        if launch < plan.launches_of(config):
            drawn = Random(f"{plan.seed} {config.label} {launch // 2}").random() < 0.5
            yield config, tuple(sides if drawn == (launch % 2 == 0) else reversed(sides))


def _name(side: str, targets: Mapping[str, Target]) -> str:
    return f"{side} " if len(targets) > 1 else ""
