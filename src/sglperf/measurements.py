"""What a run has measured, as plain values: launches, rounds, failures, and where the time went."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sglperf.core.answers import Answer
from sglperf.core.gates import Gate
from sglperf.core.knee import Probe
from sglperf.core.prediction import Departure


class Progress(Protocol):
    """Where a run says what it is doing. ``done`` lines stay; the others may be overwritten by the next."""

    def __call__(self, text: str, *, done: bool = False) -> None: ...


@dataclass(frozen=True)
class Round:
    """A measured round, without its raw arrivals, which are in the journal.

    Attributes:
        side, config, launch, workload, index: which round it is.
        values: by metric name; where a gate failed, those that it leaves standing.
        gates: those it failed.
        finish_reasons: reason → requests.
        seconds: from sending the first request to the last token.
        predicted: by metric name; what the cache model says of this round, where it is asked.
        departures: by metric name; where the server departs from that.
        stages: wall seconds of each stage of the scheduler, by its own account; empty where it keeps none. It
            counts once a second, so a round's may hold the end of the round before.
        answers: of each request, where they are compared with another server's; in plan order.
        method: how it was timed, where there is a choice; rounds of different methods are not compared.
        batch_sizes: requests that decode, on average in equal parts of the load's time; empty for other rounds.
        probes: rates that were tried in search of the highest that the server sustains, in the order of trial.
        curve: inter-token latency against tokens in the KV cache, where a request's life is told; shape (points, 2).
    """

    side: str
    config: str
    launch: int
    workload: str
    index: int
    values: Mapping[str, float]
    gates: tuple[Gate, ...]
    finish_reasons: Mapping[str, int]
    seconds: float
    predicted: Mapping[str, float] = field(default_factory=dict)
    departures: Mapping[str, Departure] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    method: str = ""
    batch_sizes: tuple[float, ...] = ()
    probes: tuple[Probe, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Launch:
    """One server, or worker, from start to stop.

    Attributes:
        startup_seconds: until it was ready.
        resolved: its resolved arguments.
        kv_capacity_tokens: tokens that its KV cache holds.
        worker: script of a worker; None for a server.
        gpus: UUIDs of those that it ran on, as NVML has them; empty on a CPU, and where nobody knows.
    """

    side: str
    config: str
    index: int
    startup_seconds: float
    version: str
    resolved: Mapping[str, Any]
    kv_capacity_tokens: int | None
    worker: str | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure(Gate):
    """Why the launches of a server config ended, and in which of them."""

    launch: int = 0


@dataclass
class Measurements:
    """All that was measured, growing while a plan is executed.

    Attributes:
        failures: (side, config) → why its launches stopped.
        seconds: where the wall time went: ``start``, ``load``, ``warm-up``, ``stop``.
        notes: what a person should be told of how it went.
        made: launches that there was time for, of each server config that needed them.
    """

    launches: list[Launch] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    failures: dict[tuple[str, str], Gate] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    notes: list[str] = field(default_factory=list)
    made: int = 0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Book the block's wall time under ``what``."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - begin
