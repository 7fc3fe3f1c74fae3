"""One launch's rounds on a server: flushed, played, gated, digested, journalled."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sglperf.core.answers import Answer
from sglperf.core.catalogue import STARTUP
from sglperf.core.derive import derive, latency_curve
from sglperf.core.gates import Asked, Gate, Limits, failed_gates
from sglperf.core.observation import RoundObservation
from sglperf.core.prediction import PREDICTED, departures, predict
from sglperf.core.served import batch_series, sent_late, served, service_gates
from sglperf.core.service import Service
from sglperf.errors import ServerDied
from sglperf.job import Job
from sglperf.measurements import Launch, Round
from sglperf.plan import Load
from sglperf.predicting import cache_shape, sent_waves
from sglperf.probes.counters import delta, flush_cache, read_counters
from sglperf.probes.gpu_watch import GpuWatch, settle, watching
from sglperf.probes.likely import read_answer
from sglperf.probes.neighbours import NeighbourWatch
from sglperf.searching import search
from sglperf.server.failure import explain
from sglperf.server.launch import Server
from sglperf.tracing import traced_round
from sglperf.workload.client import StreamingClient
from sglperf.workload.rounds import Prompts, play

# The scheduler's own count, under one name in every supported version.
_TOKENS = "realtime_tokens_total"
_TOKEN_MODES = {"prefill_tokens": "prefill_compute", "decode_tokens": "decode"}
_EVICTED = "evicted_tokens_total"
# Without the time in which there is nothing to do.
_STAGE = re.compile(r"scheduler_stage_seconds_total\{category=(?P<name>(?!idle)\w+)\}")


@dataclass(frozen=True, eq=False)
class Serving:
    """Rounds on a running server.

    Attributes:
        gpus: those it runs on, watched; None on a CPU.
        counted: the server's counters after its last round; empty before the first.
        ended: why it can no longer be traced; empty where it can.
    """

    job: Job
    client: StreamingClient
    server: Server
    gpus: GpuWatch | None = None
    counted: dict[str, float] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def launched(self) -> None:
        """Keep that it came up, and as what."""
        job, info = self.job, self.server.info
        seconds, capacity = self.server.startup_seconds, info.kv_capacity_tokens
        version, resolved = info.version, info.resolved
        job.launched(
            Launch(
                job.side, job.config.label, job.launch, seconds, version, resolved, capacity, gpus=job.gpus
            )
        )

    def warm_up(self, load: Load) -> None:
        """A round that is not kept."""
        self.job.says(f"warm-up, {load.workload.label}")
        with self.job.measurements.timed("warm-up"):
            self.observe(replace(load, round=load.workload.warm_up(load.round)))

    def round(self, load: Load, index: int) -> None:
        """One round, repeated a bounded number of times while a gate rejects it."""
        if load.workload.traced:
            traced_round(self, load)
            return
        self.job.says(f"round {index + 1}/{self.job.plan.rounds}, {load.workload.label}")
        for _ in range(1 + self.job.settings.round_retries):
            round_, observed = self._search(load, index) if load.workload.search else self._play(load, index)
            self.job.measured(round_, observed)
            # A gate that spoils single metrics, and not because of the time, speaks of the server and no disturbance.
            gates = [gate for gate in round_.gates if gate.metrics is None or gate.timing_only]
            if not any(load.timed or not gate.timing_only for gate in gates):
                return
            self.server.check_alive()
            settle(self.gpus, round_.gates)

    def _play(self, load: Load, index: int) -> tuple[Round, RoundObservation]:
        observation, prompts = self.observe(load)
        round_ = self._digest(load, index, observation, self.gates(observation, load))
        if load.workload.predicted and round_.values:
            round_ = self._compared(load, round_, observation, prompts)
        if load.workload.compares_answers and round_.values:
            round_ = replace(round_, answers=self._answers(observation, prompts))
        return round_, observation

    def _search(self, load: Load, index: int) -> tuple[Round, tuple[RoundObservation, ...]]:
        """A round that consists of several, each of which must pass its gates."""
        found = search(
            load,
            seed=self.job.plan.seed,
            observe=lambda part: self.observe(part)[0],
            failed=lambda part, seen: (
                failed_gates(seen, self._asked(part), self._limits())
                or sent_late(seen.requests, part.round.due, self._limits())
            ),
        )
        first = found.observations[0]
        round_ = replace(
            self._digest(load, index, first, found.gates),
            values={} if found.rate is None else {"saturation_rate": found.rate},
            seconds=sum(one.client.wall_seconds for one in found.observations),
            batch_sizes=(),
            probes=found.probes,
        )
        return round_, found.observations

    def gates(self, observation: RoundObservation, load: Load) -> tuple[Gate, ...]:
        """All that the round fails; what it served is looked into only where everything else is as it should be."""
        service, limits = load.workload.service, self._limits()
        failed = failed_gates(observation, self._asked(load), limits)
        if failed or service is None:
            return failed
        return service_gates(observation, service, load.round.due, limits)

    def _asked(self, load: Load) -> Asked:
        """What a round must have been. Who asks for a server without graphs is not told that it has none."""
        config = self.job.config
        # Where a server saturates, its batch may well be larger than any graph.
        graphs = load.workload.search is None and replays_graphs(config.device, self.server.info.resolved)
        return Asked(
            load.round.prompt_tokens,
            tuple(request.max_new_tokens for request in load.round.requests),
            load.workload.cold,
            graphs=graphs,
            timeline=load.workload.timeline,
        )

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
            with watching(self.gpus) as watched:
                played = play(
                    self.client,
                    self.server.base_url,
                    load.round,
                    timeout=timeout,
                    flush=lambda: flush_cache(self.server.base_url, deadline=timeout),
                )
                gpus = watched()
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
        return RoundObservation(played.requests, played.client, counters, foreign, gpus), played.prompts

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
        service = load.workload.service
        values = believable(observation, gates, service)
        if index == 0 and not gates:
            values[STARTUP] = self.server.startup_seconds  # a launch starts once
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
            batch_sizes=batch_series(observation) if service and values else (),
            curve=latency_curve(observation) if values and load.workload.timeline else (),
        )

    def _answers(self, observation: RoundObservation, prompts: Prompts) -> tuple[Answer, ...]:
        """What was answered to each request, and what else it could have been."""
        self.job.says("asking what else was as likely")
        timeout, path = self.job.settings.round_timeout, self.job.target.adapter.generate
        return tuple(
            read_answer(self.server.base_url, prompt, request.output_ids, path=path, timeout=timeout)
            for request, prompt in zip(observation.requests, prompts, strict=True)
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


def believable(
    observation: RoundObservation, gates: Sequence[Gate], service: Service | None = None
) -> dict[str, float]:
    """The round's values, as far as its gates leave them standing."""
    if any(not gate.timing_only and gate.metrics is None for gate in gates):
        return {}
    values = derive(observation) if service is None else served(observation, service)
    return {name: value for name, value in values.items() if not any(gate.spoils(name) for gate in gates)}


def replays_graphs(device: str, resolved: Mapping[str, object]) -> bool:
    """Whether a server of these resolved arguments means its decode passes to replay CUDA graphs.

    Newer versions have a switch for each kind of pass; what all switches come to is below ``cuda_graph_config``.
    """
    off = resolved.get("disable_cuda_graph"), resolved.get("cuda_graph_config.decode.backend") == "disabled"
    return device == "cuda" and not any(off)


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
