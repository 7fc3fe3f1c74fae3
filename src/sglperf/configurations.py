"""The server configurations that settings amount to."""

from __future__ import annotations

from collections.abc import Sequence

from sglperf.core.gpu_sets import GpuSet
from sglperf.core.server_config import Model, ServerConfig
from sglperf.settings import Settings, TpSet


def server_configs(
    settings: Settings, model: Model, variant: str = "", sets: Sequence[GpuSet] | None = None
) -> tuple[ServerConfig, ...]:
    """Every point of attention backend × page size × TP set, each in every variant.

    Args:
        sets: TP sets; None for those that the settings name, under no names of their own.
    """
    sets = [GpuSet("", gpus) for gpus in settings.tp_sets] if sets is None else sets
    return tuple(
        ServerConfig(
            model=model,
            device=settings.device,
            attention_backend=backend,
            page_size=page_size,
            tp_set=one.gpus,
            max_total_tokens=settings.max_total_tokens,
            max_running_requests=settings.max_running_requests,
            mem_fraction_static=settings.mem_fraction_static,
            random_seed=settings.seed,
            prefix_cache=settings.prefix_cache,
            eviction_policy=settings.eviction_policy,
            chunked_prefill_tokens=settings.chunked_prefill_tokens,
            variant="-".join(filter(None, (variant, member))),
            comparison=_comparison(settings, variant, backend, page_size, one.gpus, member),
            member=one.name if settings.compare_tp_sets else member,
            arguments=(*settings.server_arguments, *arguments),
            environment=settings.server_environment,
        )
        for backend in settings.attention_backends
        for page_size in settings.page_sizes
        for one in sets
        for member, arguments in (settings.variants or {"": ()}).items()
    )


def _comparison(
    settings: Settings, variant: str, backend: str, page_size: int, tp_set: TpSet, member: str
) -> str:
    """Names what servers of one comparison have in common: all but the TP set, or the variant, or the backend."""
    name = variant or "servers"
    if settings.compare_tp_sets:
        return "-".join(filter(None, (name, member, backend, f"page{page_size}")))
    if not settings.side_by_side:
        return ""
    common = f"{name}-{backend}" if settings.variants else name
    return f"{common}-page{page_size}-tp{'.'.join(map(str, tp_set))}"
