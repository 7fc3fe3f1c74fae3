"""One launch's rounds on a server: flushed, played, gated, digested, journalled."""

from __future__ import annotations

import re
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
from sglperf.errors import MeasurementError, ServerDied
from sglperf.job import Job
from sglperf.measurements import Launch, Round
from sglperf.plan import Load
from sglperf.predicting import cache_shape, sent_waves
from sglperf.probes.counters import delta, flush_cache, read_counters
from sglperf.probes.neighbours import NeighbourWatch
from sglperf.server.failure import explain
from sglperf.server.launch import Server, Starting, begin_server
from sglperf.server.leases import Lease, gpu_uuids, lease_gpus
from sglperf.workload.client import StreamingClient
from sglperf.workload.rounds import Prompts, play

# The scheduler's own count, under one name in every supported version.
_TOKENS = "realtime_tokens_total"
_TOKEN_MODES = {"prefill_tokens": "prefill_compute", "decode_tokens": "decode"}
_EVICTED = "evicted_tokens_total"
# Without the time in which there is nothing to do.
_STAGE = re.compile(r"scheduler_stage_seconds_total\{category=(?P<name>(?!idle)\w+)\}")


def serve(jobs: Sequence[Job], loads: Mapping[str, Sequence[Load]], client: StreamingClient) -> None:
    """Start the jobs' servers side by side, and measure their workloads.

    Two builds that are up together take their rounds in ABBA order, so that a drift of the machine touches both
    alike. A server that does not come up, or goes away, ends its own job only.

    Args:
        loads: server config's label → what is sent to its servers.
    """
    with started(jobs, client) as up:
        for serving in up:
            serving.launched()
        for label in dict.fromkeys(job.config.label for job in jobs):
            _measure([serving for serving in up if serving.job.config.label == label], loads[label])


def _measure(up: list[Serving], loads: Sequence[Load]) -> None:
    """All rounds of one server config, on the builds that are up."""
    if not up:
        return
    plan = up[0].job.plan
    for load in loads:
        for _ in range(plan.warmup_rounds if load.timed else 0):
            each(up, partial(Serving.warm_up, load=load))
    for index in range(plan.rounds_of(loads)):
        # Each round begins with another workload, so that none always follows the same neighbour.
        for load in (*loads[index % len(loads) :], *loads[: index % len(loads)]):
            if index and not load.timed:
                continue  # a count has no noise: one round tells it
            each(up, partial(Serving.round, load=load, index=index), turned=index % 2 == 1)
    for serving in up:
        done = f"{counted(plan.rounds_of(loads), 'round')} of {counted(len(loads), 'workload')}"
        serving.job.says(done, done=True)


@contextmanager
def started(jobs: Sequence[Job], client: StreamingClient) -> Iterator[list[Serving]]:
    """The servers of those jobs that come up, in the same order, until the end of the block.

    On a CPU their processes are all started before the first is waited for: most of a start is one processor's work.
    On a GPU one comes up after the other, since each measures the memory that it finds free.
    """
    measurements = jobs[0].measurements
    with ExitStack() as stack:
        up: list[Serving] = []
        with measurements.timed("start"):
            try:
                gpus = _leased_together(jobs, stack)
            except MeasurementError as error:
                for job in jobs:
                    job.failed(error)
            else:
                for group in [[job] for job in jobs] if jobs[0].config.device == "cuda" else [jobs]:
                    _come_up(group, client, stack, gpus, up)
        try:
            yield up
        finally:
            with measurements.timed("stop"):
                stack.close()


def _leased_together(jobs: Sequence[Job], stack: ExitStack) -> list[Lease] | None:
    """The GPUs that several servers are to share; None where each leases its own, or needs none."""
    if len(jobs) == 1 or jobs[0].config.device != "cuda":
        return None
    return stack.enter_context(lease_gpus(gpu_uuids(jobs[0].config.tp_set)))


def _come_up(
    jobs: Sequence[Job],
    client: StreamingClient,
    stack: ExitStack,
    gpus: Sequence[Lease] | None,
    up: list[Serving],
) -> None:
    """Start all, then wait for all."""
    starting: list[tuple[Job, Starting]] = []
    for job in jobs:
        job.attempt(partial(_begin, job, stack, gpus, starting))
    for job, server in starting:
        job.attempt(partial(_await, job, server, client, stack, up))


def _begin(
    job: Job, stack: ExitStack, gpus: Sequence[Lease] | None, starting: list[tuple[Job, Starting]]
) -> None:
    config = job.config
    if gpus is not None:  # an idle scheduler polls, and would take a processor from the one being measured
        config = replace(config, arguments=(*config.arguments, job.target.adapter.sleep_on_idle))
    server = begin_server(job.target, config, log_path=job.log, gpus=gpus)
    stack.callback(server.stop)
    starting.append((job, server))


def _await(
    job: Job, starting: Starting, client: StreamingClient, stack: ExitStack, up: list[Serving]
) -> None:
    server = starting.ready(job.settings.start_timeout, lambda _, stage: job.says(stage))
    stack.callback(server.stop)
    up.append(Serving(job, client, server))


def each(up: list[Serving], do: Callable[[Serving], None], *, turned: bool = False) -> None:
    """Do it on every server in turn, or the other way round; one that fails is out from then on."""
    for serving in up[::-1] if turned else up[:]:
        if not serving.job.attempt(partial(do, serving)):
            up.remove(serving)


def counted(number: int, what: str) -> str:
    """``1 round``, ``5 rounds``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True, eq=False)
class Serving:
    """Rounds on a running server.

    Attributes:
        counted: the server's counters after its last round; empty before the first.
    """

    job: Job
    client: StreamingClient
    server: Server
    counted: dict[str, float] = field(default_factory=dict)

    def launched(self) -> None:
        """Keep that it came up, and as what."""
        job, info = self.job, self.server.info
        seconds, capacity = self.server.startup_seconds, info.kv_capacity_tokens
        job.launched(
            Launch(job.side, job.config.label, job.launch, seconds, info.version, info.resolved, capacity)
        )

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
        counters |= _token_counts(counters, self._counting_ranks())
        return RoundObservation(played.requests, played.client, counters, foreign), played.prompts

    def _counting_ranks(self) -> int:
        """How often an evicted token is counted."""
        return self.job.config.tp_size if self.job.target.adapter.counts_every_rank else 1

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
            stages=stage_seconds(observation.counters),
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


def _token_counts(counters: Mapping[str, float], ranks: int) -> dict[str, float]:
    """Tokens computed by each kind of pass. A kind that has not occurred yet has no counter: it counts zero."""
    if _TOKENS not in counters:
        return {}
    counts = {name: counters.get(f"{_TOKENS}{{mode={mode}}}", 0.0) for name, mode in _TOKEN_MODES.items()}
    return counts | {"evicted_tokens": counters.get(_EVICTED, 0.0) / ranks}


def stage_seconds(counters: Mapping[str, float]) -> dict[str, float]:
    """Wall seconds of each stage of the scheduler, where this version counts them."""
    found = ((_STAGE.fullmatch(name), seconds) for name, seconds in counters.items())
    return {stage["name"]: seconds for stage, seconds in found if stage and seconds}


def _asked(load: Load) -> Asked:
    return Asked(
        load.round.prompt_tokens,
        tuple(request.max_new_tokens for request in load.round.requests),
        load.workload.cold,
    )
