"""Between what was asked of a server and the cache model: which cache it must have, and what it was sent."""

from __future__ import annotations

from collections.abc import Sequence

from sglperf.core.cache_model import CacheShape
from sglperf.core.prediction import Sent, SentWave, predict
from sglperf.core.server_config import ServerConfig
from sglperf.errors import UsageError
from sglperf.target.adapter import Adapter
from sglperf.workload.plan import RoundPlan, spoken

# A token that no text begins with, for the answers of a round that has not been played.
_UNKNOWN = -1


def cache_shape(config: ServerConfig, adapter: Adapter) -> CacheShape:
    """The cache that a server of this config must have: from what is asked of it, not from what it says of itself.

    Where the policy is left to the server it is taken for ``lru``; `check_predictable` sees to it that it never matters.

    Raises:
        UsageError: the model knows no such cache.
    """
    try:
        return CacheShape(
            page_size=config.page_size,
            capacity=config.max_total_tokens,
            eviction=config.eviction_policy or "lru",
            chunk=config.chunked_prefill_tokens,
            enabled=config.prefix_cache,
            overlapped="--disable-overlap-schedule" not in config.arguments,
            rules=adapter.cache_rules,
        )
    except ValueError as error:
        raise UsageError(f"{config.label}: {error}") from None


def sent_waves(
    plan: RoundPlan, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> list[SentWave]:
    """What was sent and answered, in the form that the model takes."""
    waves = []
    for wave, requests in plan.parts():
        sent = tuple(
            Sent(tuple(prompts[position]), tuple(outputs[position]), request.priority or 0)
            for position, request in enumerate(requests, start=wave.start)
        )
        waves.append(SentWave(sent, together=wave.concurrency != 1 and len(sent) > 1, flush=wave.flush))
    return waves


def check_predictable(config: ServerConfig, adapter: Adapter, plan: RoundPlan) -> None:
    """Refuse, before anything starts, a round of which nothing can be predicted.

    Raises:
        UsageError: the pool cannot hold one of its requests, or its outcome depends on the server's timing.
    """
    prompts: list[tuple[int, ...]] = []
    outputs = [(_UNKNOWN - number,) * request.max_new_tokens for number, request in enumerate(plan.requests)]
    for request in plan.requests:
        prompts.append(spoken(request, prompts, outputs).input_ids)
    try:
        prediction = predict(cache_shape(config, adapter), sent_waves(plan, prompts, outputs))
    except ValueError as error:
        raise UsageError(f"{config.label}: {error}") from None
    if prediction.evicted_tokens and config.eviction_policy is None:
        raise UsageError(
            f"{config.label}: the pool of {config.max_total_tokens} tokens is too small to keep everything, and what goes "
            "first is left to the server: set eviction_policy, or more max_total_tokens, under servers"
        )
