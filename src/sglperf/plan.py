"""The plan of a run: what the collected tests ask for, known in full before anything starts.

Its size fixes the family that is judged, so a partial run is held to the same standard as a whole one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sglperf.core.catalogue import DIVERGING, METRICS, STARTUP
from sglperf.core.collectives import message_of
from sglperf.core.metric import Kind
from sglperf.core.prediction import PREDICTED
from sglperf.core.server_config import ServerConfig
from sglperf.core.shape import shape_of
from sglperf.errors import UsageError
from sglperf.workload.collectives import AllReduce
from sglperf.workload.passes import Pass
from sglperf.workload.plan import RoundPlan
from sglperf.workload.shapes import Workload, plan_hash

Place = tuple[str, str]


@dataclass(frozen=True)
class Ask:
    """One metric of one workload on one server: what a test item wants a verdict on."""

    area: str
    config: ServerConfig
    workload: Workload
    metric: str

    @property
    def point(self) -> str:
        """Where it is measured: model, server and workload; the key of a baseline's case."""
        return f"{self.config.model.name}/{self.config.label}/{self.workload.label}"

    @property
    def place(self) -> Place:
        """Which baseline file it belongs to: its server config, whose fingerprint names the folder, and its area."""
        return self.config.label, self.area

    @property
    def predicted(self) -> bool:
        """Whether something says what it must be, so that no baseline is needed: the cache model, or another server."""
        return (self.workload.predicted and self.metric in PREDICTED) or self.metric == DIVERGING

    @property
    def name(self) -> str:
        """Unique in a run; the case's name in every report."""
        return f"{self.point}/{self.metric}"


@dataclass(frozen=True)
class Load:
    """A workload made concrete: the requests of a round and their identity.

    Attributes:
        timed: whether any timing is judged on it; if not, a round with spoilt timings need not be repeated.
    """

    workload: Workload
    round: RoundPlan
    hash: str
    timed: bool = True


@dataclass(frozen=True)
class Plan:
    """Everything that a run is to measure.

    Attributes:
        asks: every case, in the order of the tests.
        launches: of each server config, at most.
        fewest_launches: of each server config, before a decided one may stop.
        rounds, warmup_rounds: per workload and launch.
        whole_family: size of the family that is judged, where this is a part of a plan; None for a whole one.
    """

    asks: tuple[Ask, ...]
    launches: int
    fewest_launches: int
    rounds: int
    warmup_rounds: int
    seed: int
    whole_family: int | None = None

    @property
    def configs(self) -> tuple[ServerConfig, ...]:
        """Distinct server configs, in the order of first use; those that are compared follow one another."""
        configs = {ask.config.label: ask.config for ask in self.asks}.values()
        groups = list(dict.fromkeys(config.group for config in configs))
        return tuple(sorted(configs, key=lambda config: groups.index(config.group)))

    def first_of(self, config: ServerConfig) -> ServerConfig:
        """The server with which those of its comparison are compared; itself where it stands alone."""
        return next(one for one in self.configs if one.group == config.group)

    def launches_of(self, config: ServerConfig) -> int:
        """Server starts of this config, at most. A count has no noise: where nothing is timed, one start tells it."""
        return self.launches if any(load.timed for load in self.loads(config)) else 1

    def times_start(self, config: ServerConfig) -> bool:
        """Whether it is asked how long a server of this config takes to come up."""
        return any(ask.metric == STARTUP for ask in self.asks if ask.config.label == config.label)

    def rounds_of(self, loads: Sequence[Load]) -> int:
        """Rounds of these workloads on one launch."""
        return self.rounds if any(load.timed for load in loads) else 1

    @property
    def starts(self) -> int:
        """Server starts of one target, at most."""
        return sum(map(self.launches_of, self.configs))

    @property
    def family_size(self) -> int:
        """Number of timing cases that carry a verdict: what the error rate is kept over."""
        if self.whole_family is not None:
            return self.whole_family
        return sum(map(_judged_timing, self.asks))

    def part(self, labels: Collection[str]) -> Plan:
        """What is to be measured on these server configs, judged among all of this plan."""
        asks = tuple(ask for ask in self.asks if ask.config.label in labels)
        return replace(self, asks=asks, whole_family=self.family_size)

    def loads(self, config: ServerConfig) -> tuple[Load, ...]:
        """What is sent to a server of this config in every round."""
        asks = [ask for ask in self.asks if ask.config.label == config.label]
        timed = {ask.workload.label for ask in asks if _judged_timing(ask)}
        shapes = {ask.workload.label: ask.workload for ask in asks}
        return tuple(self._load(config, shape, label in timed) for label, shape in shapes.items())

    def _load(self, config: ServerConfig, shape: Workload, timed: bool) -> Load:
        return Load(shape, *_planned(shape, self.seed, config.model.vocab_size), timed)


