"""Which sets of GPUs, or how many ranks on a CPU, servers are measured on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sglperf.core.footprint import held_bytes
from sglperf.core.gpu_sets import GpuSet, named_sets, representative_sets, why_not_split
from sglperf.core.machine import Gpus
from sglperf.core.server_config import Model
from sglperf.errors import ConfigError, NotHere
from sglperf.settings import Settings

Host = Callable[[], Gpus]
"""The GPUs of this machine, looked at when it is called."""


@dataclass(frozen=True)
class ChosenSets:
    """TP sets, the smallest first where they are compared, and what a person should know of the choice."""

    sets: tuple[GpuSet, ...]
    notes: tuple[str, ...] = ()


def choose_sets(settings: Settings, model: Model, host: Host, processors: int | None = None) -> ChosenSets:
    """The sets that the settings name, or of each class of links that the host has, one for each size.

    Args:
        host: asked only where links matter: for sets that are to be found, or compared.
        processors: that ranks on a CPU may have; those of this process where None.

    Raises:
        ConfigError: a set that is named has a number of GPUs that the model cannot be split by.
        NotHere: there is no set with several GPUs where the tests are about such sets.
    """
    if settings.tp_sets:
        chosen = _given(settings, model, host)
    else:
        chosen = _found(settings, model, host, processors or len(os.sched_getaffinity(0)))
    sets = tuple(one for one in chosen.sets if len(one.gpus) >= settings.fewest_gpus)
    fewest = max(settings.fewest_gpus, 2 if settings.compare_tp_sets else 1)
    if not any(len(one.gpus) >= fewest for one in sets):
        raise NotHere(_too_few(settings, fewest, host))
    return ChosenSets(sets, chosen.notes)


def _given(settings: Settings, model: Model, host: Host) -> ChosenSets:
    for one in settings.tp_sets if settings.device == "cuda" else ():  # a CPU server pads its heads
        reason = why_not_split(model, len(one))
        if reason is not None:
            raise ConfigError(
                f"{settings.origin('tp_sets')}: TP set {','.join(map(str, one))} does not fit {model.name}: {reason}. "
                "Choose other sets with --tp-gpus"
            )
    if not settings.compare_tp_sets:
        return ChosenSets(tuple(GpuSet("", one) for one in settings.tp_sets))
    return ChosenSets(named_sets(settings.tp_sets, host().topology if settings.device == "cuda" else None))


def _found(settings: Settings, model: Model, host: Host, processors: int) -> ChosenSets:
    if settings.device == "cpu":
        # Each rank has a processor of its own.
        return ChosenSets(named_sets([(0,), (0, 1)] if processors > 1 else [(0,)], None))
    gpus = host()
    every = representative_sets(gpus)
    reasons = {len(one.gpus): why_not_split(model, len(one.gpus)) for one in every}
    large_enough = [one for one in every if _fits(settings, model, one, gpus)]
    sets = tuple(one for one in large_enough if reasons[len(one.gpus)] is None)
    notes = [
        f"{model.name}: {reason}, so sets of {size} are left out"
        for size, reason in reasons.items()
        if reason
    ]
    small = sorted({len(one.gpus) for one in every} - {len(one.gpus) for one in large_enough})
    return ChosenSets(sets, (*notes, *_too_large(settings, model, small)))


def _fits(settings: Settings, model: Model, one: GpuSet, gpus: Gpus) -> bool:
    """Whether weights and KV pool fit in the share of memory that is theirs; so it is taken where nobody knows."""
    held = held_bytes(model, settings.max_total_tokens)
    memory = min((gpu.memory_bytes or 0 for gpu in gpus.usable if gpu.index in one.gpus), default=0)
    return not held or not memory or held <= settings.mem_fraction_static * memory * len(one.gpus)


def _too_large(settings: Settings, model: Model, small: Sequence[int]) -> list[str]:
    """What is said where so many GPUs cannot hold the model."""
    if not small:
        return []
    held = (held_bytes(model, settings.max_total_tokens) or 0) / 2**30
    return [
        f"{model.name} and its KV pool take {held:.0f} GiB: sets of {' and '.join(map(str, small))} are left out, and "
        "scaling is relative to the smallest that can hold them"
    ]


def _too_few(settings: Settings, fewest: int, host: Host) -> str:
    wanted = f"needs a TP set of {fewest} or more"
    if settings.tp_sets:
        return f"tensor parallelism {wanted}, and {settings.origin('tp_sets')} names none: give one with --tp-gpus"
    if settings.device == "cpu":
        return f"tensor parallelism {wanted}, and this process has one processor: give it two (taskset, cgroup, VM size)"
    gpus = host()
    reason = f" ({gpus.reason})" if gpus.reason else ""
    count = len(gpus.usable)
    found = f"{count} GPU{'' if count == 1 else 's'} that can be used{reason}"
    return (
        f"tensor parallelism {wanted}, and this machine has {found}, or too little memory on them for the model: "
        "run it on a machine with more, or choose a smaller --model"
    )
