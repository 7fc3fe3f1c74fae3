"""Executing a plan: launch by launch, all workloads of a config on one server, every round journalled."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sglperf.config import Settings
from sglperf.core.catalogue import METRICS
from sglperf.core.derive import derive
from sglperf.core.gates import Asked, Gate, Limits, failed_gates
from sglperf.core.metric import Kind
from sglperf.core.observation import RoundObservation
from sglperf.core.prediction import PREDICTED, Departure, departures, predict
from sglperf.core.server_config import ServerConfig
from sglperf.errors import MeasurementError, ServerDied, SglperfError
from sglperf.plan import Load, Plan
from sglperf.predicting import cache_shape, sent_waves
from sglperf.probes.counters import delta, flush_cache, read_counters
from sglperf.probes.neighbours import NeighbourWatch
from sglperf.server.failure import explain
from sglperf.server.launch import Server, start_server
from sglperf.store import RunFolder
from sglperf.target.resolve import Target
from sglperf.workload.client import StreamingClient
from sglperf.workload.rounds import Prompts, play

# The scheduler's own count, under one name in every supported version.
_TOKENS = "realtime_tokens_total"
_TOKEN_MODES = {"prefill_tokens": "prefill_compute", "decode_tokens": "decode"}
_EVICTED = "evicted_tokens_total"


class Progress(Protocol):
    """Where a run says what it is doing. ``done`` lines stay; the others may be overwritten by the next."""

    def __call__(self, text: str, *, done: bool = False) -> None: ...


@dataclass(frozen=True)
class Round:
    """A measured round, without its raw arrivals, which are in the journal.

    Attributes:
        side, config, launch, workload, index: which round it is.
        values: by metric name; where a gate failed, none, or only the exact ones.
        gates: those it failed.
        finish_reasons: reason → requests.
        seconds: from sending the first request to the last token.
        predicted: by metric name; what the cache model says of this round, where it is asked.
        departures: by metric name; where the server departs from that.
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


@dataclass(frozen=True)
class Launch:
    """One server from start to stop.

    Attributes:
        startup_seconds: until it was ready.
        resolved: its resolved arguments.
        kv_capacity_tokens: tokens that its KV cache holds.
    """

    side: str
    config: str
    index: int
    startup_seconds: float
    version: str
    resolved: Mapping[str, Any]
    kv_capacity_tokens: int | None


@dataclass
class Measurements:
    """All that was measured, growing while a plan is executed.

    Attributes:
        failures: (side, config) → why its launches stopped.
        seconds: where the wall time went: ``start``, ``load``, ``warm-up``, ``stop``.
    """

    launches: list[Launch] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    failures: dict[tuple[str, str], Gate] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Book the block's wall time under ``what``."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - begin


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
            for side, config in _schedule(plan, tuple(targets), launch):
                number += 1
                if (side, config.label) in measurements.failures or config.label not in labels:
                    continue
                job = _Job(
                    plan,
                    settings,
                    side,
                    targets[side],
                    config,
                    launch,
                    folder,
                    progress,
                    measurements,
                    client,
                )
                job.attempt(f"server {number}/{most}: {_name(side, targets)}{config.label}")
            labels = still_open(launch + 1)


def _schedule(plan: Plan, sides: Sequence[str], launch: int) -> Iterator[tuple[str, ServerConfig]]:
    """Servers in order: base-head, at the next launch head-base, so that neither side is always the later one."""
    for config in plan.configs:
        if launch < plan.launches_of(config):
            for side in sides if launch % 2 == 0 else reversed(sides):
                yield side, config


def _name(side: str, targets: Mapping[str, Target]) -> str:
    return f"{side} " if len(targets) > 1 else ""


def _code(error: SglperfError) -> str:
    return {"LaunchError": "launch-failed", "ServerDied": "server-died"}.get(
        type(error).__name__, "not-measured"
    )


