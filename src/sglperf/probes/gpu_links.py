"""Which GPUs are linked how: NVLinks counted, NVSwitch told from a direct link, else the PCIe path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

from sglperf.core.topology import Link, LinkKind
from sglperf.probes.nvml import Device, pci_bus

_PCIE_PATHS = {
    "NVML_TOPOLOGY_INTERNAL": LinkKind.PSB,
    "NVML_TOPOLOGY_SINGLE": LinkKind.PIX,
    "NVML_TOPOLOGY_MULTIPLE": LinkKind.PXB,
    "NVML_TOPOLOGY_HOSTBRIDGE": LinkKind.PHB,
    "NVML_TOPOLOGY_NODE": LinkKind.NODE,
    "NVML_TOPOLOGY_SYSTEM": LinkKind.SYS,
}


@dataclass(frozen=True)
class _NvLinks:
    """A GPU's active NVLinks: how many lead to a switch, and to which other GPU by PCI bus."""

    switch: int = 0
    direct: Counter[str] = field(default_factory=Counter)


def probe_links(devices: Mapping[int, Device], buses: Mapping[int, str]) -> tuple[Link, ...]:
    """The link of every pair of GPUs; both mappings are keyed by index."""
    nvlinks = {index: _nvlinks(device) for index, device in devices.items()}
    return tuple(
        _nvlink(a, b, nvlinks, buses) or Link(a, b, _pcie_path(devices[a], devices[b]))
        for a, b in combinations(sorted(devices), 2)
    )


def _nvlinks(device: Device) -> _NvLinks:
    nvml = device.nvml
    try:
        active = [n for n in range(nvml.NVML_NVLINK_MAX_LINKS) if device.ask("nvmlDeviceGetNvLinkState", n)]
        ends = {n: device.ask("nvmlDeviceGetNvLinkRemoteDeviceType", n) for n in active}
        peers = [device.ask("nvmlDeviceGetNvLinkRemotePciInfo", n) for n in active]
    except nvml.NVMLError:  # it failed since it was probed
        return _NvLinks()
    return _NvLinks(
        switch=sum(end == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH for end in ends.values()),
        direct=Counter(pci_bus(peer) for peer in peers if peer is not None),
    )


def _nvlink(a: int, b: int, nvlinks: Mapping[int, _NvLinks], buses: Mapping[int, str]) -> Link | None:
    direct = nvlinks[a].direct[buses[b]]
    if direct:
        return Link(a, b, LinkKind.NVLINK, direct)
    switched = min(nvlinks[a].switch, nvlinks[b].switch)
    return Link(a, b, LinkKind.NVSWITCH, switched) if switched else None


def _pcie_path(a: Device, b: Device) -> LinkKind:
    try:
        level = a.ask("nvmlDeviceGetTopologyCommonAncestor", b.handle)
    except a.nvml.NVMLError:
        return LinkKind.UNKNOWN
    kinds = {getattr(a.nvml, name): kind for name, kind in _PCIE_PATHS.items()}
    return kinds.get(level, LinkKind.UNKNOWN)
