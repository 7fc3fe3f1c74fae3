"""Rounds taken in turn by what is up together: servers of two builds, servers that are compared, or their workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from sglperf.job import Job
from sglperf.plan import Load


class Running(Protocol):
    """A server or a worker that is up."""

    @property
    def job(self) -> Job: ...

    def warm_up(self, load: Load) -> None:
        """A round that is not kept."""

    def round(self, load: Load, index: int) -> None:
        """A round that is kept."""


Up = TypeVar("Up", bound=Running)


def take_turns(up: list[Up], loads: Mapping[str, Sequence[Load]]) -> None:
    """All rounds of one group, of those that are up, in ABBA order: a drift of the machine touches all alike.

    Args:
        loads: server config's label → its workloads. Not all need have been selected for each.
    """
    if not up:
        return
    plan, launch, mine = up[0].job.plan, up[0].job.launch, [loads[one.job.config.label] for one in up]
    every = list({load.workload.label: load for some in mine for load in some}.values())
    takers = {load.workload.label: _takers(load, loads) for load in every}
    traced = [load for load in every if load.workload.traced]
    plain = [load for load in every if not load.workload.traced]
    for load in every:
        for _ in range(plan.warmup_rounds if load.timed or load.workload.traced else 0):
            each(up, partial(_warm_up, load=load), of=takers[load.workload.label])
    for index in range(plan.rounds_of(plain)):
        for load in _begun_with(plain, index):
            if index and not load.timed:
                continue  # a count has no noise: one round tells it
            do = partial(_round, load=load, index=index)
            each(up, do, of=takers[load.workload.label], turned=index % 2 == 1)
    # The profiler is known to end servers, so it comes last, and not always for the same workload.
    for load in _begun_with(traced, launch):
        each(up, partial(_round, load=load, index=0), of=takers[load.workload.label])
    for one in up:
        taken = loads[one.job.config.label]
        done = f"{counted(plan.rounds_of(taken), 'round')} of {counted(len(taken), 'workload')}"
        one.job.says(done, done=True)


def _warm_up(one: Running, load: Load) -> None:
    one.warm_up(load)


def _round(one: Running, load: Load, index: int) -> None:
    one.round(load, index)


def _begun_with(loads: Sequence[Load], number: int) -> Sequence[Load]:
    """Another one first each time, so that none always follows the same neighbour."""
    first = number % len(loads) if loads else 0
    return (*loads[first:], *loads[:first])


def _takers(load: Load, loads: Mapping[str, Sequence[Load]]) -> frozenset[str]:
    label = load.workload.label
    return frozenset(
        config for config, some in loads.items() if label in {one.workload.label for one in some}
    )


def each(
    up: list[Up], do: Callable[[Up], None], *, of: Collection[str] | None = None, turned: bool = False
) -> None:
    """Do it on every one in turn, or the other way round; one that fails is out from then on.

    Args:
        of: labels of the server configs that are meant; None for all.
    """
    for one in up[::-1] if turned else up[:]:
        if of is not None and one.job.config.label not in of:
            continue
        if not one.job.attempt(partial(do, one)):
            up.remove(one)


def counted(number: int, what: str) -> str:
    """``1 round``, ``5 rounds``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