@dataclass(frozen=True)
class _Job:
    """One launch: its server, warm-up and rounds.

    Attributes:
        counted: the server's counters after its last round; empty before the first.
    """

    plan: Plan
    settings: Settings
    side: str
    target: Target
    config: ServerConfig
    launch: int
    folder: RunFolder
    progress: Progress
    measurements: Measurements
    client: StreamingClient
    counted: dict[str, float] = field(default_factory=dict)

    def attempt(self, title: str) -> None:
        """Run it; what keeps it from being measured is kept as its config's failure."""
        try:
            self.run(title)
        except MeasurementError as error:
            self.measurements.failures[self.side, self.config.label] = Gate(_code(error), str(error))
            self.folder.append(
                "failure",
                {"side": self.side, "config": self.config.label, "launch": self.launch, "error": str(error)},
            )
            self.progress(f"{title}: failed, see below", done=True)

    def run(self, title: str) -> None:
        loads = self.plan.loads(self.config)
        log = self.folder.path / f"{self.side}-{self.config.label}-{self.launch}.log"
        with self._server(title, log) as server:
            for load in loads:
                for _ in range(self.plan.warmup_rounds if load.timed else 0):
                    self.progress(f"{title}: warm-up, {load.workload.label}")
                    with self.measurements.timed("warm-up"):
                        self._observe(server, load)
            for index in range(self.plan.rounds):
                # Each round begins with another workload, so that none always follows the same neighbour.
                for load in (*loads[index % len(loads) :], *loads[: index % len(loads)]):
                    if index and not load.timed:
                        continue  # a count has no noise: one round tells it
                    self.progress(f"{title}: round {index + 1}/{self.plan.rounds}, {load.workload.label}")
                    self._round(server, load, index)
        self.progress(f"{title}: {self.plan.rounds} rounds of {len(loads)} workloads", done=True)

    @contextmanager
    def _server(self, title: str, log: Any) -> Iterator[Server]:
        with self.measurements.timed("start"):
            server = start_server(
                self.target,
                self.config,
                log_path=log,
                timeout=self.settings.start_timeout,
                on_progress=lambda _, stage: self.progress(f"{title}: {stage}"),
            )
        try:
            launch = Launch(
                self.side,
                self.config.label,
                self.launch,
                server.startup_seconds,
                server.info.version,
                server.info.resolved,
                server.info.kv_capacity_tokens,
            )
            self.measurements.launches.append(launch)
            self.folder.append("launch", {"launch": launch})
            yield server
        finally:
            with self.measurements.timed("stop"):
                server.stop()

    def _round(self, server: Server, load: Load, index: int) -> None:
        """One round, repeated a bounded number of times while a gate rejects it."""
        for _ in range(1 + self.settings.round_retries):
            observation, prompts = self._observe(server, load)
            gates = failed_gates(observation, _asked(load), self._limits())
            round_ = self._digest(server, load, index, observation, gates)
            if load.workload.predicted and not any(not gate.timing_only for gate in gates):
                round_ = self._compared(load, round_, observation, prompts)
            self.measurements.seconds["load"] += round_.seconds
            self.measurements.rounds.append(round_)
            self.folder.append("round", {"round": round_, "observation": observation})
            if not any(load.timed or not gate.timing_only for gate in gates):
                return
            server.check_alive()

    def _limits(self) -> Limits:
        return Limits(
            client_lag_share=self.settings.client_lag_share,
            foreign_cpu_share=self.settings.foreign_cpu_share,
        )

    def _observe(self, server: Server, load: Load) -> tuple[RoundObservation, Prompts]:
        """One round as it was seen, and the prompts that were sent in it.

        Raises:
            ServerDied: the server went away, or did not answer within the round's time.
        """
        timeout = self.settings.round_timeout
        try:
            before = self.counted or self._settled(server)
            neighbours, begin = NeighbourWatch(), time.monotonic()
            played = play(
                self.client,
                server.base_url,
                load.round,
                timeout=timeout,
                flush=lambda: flush_cache(server.base_url, deadline=timeout),
            )
            foreign, late = neighbours.foreign_share(), time.monotonic() - begin >= timeout
            errors = [request.error for request in played.requests if request.error]
            if errors:
                _await_death(server)
            if errors and late:
                raise ServerDied(f"{load.workload.label} hung: {errors[0]}. {explain(server.log_path)}")
            after = self._settled(server)
        except ServerDied:
            _await_death(server)
            raise
        counters = delta(before, after)
        self.counted.update(after)
        counters |= _token_counts(counters)
        return RoundObservation(played.requests, played.client, counters, foreign), played.prompts

    def _settled(self, server: Server) -> dict[str, float]:
        """Counters once nothing runs any more, and an empty prefix cache.

        A flush is taken only by an idle scheduler, which has counted its last iteration. It counts nothing
        itself, so these are also the counters from which the next round begins.
        """
        flush_cache(server.base_url, deadline=self.settings.round_timeout)
        return read_counters(server.base_url)

    def _digest(
        self, server: Server, load: Load, index: int, observation: RoundObservation, gates: tuple[Gate, ...]
    ) -> Round:
        values = believable(observation, gates)
        if values and server.info.kv_capacity_tokens is not None:
            values["kv_capacity_tokens"] = float(server.info.kv_capacity_tokens)
        return Round(
            self.side,
            self.config.label,
            self.launch,
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
            cache_shape(self.config, self.target.adapter), sent_waves(load.round, prompts, outputs)
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
