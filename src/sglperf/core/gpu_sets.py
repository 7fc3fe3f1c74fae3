"""Sets of GPUs to try tensor parallelism on: one for each size and each class of links that a host has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from sglperf.core.machine import Gpus
from sglperf.core.server_config import Model
from sglperf.core.topology import DISTANCE, LinkClass, Topology

SIZES = (1, 2, 4, 8)
SINGLE = LinkClass.SINGLE.value
_MOST_GPUS = 16  # of one host; of more, the choice of eight would take minutes


@dataclass(frozen=True)
class GpuSet:
    """GPUs that a server's ranks run on.

    Attributes:
        name: by class of links and size, as ``nvlink-2``; ``single`` for one.
        gpus: the driver's indices; on a CPU, numbers of ranks.
    """

    name: str
    gpus: tuple[int, ...]


def named_sets(sets: Iterable[Sequence[int]], topology: Topology | None) -> tuple[GpuSet, ...]:
    """Given sets, the smallest first, each under a name of its own: ``nvlink-2``, ``nvlink-2:2.3``.

    Args:
        topology: of the host; None for ranks on a CPU.
    """
    found: dict[str, GpuSet] = {}
    for one in sorted(dict.fromkeys(map(tuple, sets)), key=len):
        name = _name(one, topology)
        if name in found:
            name = f"{name}:{'.'.join(map(str, one))}"
        found[name] = GpuSet(name, one)
    return tuple(found.values())


def _name(one: Sequence[int], topology: Topology | None) -> str:
    if len(one) == 1:
        return SINGLE
    return f"{'cpu' if topology is None else topology.link_class(one).value}-{len(one)}"


def representative_sets(gpus: Gpus, sizes: Iterable[int] = SIZES) -> tuple[GpuSet, ...]:
    """A set of each size for each class of links, sizes ascending, the closest class first.

    Only GPUs that may be taken, all of one product: that of most of them. Of several sets of a class, the one that
    falls into fewest and most even parts that are closer than the class, then the closest, then the first by index.
    So a set of four across NUMA nodes has two GPUs on each, joined by NVLink where the host has it.
    """
    usable = _of_one_product(gpus)
    return named_sets(
        (one for size in sizes for one in _one_of_each_class(usable, gpus.topology, size)), gpus.topology
    )


def _of_one_product(gpus: Gpus) -> list[int]:
    counts = Counter(gpu.name for gpu in gpus.usable)
    most = counts.most_common(1)
    return sorted(gpu.index for gpu in gpus.usable if gpu.name == most[0][0])[:_MOST_GPUS]


def _one_of_each_class(gpus: Sequence[int], topology: Topology, size: int) -> list[tuple[int, ...]]:
    best: dict[LinkClass, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for one in combinations(gpus, size):
        links = topology.link_class(one)
        rated = _rating(one, topology, links), one
        best[links] = min(best.get(links, rated), rated)
    return [best[links][1] for links in LinkClass if links in best]


def _rating(one: tuple[int, ...], topology: Topology, links: LinkClass) -> tuple[int, ...]:
    """Fewest parts, the largest of them smallest, shortest paths, most NVLinks: smaller is better."""
    parts = _parts(one, topology, links)
    distances = sum(DISTANCE[link.kind] for link in topology.between(one))
    return len(parts), max(map(len, parts)), distances, -topology.fewest_nvlinks(one)


def _parts(one: Sequence[int], topology: Topology, links: LinkClass) -> list[set[int]]:
    """What closer links than the set's class hold together."""
    parts = [{gpu} for gpu in one]
    for link in topology.between(one):
        a, b = (next(part for part in parts if end in part) for end in (link.a, link.b))
        if a is not b and topology.link_class((link.a, link.b)) is not links:
            parts.remove(b)
            a |= b
    return parts


def why_not_split(model: Model, ranks: int) -> str | None:
    """Why SGLang cannot serve the model with so many ranks; None where it can, or where its shape is not known.

    Each rank has as many attention heads as any other, and as many KV heads, or shares one with others.
    """
    counts = {name: _count(model, f"num_{name}_heads") for name in ("attention", "key_value")}
    heads, kv_heads = counts["attention"], counts["key_value"] or counts["attention"]
    if heads is not None and heads % ranks:
        return f"its {heads} attention heads cannot be shared evenly by {ranks} ranks"
    if kv_heads is not None and max(kv_heads, ranks) % min(kv_heads, ranks):
        return f"its {kv_heads} KV heads and {ranks} ranks do not divide one another"
    return None


def _count(model: Model, name: str) -> int | None:
    value = model.config.get(name)
    return int(str(value)) if value else None
