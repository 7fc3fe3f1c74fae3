"""The environment check as text for a terminal. It is returned; callers write it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sglperf.core.environment_check import EnvironmentCheck, NamedSet
from sglperf.core.machine import Gpu, Gpus, Host, Installation, NumaNode
from sglperf.core.readiness import AreaReadiness, Finding
from sglperf.core.topology import LinkKind

WIDTH = 100
# Each is listed with its action below the table.
_NAMED_IN_TABLE = 3
_LEGEND = {
    LinkKind.NVSWITCH: "NV# = NVLinks through NVSwitch",
    LinkKind.NVLINK: "NV# = NVLinks from GPU to GPU",
    LinkKind.PSB: "PSB = one switch on the board",
    LinkKind.PIX: "PIX = one PCIe bridge",
    LinkKind.PXB: "PXB = several PCIe bridges",
    LinkKind.PHB: "PHB = same PCIe host bridge",
    LinkKind.NODE: "NODE = same NUMA node",
    LinkKind.SYS: "SYS = across NUMA nodes",
    LinkKind.UNKNOWN: "? = the driver does not say",
}


def environment_text(check: EnvironmentCheck, *, width: int = WIDTH, color: bool = False) -> str:
    """The check as a person reads it, no line longer than ``width`` columns."""
    sheet = io.StringIO()
    console = Console(
        file=sheet,
        width=min(width, WIDTH),
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for part in _parts(check):
        console.print(part)
    return "\n".join(line.rstrip() for line in sheet.getvalue().splitlines()).rstrip() + "\n"


def _parts(check: EnvironmentCheck) -> Iterator[RenderableType]:
    machine = check.machine
    yield from _section("Host", _pairs(_host_rows(machine.host)))
    yield from _section("GPUs", *_gpu_parts(machine.gpus))
    yield from _section("Target", _pairs(_target_rows(check.installation)))
    yield from _section("Fingerprints", _pairs(map(_named, check.sets)))
    yield from _section("Areas", _area_table(check.areas))
    missing = list(_actions(check.areas))
    if missing:
        yield from _section("Missing, and what to do", _pairs(missing))
    if check.cautions:
        yield from _section("Cautions", _pairs((caution.what, caution.action) for caution in check.cautions))


def _section(title: str, *bodies: RenderableType) -> Iterator[RenderableType]:
    yield Text(title, style="bold")
    for body in bodies:
        yield Padding(body, (0, 0, 0, 2))
    yield ""


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", max_width=34)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(Text(label), Text(value))
    return table


def _host_rows(host: Host) -> Iterator[tuple[str, str]]:
    yield "CPU", _joined(host.cpu_model, host.architecture, host.cpu_signature)
    quota = None if host.cpu_quota is None else f"cgroup grants {host.cpu_quota:g} CPUs"
    yield (
        "for us",
        _joined(
            f"{host.available_cores} of {host.cores} cores",
            f"{host.available_cpus} of {host.cpus} CPUs",
            quota,
        ),
    )
    yield "clocks", _joined(_clock(host), _said("governor", host.governor), _said("turbo", _on(host.turbo)))
    yield "NUMA", "; ".join(map(_numa, host.numa_nodes)) or "not told"
    limit = None if host.memory_limit_bytes is None else f"cgroup limit {_gib(host.memory_limit_bytes)}"
    yield "memory", _joined(_gib(host.memory_bytes), f"{_gib(host.memory_available_bytes)} available", limit)
    virtual = None if host.virtual_machine is None else f"virtual machine ({host.virtual_machine})"
    container = None if host.container is None else f"container ({host.container})"
    yield "system", _joined(f"Linux {host.kernel}", virtual, container)
    yield "load", " ".join(f"{load:.2f}" for load in host.load_average)
    yield "compilers", _joined(f"C {host.c_compiler or 'none'}", f"C++ {host.cxx_compiler or 'none'}")


def _gpu_parts(gpus: Gpus) -> Iterator[RenderableType]:
    if gpus.driver is not None:
        yield Text(f"driver {gpus.driver} · CUDA up to {gpus.cuda} · power: W now/cap · clocks: MHz now/max")
    if gpus.reason is not None:
        yield Text(f"none: {gpus.reason}")
    if gpus.gpus:
        yield _gpu_table(gpus.gpus)
        yield _identity_table(gpus)
    hidden = [str(gpu.index) for gpu in gpus.gpus if gpu.index not in gpus.visible]
    if hidden:
        yield Text(f"CUDA_VISIBLE_DEVICES hides {', '.join(hidden)}", style="yellow")
    for lost in gpus.lost:
        yield Text(f"GPU {lost.index} does not answer: {lost.reason}", style="red")
    if len(gpus.gpus) > 1:
        yield ""
        yield _link_matrix(gpus)
        yield Text(_legend(gpus), style="dim")


def _gpu_table(gpus: Sequence[Gpu]) -> Table:
    table = _table("GPU", "product", "memory", "power", "SM clock", "mem. clock", "°C", "clocks set by")
    for gpu in gpus:
        state = gpu.state
        table.add_row(
            str(gpu.index),
            gpu.name,
            _gib(gpu.memory_bytes),
            f"{_number(state.power_w)}/{_number(gpu.power_limit_w)}",
            f"{_number(state.sm_clock_mhz)}/{_number(gpu.sm_clock_max_mhz)}",
            f"{_number(state.memory_clock_mhz)}/{_number(gpu.memory_clock_max_mhz)}",
            _number(state.temperature_c),
            ", ".join(state.clock_reasons) or "load",
        )
    return table


def _identity_table(gpus: Gpus) -> Table:
    table = _table("GPU", "UUID", "PCI bus", "NUMA", "cc", "ECC", "MIG", "pers.", "procs")
    for gpu in gpus.gpus:
        table.add_row(
            str(gpu.index),
            gpu.uuid,
            gpu.pci_bus,
            _number(gpu.numa_node),
            gpu.compute_capability or "?",
            *(_on(flag) or "n/a" for flag in (gpu.ecc, gpu.mig, gpu.persistence)),
            str(len(gpu.state.processes) or "none"),
        )
    return table


def _link_matrix(gpus: Gpus) -> Table:
    indices = [gpu.index for gpu in gpus.gpus]
    table = _table("links", *map(str, indices))
    for a in indices:
        labels = ("X" if a == b else gpus.topology.link(a, b).label for b in indices)
        table.add_row(str(a), *labels)
    return table


def _legend(gpus: Gpus) -> str:
    kinds = {link.kind for link in gpus.topology.links}
    return " · ".join(meaning for kind, meaning in _LEGEND.items() if kind in kinds)


def _target_rows(installation: Installation) -> Iterator[tuple[str, str]]:
    yield "interpreter", installation.interpreter
    yield from installation.versions.items()
    yield "Python.h", "there" if installation.python_headers else "missing"


def _named(named: NamedSet) -> tuple[str, str]:
    if not named.gpu_set:
        return "on the CPU", named.fingerprint.id
    return f"{named.name}: GPU {','.join(map(str, named.gpu_set))}", named.fingerprint.id


def _area_table(areas: Iterable[AreaReadiness]) -> Table:
    table = _table("area", "on the CPU engine", "on GPUs")
    for area in areas:
        table.add_row(area.area, _lacks(area.cpu), _lacks(area.gpu))
    return table


def _lacks(findings: Sequence[Finding]) -> Text:
    if not findings:
        return Text("ready", style="green")
    shown = [finding.what for finding in findings[:_NAMED_IN_TABLE]]
    if left := len(findings) - len(shown):
        shown.append(f"and {left} more")
    return Text("; ".join(shown), style="yellow")


def _actions(areas: Sequence[AreaReadiness]) -> Iterator[tuple[str, str]]:
    """Each thing that is missing once, in order of first need."""
    findings = (finding for area in areas for finding in (*area.cpu, *area.gpu))
    yield from ((finding.what, finding.action) for finding in dict.fromkeys(findings))


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _numa(node: NumaNode) -> str:
    return f"node {node.index}: CPUs {_spans(node.cpus)}, {_gib(node.memory_bytes)}"


def _spans(cpus: Sequence[int]) -> str:
    """``0-3,8`` for 0 1 2 3 8."""
    starts = [cpu for cpu in cpus if cpu - 1 not in cpus]
    ends = [cpu for cpu in cpus if cpu + 1 not in cpus]
    spans = (f"{a}-{b}" if a != b else str(a) for a, b in zip(starts, ends, strict=True))
    return ",".join(spans) or "none"


def _clock(host: Host) -> str | None:
    if host.clock_mhz is None:
        return None
    most = "" if host.clock_max_mhz is None else f" of {host.clock_max_mhz:.0f}"
    return f"{host.clock_mhz:.0f}{most} MHz"


def _said(label: str, value: str | None) -> str:
    return f"{label} {value or 'not told'}"


def _on(flag: bool | None) -> str | None:
    return None if flag is None else ("on" if flag else "off")


def _gib(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**30:.1f} GiB"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _joined(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)
