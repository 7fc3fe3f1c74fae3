"""Executing a plan: launch by launch, all workloads of a config on one server, every round journalled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
            for side, config in schedule(plan, tuple(targets), launch):
                number += 1
                if (side, config.label) in measurements.failures or config.label not in labels:
                    continue
                job = Job(plan, settings, side, targets[side], config, launch, folder, progress, measurements)
                _launch(job, client, f"server {number}/{most}: {_name(side, targets)}{config.label}")
            labels = still_open(launch + 1)


def _launch(job: Job, client: StreamingClient, title: str) -> None:
    """First what needs a server, then, with that out of the way, what needs a worker."""
    loads = job.plan.loads(job.config)
    served = [load for load in loads if load.workload.worker is None]
    worked = [load for load in loads if load.workload.worker is not None]
    if served:
        job.attempt(lambda: serve(job, served, client, title), title)
    if worked and (job.side, job.config.label) not in job.measurements.failures:
        job.attempt(lambda: work(job, worked, title), title)


def schedule(plan: Plan, sides: Sequence[str], launch: int) -> Iterator[tuple[str, ServerConfig]]:
    """Servers in order. Which side of a pair goes first is drawn by the run's seed, and the next pair is the other way.

    So neither side is the later one more often, and no rhythm of the machine can go with one side (ABBA or BAAB).
    """
    for config in plan.configs:
        if launch < plan.launches_of(config):
            drawn = Random(f"{plan.seed} {config.label} {launch // 2}").random() < 0.5
            for side in sides if drawn == (launch % 2 == 0) else reversed(sides):
                yield side, config


def _name(side: str, targets: Mapping[str, Target]) -> str:
    return f"{side} " if len(targets) > 1 else ""
