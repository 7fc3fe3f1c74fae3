"""How GPUs are linked, in the words of ``nvidia-smi topo -m``, and what that makes of a set of them.

A set is only as close as its two most distant members: tensor parallelism waits for every rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import combinations


class LinkKind(StrEnum):
    """The path between two GPUs, closest first: the order of the members is their meaning."""

    NVSWITCH = "NVSwitch"
    NVLINK = "NVLink"
    PSB = "PSB"  # one switch on a shared board
    PIX = "PIX"  # at most a single PCIe bridge
    PXB = "PXB"  # several PCIe bridges, not the host bridge
    PHB = "PHB"  # the PCIe host bridge, usually the CPU
    NODE = "NODE"  # between host bridges inside one NUMA node
    SYS = "SYS"  # between NUMA nodes
    UNKNOWN = "?"  # the driver does not say


class LinkClass(StrEnum):
    """What a set of GPUs is called by its most distant pair."""

    SINGLE = "single"
    NVSWITCH = "nvswitch"
    NVLINK = "nvlink"
    PCIE_SWITCH = "pcie-switch"
    NUMA_NODE = "numa-node"
    CROSS_NUMA = "cross-numa"
    UNKNOWN = "unknown"


DISTANCE = {kind: rank for rank, kind in enumerate(LinkKind)}
"""How far a link reaches, among all kinds of them."""
_CLASS_OF = {
    LinkKind.NVSWITCH: LinkClass.NVSWITCH,
    LinkKind.NVLINK: LinkClass.NVLINK,
    LinkKind.PSB: LinkClass.PCIE_SWITCH,
    LinkKind.PIX: LinkClass.PCIE_SWITCH,
    LinkKind.PXB: LinkClass.PCIE_SWITCH,
    LinkKind.PHB: LinkClass.NUMA_NODE,
    LinkKind.NODE: LinkClass.NUMA_NODE,
    LinkKind.SYS: LinkClass.CROSS_NUMA,
    LinkKind.UNKNOWN: LinkClass.UNKNOWN,
}


@dataclass(frozen=True)
class Link:
    """The path between GPUs ``a`` and ``b`` (indices); ``nvlinks`` is how many are bonded, 0 for PCIe."""

    a: int
    b: int
    kind: LinkKind
    nvlinks: int = 0

    @property
    def label(self) -> str:
        """As ``nvidia-smi topo -m`` prints it: ``NV4``, ``PIX``, ``SYS``."""
        return f"NV{self.nvlinks}" if self.nvlinks else self.kind.value


@dataclass(frozen=True)
class Topology:
    """The links of a host, one per pair of GPUs, in no particular order."""

    links: tuple[Link, ...] = ()

    def link(self, a: int, b: int) -> Link:
        """The link between two different GPUs, whichever is named first; unknown where none was probed."""
        return self._by_pair.get(frozenset((a, b))) or Link(a, b, LinkKind.UNKNOWN)

    @cached_property
    def _by_pair(self) -> Mapping[frozenset[int], Link]:
        return {frozenset((link.a, link.b)): link for link in self.links}

    def between(self, gpus: Iterable[int]) -> tuple[Link, ...]:
        """The links of every pair inside a set."""
        return tuple(self.link(a, b) for a, b in combinations(sorted(set(gpus)), 2))

    def link_class(self, gpus: Iterable[int]) -> LinkClass:
        """The class of a set: that of its most distant pair; ``single`` for one GPU."""
        kinds = [link.kind for link in self.between(gpus)]
        return _CLASS_OF[max(kinds, key=DISTANCE.__getitem__)] if kinds else LinkClass.SINGLE

    def fewest_nvlinks(self, gpus: Iterable[int]) -> int:
        """NVLinks of the pair that has fewest: a broken link shows as 17 instead of 18."""
        return min((link.nvlinks for link in self.between(gpus)), default=0)
