"""One launch's rounds on a server: flushed, played, gated, digested, journalled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from sglperf.core.catalogue import METRICS
from sglperf.core.derive import derive
from sglperf.core.gates import Asked, Gate, Limits, failed_gates
from sglperf.core.metric import Kind
from sglperf.core.observation import RoundObservation
from sglperf.core.prediction import PREDICTED, departures, predict
from sglperf.errors import ServerDied
from sglperf.job import Job
from sglperf.measurements import Launch, Round
from sglperf.plan import Load
from sglperf.predicting import cache_shape, sent_waves
from sglperf.probes.counters import delta, flush_cache, read_counters
from sglperf.probes.neighbours import NeighbourWatch
from sglperf.server.failure import explain
from sglperf.server.launch import Server, start_server
from sglperf.workload.client import StreamingClient
from sglperf.workload.rounds import Prompts, play

# The scheduler's own count, under one name in every supported version.
_TOKENS = "realtime_tokens_total"
_TOKEN_MODES = {"prefill_tokens": "prefill_compute", "decode_tokens": "decode"}
_EVICTED = "evicted_tokens_total"


def serve(jobs: Sequence[Job], loads: Sequence[Load], client: StreamingClient) -> None:
    """Start the jobs' servers, and measure these workloads on all of them in turn.

    Two builds that are up together take their rounds in ABBA order, so that a drift of the machine touches both
    alike. A server that does not come up, or goes away, ends its own job only.
    """
    plan = jobs[0].plan
    with ExitStack() as stack:
        up: list[_Serving] = []
        for job in jobs:
            job.attempt(partial(_begin, job, client, stack, up))
        for load in loads:
            for _ in range(plan.warmup_rounds if load.timed else 0):
                _each(up, partial(_Serving.warm_up, load=load))
        for index in range(plan.rounds_of(loads)):
            # Each round begins with another workload, so that none always follows the same neighbour.
            for load in (*loads[index % len(loads) :], *loads[: index % len(loads)]):
                if index and not load.timed:
                    continue  # a count has no noise: one round tells it
                _each(up, partial(_Serving.round, load=load, index=index), turned=index % 2 == 1)
        for serving in up:
            done = f"{counted(plan.rounds_of(loads), 'round')} of {counted(len(loads), 'workload')}"
            serving.job.says(done, done=True)


def _begin(job: Job, client: StreamingClient, stack: ExitStack, up: list[_Serving]) -> None:
    up.append(stack.enter_context(_serving(job, client)))


def _each(up: list[_Serving], do: Callable[[_Serving], None], *, turned: bool = False) -> None:
    for serving in up[::-1] if turned else up[:]:
        if not serving.job.attempt(partial(do, serving)):
            up.remove(serving)


def counted(number: int, what: str) -> str:
    """``1 round``, ``5 rounds``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@contextmanager
def _serving(job: Job, client: StreamingClient) -> Iterator[_Serving]:
    """The job's server, from its start to its stop."""
    with job.measurements.timed("start"):
        server = start_server(
            job.target,
            job.config,
            log_path=job.log,
            timeout=job.settings.start_timeout,
            on_progress=lambda _, stage: job.says(stage),
        )
    try:
        info = server.info
        job.launched(
            Launch(
                job.side,
                job.config.label,
                job.launch,
                server.startup_seconds,
                info.version,
                info.resolved,
                info.kv_capacity_tokens,
            )
        )
        yield _Serving(job, client, server)
    finally:
        with job.measurements.timed("stop"):
            server.stop()


