"""Playing a round wave by wave: what later prompts say depends on what earlier ones were answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Protocol

from sglperf.core.observation import ClientHealth, RequestObservation
from sglperf.workload.plan import RoundPlan, spoken

Prompts = tuple[tuple[int, ...], ...]
"""Token ids of each request's whole prompt, in plan order."""


class Client(Protocol):
    """What plays one wave: `sglperf.workload.client.StreamingClient`."""

    def execute(
        self, base_url: str, plan: RoundPlan, *, timeout: float
    ) -> tuple[tuple[RequestObservation, ...], ClientHealth]: ...


@dataclass(frozen=True)
class Played:
    """What came of a round.

    Attributes:
        requests: in plan order.
        client: the instrument's health, the worst of its waves.
        prompts: each request's whole prompt, as it was sent.
    """

    requests: tuple[RequestObservation, ...]
    client: ClientHealth
    prompts: Prompts


def play(
    client: Client, base_url: str, plan: RoundPlan, *, timeout: float, flush: Callable[[], None]
) -> Played:
    """Play every wave of a round; after a request that failed, the waves that are left fail too.

    Args:
        timeout: seconds for the whole round.
        flush: empties the server's prefix cache.
    """
    end = monotonic() + timeout
    requests: list[RequestObservation] = []
    prompts: list[tuple[int, ...]] = []
    health: list[ClientHealth] = []
    for wave, planned in plan.parts():
        if any(request.error for request in requests):
            break
        if wave.flush:
            flush()
        said = [spoken(request, prompts, _answers(requests)) for request in planned]
        part = RoundPlan(tuple(said), wave.concurrency)
        observed, client_health = client.execute(base_url, part, timeout=max(end - monotonic(), 0.001))
        requests += _placed(observed, len(requests), sum(each.wall_seconds for each in health))
        prompts += [request.input_ids for request in said]
        health.append(client_health)
    return Played(tuple(requests), _worst(health), tuple(prompts))


def _answers(requests: Sequence[RequestObservation]) -> list[tuple[int, ...]]:
    return [request.output_ids for request in requests]


def _placed(observed: Sequence[RequestObservation], position: int, begun: float) -> list[RequestObservation]:
    """A wave's observations at their place in the round, on the round's clock."""
    return [
        replace(
            request,
            index=request.index + position,
            sent=request.sent + begun,
            arrivals=tuple(time + begun for time in request.arrivals),
            finished=request.finished + begun,
        )
        for request in observed
    ]


def _worst(health: Sequence[ClientHealth]) -> ClientHealth:
    return ClientHealth(
        lag_p99=max(each.lag_p99 for each in health),
        lag_max=max(each.lag_max for each in health),
        beats=sum(each.beats for each in health),
        cpu_seconds=sum(each.cpu_seconds for each in health),
        wall_seconds=sum(each.wall_seconds for each in health),
        realtime=all(each.realtime for each in health),
        began=health[0].began,
    )
