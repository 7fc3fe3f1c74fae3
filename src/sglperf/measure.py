"""Executing a plan: launch by launch, all workloads of a config on one server, every round journalled."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random

from sglperf.clock import Clock
from sglperf.core.server_config import ServerConfig
from sglperf.job import Job
from sglperf.measurements import Measurements, Progress
from sglperf.plan import Plan
from sglperf.servers import serve
from sglperf.settings import Settings
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
    clock: Clock,
    beside: Collection[str] = (),
) -> None:
    """Start every server of the plan in turn and measure all its workloads.

    A launch that fails ends its config on that side, with its reason kept; the others go on.

    Args:
        targets: side → SGLang build; ``head`` alone, or ``base`` and ``head``.
        measurements: filled as the run goes, so that what was measured survives an interruption.
        still_open: told how many launches are complete, says which configs (by label) need another.
        clock: says how many launches there is time for.
        beside: neighbourhoods of GPU configs whose servers, of all builds, fit on their GPUs at once.
    """
    most = plan.starts * len(targets)

    def job(turn: Turn, launch: int) -> Job:
        title = f"server {turn.number}/{most}: {_name(turn.side, targets)}{turn.config.label}"
        target = targets[turn.side]
        return Job(
            plan, settings, turn.side, target, turn.config, launch, folder, progress, measurements, title
        )

    def room(launch: int) -> bool:
        if clock.leaves_room():
            return True
        measurements.notes.append(clock.note(launch, plan.launches))
        return False

    with StreamingClient() as client:

        def make(launch: int, turns: Sequence[Turn]) -> None:
            for some in at_once([job(turn, launch) for turn in turns], beside):
                _launch(some, client)

        launch_by_launch(plan, tuple(targets), measurements, make, still_open, room)


@dataclass(frozen=True)
class Turn:
    """A launch of one server config on one side; ``number`` counts all that were planned."""

    number: int
    side: str
    config: ServerConfig


def launch_by_launch(
    plan: Plan,
    sides: Sequence[str],
    measurements: Measurements,
    make: Callable[[int, Sequence[Turn]], None],
    still_open: Callable[[int], Collection[str]],
    room: Callable[[int], bool],
) -> None:
    """The order of a run, whether it measures or only looks at what was measured.

    Args:
        measurements: filled by ``make``. A config that failed on a side has no further turns there.
        make: has one launch of all these made, or takes what it came to.
        still_open: told how many launches are complete, says which configs (by label) need another.
        room: whether the launch of this number, from 0, can be made; if not, the run ends.
    """
    number = 0
    labels: Collection[str] = {config.label for config in plan.configs}
    for launch in range(plan.launches):
        if not room(launch):
            break
        turns = []
        for config, in_order in schedule(plan, sides, launch):
            for side in in_order:
                number += 1
                if (side, config.label) not in measurements.failures and config.label in labels:
                    turns.append(Turn(number, side, config))
        make(launch, turns)
        measurements.made = launch + 1
        labels = with_their_groups(plan, still_open(launch + 1))


def with_their_groups(plan: Plan, labels: Collection[str]) -> frozenset[str]:
    """A server that needs another launch takes those that it is compared with along."""
    groups = {config.group for config in plan.configs if config.label in labels}
    return frozenset(config.label for config in plan.configs if config.group in groups)


def at_once(
    jobs: Sequence[Job], beside: Collection[str] = (), processors: int | None = None
) -> Iterator[list[Job]]:
    """Whose servers are up together.

    Both builds' are, and those that are compared with one another, since an idle one sleeps: on a CPU always, on a
    GPU where it has memory for all and they are on the same. On a CPU, where nothing is timed, so are those of different configs, one for each
    processor.
    """
    processors = processors or len(os.sched_getaffinity(0))
    counted: list[Job] = []
    for name, group in groupby(jobs, lambda job: job.config.neighbourhood):
        mine = list(group)
        if mine[0].config.device != "cpu":
            yield from [mine] if name in beside else ([job] for job in mine)
        elif any(load.timed for job in mine for load in job.loads):
            yield mine
        else:
            counted += mine
    yield from (counted[begin : begin + processors] for begin in range(0, len(counted), processors))


def _launch(jobs: Sequence[Job], client: StreamingClient) -> None:
    """First what needs a server, then, with that out of the way, what needs workers, one kind after the other."""
    kinds = dict.fromkeys(load.workload.worker for job in jobs for load in job.loads)
    for worker in sorted(kinds, key=lambda name: name is not None):
        loads = {
            job.config.label: [load for load in job.loads if load.workload.worker == worker] for job in jobs
        }
        takers = [
            job
            for job in jobs
            if loads[job.config.label] and (job.side, job.config.label) not in job.measurements.failures
        ]
        if not takers:
            continue
        if worker is None:
            serve(takers, loads, client)
        else:
            work(takers, loads, worker)


def schedule(plan: Plan, sides: Sequence[str], launch: int) -> Iterator[tuple[ServerConfig, tuple[str, ...]]]:
    """Server configs in order, each with its sides in the order in which they take their turns.

    Which side of a pair of launches goes first is drawn by the run's seed, and the next pair is the other way. So
    neither is the later one more often, and no rhythm of the machine can go with one side. So it is with servers
    that are compared with one another.
    """
    for _, group in groupby(plan.configs, lambda config: config.group):
        for config in _turned(plan, [one for one in group if launch < plan.launches_of(one)], launch):
            drawn = Random(f"{plan.seed} {config.label} {launch // 2}").random() < 0.5
            yield config, tuple(sides if drawn == (launch % 2 == 0) else reversed(sides))


def _turned(plan: Plan, configs: list[ServerConfig], launch: int) -> list[ServerConfig]:
    if len(configs) < 2:
        return configs
    drawn = Random(f"{plan.seed} {configs[0].group} {launch // 2}").random() < 0.5
    return configs if drawn == (launch % 2 == 0) else configs[::-1]


def _name(side: str, targets: Mapping[str, Target]) -> str:
    return f"{side} " if len(targets) > 1 else ""