@dataclass(frozen=True, eq=False)
class _Serving:
    """Rounds on a running server.

    Attributes:
        counted: the server's counters after its last round; empty before the first.
    """

    job: Job
    client: StreamingClient
    server: Server
    counted: dict[str, float] = field(default_factory=dict)

    def warm_up(self, load: Load) -> None:
        """A round that is not kept."""
        self.job.says(f"warm-up, {load.workload.label}")
        with self.job.measurements.timed("warm-up"):
            self.observe(load)

    def round(self, load: Load, index: int) -> None:
        """One round, repeated a bounded number of times while a gate rejects it."""
        self.job.says(f"round {index + 1}/{self.job.plan.rounds}, {load.workload.label}")
        for _ in range(1 + self.job.settings.round_retries):
            observation, prompts = self.observe(load)
            gates = failed_gates(observation, _asked(load), self._limits())
            round_ = self._digest(load, index, observation, gates)
            if load.workload.predicted and round_.values:
                round_ = self._compared(load, round_, observation, prompts)
            self.job.measured(round_, observation)
            if not any(load.timed or not gate.timing_only for gate in gates):
                return
            self.server.check_alive()

    def _limits(self) -> Limits:
        return Limits(
            client_lag_share=self.job.settings.client_lag_share,
            foreign_cpu_share=self.job.settings.foreign_cpu_share,
        )

    def observe(self, load: Load) -> tuple[RoundObservation, Prompts]:
        """One round as it was seen, and the prompts that were sent in it.

        Raises:
            ServerDied: the server went away, or did not answer within the round's time.
        """
        timeout = self.job.settings.round_timeout
        try:
            before = self.counted or self._settled()
            neighbours, begin = NeighbourWatch(), time.monotonic()
            played = play(
                self.client,
                self.server.base_url,
                load.round,
                timeout=timeout,
                flush=lambda: flush_cache(self.server.base_url, deadline=timeout),
            )
            foreign, late = neighbours.foreign_share(), time.monotonic() - begin >= timeout
            errors = [request.error for request in played.requests if request.error]
            if errors:
                _await_death(self.server)
            if errors and late:
                raise ServerDied(f"{load.workload.label} hung: {errors[0]}. {explain(self.server.log_path)}")
            after = self._settled()
        except ServerDied:
            _await_death(self.server)
            raise
        counters = delta(before, after)
        self.counted.update(after)
        counters |= _token_counts(counters)
        return RoundObservation(played.requests, played.client, counters, foreign), played.prompts

    def _settled(self) -> dict[str, float]:
        """Counters once nothing runs any more, and an empty prefix cache.

        A flush is taken only by an idle scheduler, which has counted its last iteration. It counts nothing
        itself, so these are also the counters from which the next round begins.
        """
        flush_cache(self.server.base_url, deadline=self.job.settings.round_timeout)
        return read_counters(self.server.base_url)

    def _digest(
        self, load: Load, index: int, observation: RoundObservation, gates: tuple[Gate, ...]
    ) -> Round:
        values = believable(observation, gates)
        if values and self.server.info.kv_capacity_tokens is not None:
            values["kv_capacity_tokens"] = float(self.server.info.kv_capacity_tokens)
        return Round(
            self.job.side,
            self.job.config.label,
            self.job.launch,
            load.workload.label,
            index,
            values,
            gates,
            dict(Counter(request.finish_reason or "none" for request in observation.requests)),
            observation.client.wall_seconds,
        )

    def _compared(self, load: Load, round_: Round, observation: RoundObservation, prompts: Prompts) -> Round:
        """The round with what the cache model says of it."""
        outputs = [request.output_ids for request in observation.requests]
        prediction = predict(
            cache_shape(self.job.config, self.job.target.adapter), sent_waves(load.round, prompts, outputs)
        )
        cached = [request.cached_tokens or 0 for request in observation.requests]
        return replace(
            round_,
            predicted={metric: prediction.total(metric) for metric in PREDICTED},
            departures=departures(prediction, cached, round_.values.get("evicted_tokens")),
        )


def believable(observation: RoundObservation, gates: Sequence[Gate]) -> dict[str, float]:
    """The round's values, as far as its gates leave them standing."""
    if any(not gate.timing_only for gate in gates):
        return {}
    values = derive(observation)
    return {name: value for name, value in values.items() if not gates or METRICS[name].kind is Kind.EXACT}


def _await_death(server: Server) -> None:
    """A connection breaks a moment before its process is gone; the process's end says more.

    Raises:
        ServerDied: with the last log lines, if the server has ended.
    """
    for _ in range(20):
        server.check_alive()
        time.sleep(0.05)


def _token_counts(counters: Mapping[str, float]) -> dict[str, float]:
    """Tokens computed by each kind of pass. A kind that has not occurred yet has no counter: it counts zero."""
    if _TOKENS not in counters:
        return {}
    counts = {name: counters.get(f"{_TOKENS}{{mode={mode}}}", 0.0) for name, mode in _TOKEN_MODES.items()}
    return counts | {"evicted_tokens": counters.get(_EVICTED, 0.0)}


def _asked(load: Load) -> Asked:
    return Asked(
        load.round.prompt_tokens,
        tuple(request.max_new_tokens for request in load.round.requests),
        load.workload.cold,
    )
