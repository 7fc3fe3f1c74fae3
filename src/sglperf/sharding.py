"""Which part of a plan one of several machines measures, and what it keeps of the whole so that parts can meet again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from sglperf.core.server_config import ServerConfig
from sglperf.core.sharding import Shard, split
from sglperf.errors import UsageError
from sglperf.plan import Load, Plan
from sglperf.settings import Settings

# Seconds, as on two cores (docs/costs.md). They decide how evenly the parts take their time, and nothing else.
_START, _WORKER = 30.0, 8.0
_WORKER_ROUND = 2.0
_DECODE_STEP, _PROMPT_TOKEN = 0.01, 0.0002


@dataclass(frozen=True)
class Piece:
    """A shard of a plan. Servers that are compared with one another are never in different ones.

    Attributes:
        shard: which of how many.
        name: of the split, where shards meet in a database; else empty.
        whole: the plan that all shards together measure.
    """

    shard: Shard
    name: str
    whole: Plan

    @cached_property
    def servers(self) -> tuple[tuple[str, ...], ...]:
        """Labels of the server configs of each shard, in the order of the plan."""
        parts = split(costs(self.whole), self.shard.of)
        return tuple(
            tuple(config.label for config in self.whole.configs if config.group in groups) for groups in parts
        )

    @property
    def plan(self) -> Plan:
        """What this shard measures; the family stays the whole one."""
        return self.whole.part(self.servers[self.shard.index - 1])

    def document(self) -> dict[str, Any]:
        """What the shard's run keeps of the split."""
        return {
            **asdict(self.shard),
            "split": self.name,
            "plan": digest(self.whole),
            "servers": self.servers,
            "work": work(self.whole),
        }


def make_piece(settings: Settings, whole: Plan, variables: Mapping[str, str]) -> Piece:
    """The shard that the settings ask for.

    Args:
        variables: the environment's. On GitHub all jobs of a workflow's run, attempts included, are of one split for each
            profile: a job that is run again takes the place of the one that failed, and meets those that did not.

    Raises:
        UsageError: shards are to meet in a database, and nothing says under which name.
    """
    assert settings.shard is not None
    run = variables.get("GITHUB_RUN_ID", "")
    name = settings.split or (f"github-{run}-{settings.profile}" if run else "")
    if settings.shares and not name:
        raise UsageError(
            f"--shard with a history that is shared ({settings.origin('history')}) needs --split=NAME, the same for all shards of "
            "this run and for no other; or --history=off, to merge the shards' folders"
        )
    return Piece(settings.shard, name, whole)


@dataclass(frozen=True)
class Split:
    """Shards in a history that a merged run takes the place of.

    Attributes:
        name: of the split; empty for shards that never were there.
        taken: its name where they were taken from there; else empty.
    """

    name: str
    taken: str


def costs(plan: Plan) -> dict[str, float]:
    """Group of servers → about how long its launches take, in seconds."""
    found: dict[str, float] = {}
    for config in plan.configs:
        found[config.group] = found.get(config.group, 0.0) + _cost(plan, config)
    return found


def _cost(plan: Plan, config: ServerConfig) -> float:
    loads = plan.loads(config)
    kinds = {load.workload.worker for load in loads}
    starts = sum(_START if worker is None else _WORKER for worker in kinds)
    rounds = sum(_round(load) * (plan.warmup_rounds + plan.rounds_of([load])) for load in loads)
    return plan.launches_of(config) * (starts + rounds)


def _round(load: Load) -> float:
    if load.workload.worker is not None:
        return _WORKER_ROUND
    requests, search = load.round.requests, load.workload.search
    decoded = sum(request.max_new_tokens for request in requests) / (
        load.round.concurrency or len(requests) or 1
    )
    once = decoded * _DECODE_STEP + sum(load.round.prompt_tokens) * _PROMPT_TOKEN
    return max(once, *load.round.due, 0.0) * (1 if search is None else 1 + search.probes)


def work(plan: Plan) -> dict[str, str]:
    """Case's name → 12 hex digits of what is measured for it: what is sent, and to which server."""
    servers = {config.label: _described(config) for config in plan.configs}
    sent = {
        (config.label, load.workload.label): f"{load.hash} {load.timed}"
        for config in plan.configs
        for load in plan.loads(config)
    }
    return {
        ask.name: _hash([ask.area, servers[ask.config.label], sent[ask.config.label, ask.workload.label]])[
            :12
        ]
        for ask in plan.asks
    }


def _described(config: ServerConfig) -> Mapping[str, Any]:
    """Where a checkpoint lies may differ from host to host."""
    return asdict(replace(config, model=replace(config.model, path=None)))


def digest(plan: Plan) -> str:
    """16 hex digits that are equal where the same is measured and judged, in whatever order it was collected."""
    numbers = [
        plan.launches,
        plan.fewest_launches,
        plan.rounds,
        plan.warmup_rounds,
        plan.seed,
        plan.family_size,
    ]
    return _hash([numbers, work(plan)])[:16]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
