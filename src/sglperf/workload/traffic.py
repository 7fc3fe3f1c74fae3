"""Continuous load: many users at once, with prompts and answers of mixed length.

A *closed loop* keeps so many requests in flight: users who ask again when they are answered. An *open loop* sends each
request at its own time, whatever is in flight: users who do not know of one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from sglperf.core.knee import Search
from sglperf.core.service import Objective, Service
from sglperf.errors import ConfigError
from sglperf.workload.arrivals import LENGTH_CLIP, mixed_lengths, ramp_times, renewal_times
from sglperf.workload.plan import RequestPlan, RoundPlan
from sglperf.workload.shapes import Workload, distinct_prompts

VARIATION = {"poisson": 1.0, "bursty": 2.0}
"""Coefficient of variation of the gaps between arrivals."""
ARRIVALS = (*VARIATION, "ramp")
# A round is warmed up by the first so many of its requests: every one of its shapes is compiled, or touched, by then.
_WARM_UP_SHARE = 4


@dataclass(frozen=True)
class Traffic(Workload):
    """Requests of mixed length, none of which finds anything in the prefix cache.

    Attributes:
        requests: in a round; None takes the profile's, as for all that follow.
        prompt_tokens, new_tokens: medians of the lengths (`sglperf.workload.arrivals.mixed_lengths`).
        ttft_objective_ms, tpot_objective_ms: what a request must keep to count for the goodput: time to its first token,
            and the mean time of each further one, milliseconds.
    """

    requests: int | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    ttft_objective_ms: int | None = None
    tpot_objective_ms: int | None = None

    @property
    def objective(self) -> Objective:
        """What is asked of each request."""
        assert self.ttft_objective_ms is not None
        assert self.tpot_objective_ms is not None
        return Objective(self.ttft_objective_ms / 1e3, self.tpot_objective_ms / 1e3)

    @property
    def longest(self) -> int:
        return LENGTH_CLIP * ((self.prompt_tokens or 0) + (self.new_tokens or 0))

    def warm_up(self, round_: RoundPlan) -> RoundPlan:
        return replace(round_, requests=round_.requests[: -(-len(round_.requests) // _WARM_UP_SHARE)])

    def _requests(self, times: tuple[float, ...], *, seed: int, vocab_size: int) -> tuple[RequestPlan, ...]:
        assert self.prompt_tokens is not None
        assert self.new_tokens is not None
        lengths = mixed_lengths(len(times), self.prompt_tokens, seed=f"{seed} prompts")
        answers = mixed_lengths(len(times), self.new_tokens, seed=f"{seed} answers")
        prompts = distinct_prompts(lengths, seed=seed, vocab_size=vocab_size)
        return tuple(map(RequestPlan, prompts, answers, times))

    @property
    def _lengths(self) -> str:
        return f"p{self.prompt_tokens}-n{self.new_tokens}"


@dataclass(frozen=True)
class ClosedLoop(Traffic):
    """So many requests in flight from the first to the last.

    Attributes:
        concurrency: how many.
    """

    concurrency: int = 8
    kind: ClassVar[str] = "closed-loop"

    @property
    def streams(self) -> int:
        """Requests that the server must hold at once."""
        return self.concurrency

    @property
    def service(self) -> Service:
        return Service(self.objective)

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.requests is not None
        requests = self._requests((0.0,) * self.requests, seed=seed, vocab_size=vocab_size)
        return RoundPlan(requests, self.concurrency)

    @property
    def label(self) -> str:
        return f"closed-c{self.concurrency}-{self._lengths}-r{self.requests}"


@dataclass(frozen=True)
class OpenLoop(Traffic):
    """Requests that arrive whatever the server does; meant to be fewer than it can serve.

    Attributes:
        arrivals: ``poisson``; ``bursty``, gaps of twice the variation; ``ramp``, a rate that rises to twice its mean
            and falls again.
        seconds: over which they arrive; None takes the profile's.
    """

    arrivals: str = "poisson"
    seconds: int | None = None
    kind: ClassVar[str] = "open-loop"

    def filled(self, defaults: Mapping[str, int]) -> Self:
        if self.arrivals not in ARRIVALS:
            *others, last = ARRIVALS
            known = f"{', '.join(others)} or {last}"
            raise ConfigError(
                f"workload {type(self).__name__} has arrivals = {self.arrivals!r}: give {known}"
            )
        return super().filled(defaults)

    @property
    def service(self) -> Service:
        return Service(self.objective, open=True, stationary=self.arrivals == "poisson")

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.requests is not None
        assert self.seconds is not None
        if self.arrivals == "ramp":
            times = ramp_times(self.requests, self.seconds, seed=f"{seed} arrivals")
        else:
            variation = VARIATION[self.arrivals]
            times = renewal_times(self.requests, self.seconds, variation=variation, seed=f"{seed} arrivals")
        return RoundPlan(self._requests(times, seed=seed, vocab_size=vocab_size))

    @property
    def label(self) -> str:
        return f"{self.arrivals}-{self.requests}in{self.seconds}s-{self._lengths}"


@dataclass(frozen=True)
class Saturation(Traffic):
    """A search for the highest rate of Poisson arrivals at which the objective is kept.

    A closed loop says what the server can do at most; probes, each an open loop of the same requests at another rate,
    close in on the rate at which too many of them miss the objective.

    Attributes:
        concurrency: of the closed loop; None takes the profile's.
        probes: open loops.
    """

    concurrency: int | None = None
    probes: int = 4
    kind: ClassVar[str] = "saturation"

    @property
    def streams(self) -> int:
        """Requests that the server must hold at once, as far as that is known beforehand."""
        return self.concurrency or 1

    @property
    def service(self) -> Service:
        return Service(self.objective)

    @property
    def search(self) -> Search:
        return Search(self.probes)

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        """The closed loop."""
        assert self.requests is not None
        requests = self._requests((0.0,) * self.requests, seed=seed, vocab_size=vocab_size)
        return RoundPlan(requests, self.concurrency)

    def at_rate(self, round_: RoundPlan, rate: float, *, seed: int) -> RoundPlan:
        """The same requests as an open loop of ``rate`` requests a second, always in the same pattern."""
        count = len(round_.requests)
        times = renewal_times(count, count, variation=1.0, seed=f"{seed} arrivals")
        requests = (replace(one, at=time / rate) for one, time in zip(round_.requests, times, strict=True))
        return RoundPlan(tuple(requests))

    @property
    def label(self) -> str:
        return f"{self.kind}-c{self.concurrency}-{self._lengths}-r{self.requests}"
