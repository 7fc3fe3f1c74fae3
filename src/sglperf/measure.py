"""Executing a plan: launch by launch, all workloads of a config on one server, every round journalled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from random import Random

from sglperf.config import Settings
from sglperf.core.server_config import ServerConfig
from sglperf.job import Job
from sglperf.measurements import Measurements, Progress
from sglperf.plan import Plan
from sglperf.serving import serve
from sglperf.store import RunFolder
from sglperf.target.resolve import Target
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
) -> None:
    """Start every server of the plan in turn and measure all its workloads.

    A launch that fails ends its config on that side, with its reason kept; the others go on.

    Args:
        targets: side → SGLang build; ``head`` alone, or ``base`` and ``head``.
        measurements: filled as the run goes, so that what was measured survives an interruption.
        still_open: told how many launches are complete, says which configs (by label) need another.
    """
    with StreamingClient() as client:
        number, most = 0, plan.starts * len(targets)
        labels: Collection[str] = {config.label for config in plan.configs}
        for launch in range(plan.launches):
            for config, sides in schedule(plan, tuple(targets), launch):
                jobs = []
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
                for some in _at_once(jobs):
                    _launch(some, client)
            labels = still_open(launch + 1)


def _at_once(jobs: Sequence[Job]) -> list[list[Job]]:
    """Both builds' servers are up together on a CPU, where an idle one sleeps; a GPU is leased to one at a time."""
    if all(job.config.device == "cpu" for job in jobs):
        return [list(jobs)] if jobs else []
    return [[job] for job in jobs]


def _launch(jobs: Sequence[Job], client: StreamingClient) -> None:
    """First what needs a server, then, with that out of the way, what needs a worker."""
    loads = jobs[0].plan.loads(jobs[0].config)
    served = [load for load in loads if load.workload.worker is None]
    worked = [load for load in loads if load.workload.worker is not None]
    if served:
        serve(jobs, served, client)
    for job in jobs:
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
