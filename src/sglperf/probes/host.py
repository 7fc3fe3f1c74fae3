"""Processors, memory and system of this machine, read only; what a container hides is None.

Facts come from psutil and py-cpuinfo where they know them, from the kernel's files where they don't:
which CPUs and how much time this *process* gets, NUMA nodes, governor and turbo.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sglperf.core.machine import Host, NumaNode
from sglperf.probes.cgroup import CgroupLimits, read_limits
from sglperf.probes.kernel_file import kernel_text

_CPUS = "sys/devices/system/cpu"


def probe_host(root: Path = Path("/")) -> Host:
    """The host as this process sees it; takes about 0.3 s. ``root`` is where ``proc`` and ``sys`` are."""
    import psutil

    available = sorted(os.sched_getaffinity(0))
    limits = read_limits(root)
    memory, clock, cpu = psutil.virtual_memory(), _clock(), _cpu_info()
    return Host(
        cpu_model=" ".join(str(cpu.get("brand_raw") or platform.machine()).split()),
        cpu_signature=_signature(cpu),
        architecture=platform.machine(),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        cpus=psutil.cpu_count() or 1,
        available_cores=_cores(root, available),
        available_cpus=len(available),
        cpu_quota=_quota(limits, len(available)),
        numa_nodes=numa_nodes(root),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        memory_limit_bytes=_memory_limit(limits, memory.total),
        kernel=platform.release(),
        container=_container(root),
        virtual_machine=_virtual_machine(root, cpu),
        governor=_governor(root, available),
        clock_mhz=clock[0],
        clock_max_mhz=clock[1],
        turbo=_turbo(root),
        load_average=os.getloadavg(),
        c_compiler=_compiler("CC", "gcc", "clang"),
        cxx_compiler=_compiler("CXX", "g++"),
    )


def numa_nodes(root: Path = Path("/")) -> tuple[NumaNode, ...]:
    """The nodes the kernel names, ascending; none where it has no NUMA support or hides it."""
    found = (root / "sys/devices/system/node").glob("node[0-9]*")
    return tuple(sorted(map(_node, found), key=lambda node: node.index))


def cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's list format, ``0-3,8``, as numbers."""
    spans = (span.partition("-") for span in text.split(",") if span)
    return tuple(cpu for low, _, high in spans for cpu in range(int(low), int(high or low) + 1))


@cache  # 0.2 to 1.2 s, and a processor stays what it is
def _cpu_info() -> Mapping[str, Any]:
    import cpuinfo

    info: Mapping[str, Any] = cpuinfo.get_cpu_info()
    return info


def _signature(cpu: Mapping[str, Any]) -> str | None:
    parts = [cpu.get("vendor_id_raw")]
    parts += [f"{name} {cpu[name]}" for name in ("family", "model", "stepping") if cpu.get(name) is not None]
    return " ".join(part for part in parts if part) or None


def _cores(root: Path, cpus: Iterable[int]) -> int:
    """Physical cores behind these CPUs: siblings share one; each is its own where the kernel doesn't say."""
    topology = (root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list" for cpu in cpus)
    return len({kernel_text(file) or str(file) for file in topology})


def _quota(limits: CgroupLimits, cpus: int) -> float | None:
    return limits.cpus if limits.cpus is not None and limits.cpus < cpus else None


def _memory_limit(limits: CgroupLimits, total: int) -> int | None:
    return limits.memory_bytes if limits.memory_bytes is not None and limits.memory_bytes < total else None


def _node(directory: Path) -> NumaNode:
    total = [line.split() for line in kernel_text(directory / "meminfo").splitlines() if "MemTotal" in line]
    memory = int(total[0][-2]) * 1024 if total else None
    return NumaNode(
        int(directory.name.removeprefix("node")), cpu_list(kernel_text(directory / "cpulist")), memory
    )


def _clock() -> tuple[float | None, float | None]:
    """Mean clock now and its maximum, MHz; many virtual machines tell neither."""
    import psutil

    clock = psutil.cpu_freq()
    return (clock.current or None, clock.max or None) if clock else (None, None)


def _governor(root: Path, cpus: Iterable[int]) -> str | None:
    files = (root / _CPUS / f"cpu{cpu}/cpufreq/scaling_governor" for cpu in cpus)
    return ", ".join(sorted({kernel_text(file) for file in files} - {""})) or None


def _turbo(root: Path) -> bool | None:
    """Whether clocks may exceed the nominal: Intel's driver says when not, the others say when so."""
    no_turbo = kernel_text(root / _CPUS / "intel_pstate/no_turbo")
    boost = kernel_text(root / _CPUS / "cpufreq/boost")
    if no_turbo:
        return no_turbo == "0"
    return boost == "1" if boost else None


def _container(root: Path) -> str | None:
    named = kernel_text(root / "run/systemd/container")
    if named:
        return named
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    marks = {"docker": ".dockerenv", "podman": "run/.containerenv"}
    return next((name for name, mark in marks.items() if (root / mark).exists()), None)


def _virtual_machine(root: Path, cpu: Mapping[str, Any]) -> str | None:
    """The product that the firmware names, where the processor admits to a hypervisor."""
    if "hypervisor" not in cpu.get("flags", ()):
        return None
    firmware = root / "sys/class/dmi/id"
    return (
        " ".join(filter(None, (kernel_text(firmware / "sys_vendor"), kernel_text(firmware / "product_name"))))
        or "unnamed hypervisor"
    )


def _compiler(variable: str, *commands: str) -> str | None:
    """The compiler that the variable names, else the first that is there."""
    wanted = os.environ.get(variable, "").split()[:1]
    return next(filter(None, map(shutil.which, wanted or commands)), None)