@lru_cache(maxsize=256)
def _planned(shape: Workload, seed: int, vocab_size: int) -> tuple[RoundPlan, str]:
    """A workload's requests and their identity, which every case of it asks for."""
    round_ = shape.plan(seed=seed, vocab_size=vocab_size)
    if shape.worker is not None:
        return round_, f"{shape.label}-seed{seed}"
    return round_, plan_hash(round_, shape.service, shape.search)


def _judged_timing(ask: Ask) -> bool:
    return METRICS[ask.metric].kind is Kind.TIMING and METRICS[ask.metric].judged


def check_ask(ask: Ask) -> None:
    """Refuse, before anything starts, what no server could do.

    Raises:
        UsageError: an unknown metric, a sequence longer than the model takes, or more than the KV pool holds.
    """
    if ask.metric not in METRICS:
        raise UsageError(f"unknown metric {ask.metric!r}: the suite knows {', '.join(METRICS)}")
    config, workload = ask.config, ask.workload
    if isinstance(workload, Pass) and shape_of(config.model) is None:
        raise UsageError(
            f"{workload.label} counts what a dense Llama has to move and compute, and {config.model.name} is none of known "
            "shape: choose a --model of config/models, or leave the kernel tests out (-m 'not kernel')"
        )
    if isinstance(workload, AllReduce):
        _check_allreduce(config, workload)
    if workload.longest > config.model.context_length:
        raise UsageError(
            f"{workload.label} needs {workload.longest} tokens, {config.model.name} takes {config.model.context_length}: "
            "shorten the workload in the profile or choose another --model"
        )
    streams = getattr(workload, "streams", 1)
    if streams > config.max_running_requests:
        raise UsageError(
            f"{workload.label} runs {streams} streams, the server is limited to {config.max_running_requests}: "
            "raise max_running_requests in the profile"
        )
    # A stream's last page is taken whole, and chunked prefill keeps one page of slack a stream.
    needed = streams * (workload.longest + 2 * config.page_size)
    if needed > config.max_total_tokens:
        raise UsageError(
            f"{workload.label} needs {needed} tokens of KV cache, the pool is pinned at {config.max_total_tokens}: "
            "raise max_total_tokens in the profile"
        )


def _check_allreduce(config: ServerConfig, workload: AllReduce) -> None:
    if workload.ranks != config.tp_size or workload.ranks < 2:
        raise UsageError(
            f"{workload.label} needs a TP set of {max(workload.ranks, 2)}, {config.label} has {config.tp_size}: "
            "give AllReduce ranks=server.tp_size on a server with fewest_gpus: 2"
        )
    if message_of(config.model, 1) is None:
        raise UsageError(
            f"{workload.label} reduces hidden states of {config.model.name}, whose size is not known: choose a --model "
            "of config/models, or leave the all-reduce tests out (-k 'not allreduce')"
        )


def make_plan(
    asks: Iterable[Ask],
    *,
    launches: int,
    rounds: int,
    warmup_rounds: int,
    seed: int,
    fewest_launches: int | None = None,
) -> Plan:
    """The plan for these asks; the same case asked for by two tests is measured and judged once."""
    unique = {ask.name: ask for ask in asks}
    return Plan(tuple(unique.values()), launches, fewest_launches or launches, rounds, warmup_rounds, seed)
