"""Servers on a simulated clock whose steady state is known, for the tests of load. They stand in for no measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from samples import observed, request

from sglperf.core.observation import RequestObservation, RoundObservation
from sglperf.workload.plan import RoundPlan


@dataclass
class BatchServer:
    """Continuous batching in its simplest form: each pass either prefills all that wait, or decodes a token of each.

    Attributes:
        step, each, prompt_token: seconds of a pass, of a sequence in a decode pass, of a token in a prefill pass.
        limit: sequences in the batch.
        slow_from: batch from which on each decode pass takes ``slow`` seconds more.
    """

    step: float = 0.006
    each: float = 0.0006
    prompt_token: float = 0.0002
    limit: int = 64
    slow_from: int = 10**9
    slow: float = 0.0

    def play(self, plan: RoundPlan) -> RoundObservation:
        """What a client sees of it."""
        asked, now = list(plan.requests), 0.0
        order = sorted(range(len(asked)), key=lambda i: asked[i].at)
        sent: dict[int, float] = {}
        arrivals: dict[int, list[float]] = {i: [] for i in order}
        waiting: list[int] = []
        running: list[int] = []
        while order or waiting or running:
            while order and self._comes(plan, asked[order[0]].at, now, len(waiting) + len(running)):
                waiting.append(order.pop(0))
                sent[waiting[-1]] = asked[waiting[-1]].at if plan.concurrency is None else now
            if not waiting and not running:
                now = asked[order[0]].at
                continue
            taken = waiting[: self.limit - len(running)]
            del waiting[: len(taken)]
            if taken:
                now += self.step + self.prompt_token * sum(len(asked[i].input_ids) for i in taken)
            else:
                now += self.step + self.each * len(running) + self.slow * (len(running) >= self.slow_from)
            for i in taken or running:
                arrivals[i].append(now)
            running = [i for i in (*running, *taken) if len(arrivals[i]) < asked[i].max_new_tokens]
        seen = [
            request(arrivals[i], sent=sent[i], index=i, prompt_tokens=len(one.input_ids), retractions=0)
            for i, one in enumerate(asked)
        ]
        return observed(*seen)

    def _comes(self, plan: RoundPlan, at: float, now: float, present: int) -> bool:
        return at <= now if plan.concurrency is None else present < plan.concurrency

    def decode_rate(self, streams: int) -> float:
        """Tokens per second of so many sequences that decode without end."""
        return streams / (self.step + self.each * streams + self.slow * (streams >= self.slow_from))


def single_server(times: Sequence[float], service: Sequence[float]) -> list[RequestObservation]:
    """One queue, one server, first come, first served (Lindley's recursion); a single token each, when it leaves."""
    free, seen = 0.0, []
    for index, (at, seconds) in enumerate(zip(times, service, strict=True)):
        free = max(free, at) + seconds
        seen.append(request((free,), sent=at, index=index))
    return seen


def poisson_queue(load: float, count: int, seed: int) -> list[RequestObservation]:
    """M/M/1 from empty, service rate 1: in its steady state load / (1 - load) are in the system."""
    source = np.random.default_rng(seed)
    times = np.cumsum(source.exponential(1 / load, count))
    return single_server(times.tolist(), source.exponential(1.0, count).tolist())
