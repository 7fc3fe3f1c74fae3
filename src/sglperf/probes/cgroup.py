"""What the control group grants this process: processor time and memory, for both kernel interfaces.

A limit may sit on any level between the group and the root, so every level is read and the lowest
counts. See the kernel's ``admin-guide/cgroup-v2.rst`` and ``cgroup-v1/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sglperf.probes.kernel_file import kernel_text

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class CgroupLimits:
    """CPUs' worth of processor time and bytes of memory; None where nothing is limited."""

    cpus: float | None = None
    memory_bytes: int | None = None


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """The limits on this process; ``root`` is where ``proc`` and ``sys`` are."""
    mount = root / "sys/fs/cgroup"
    groups = _own_groups(root)
    unified = mount if (mount / "cgroup.controllers").exists() else mount / "unified"
    levels = list(_levels(unified, groups.get("", "/")))
    cpu_v1 = list(_levels(mount / "cpu", groups.get("cpu", "/")))
    memory_v1 = list(_levels(mount / "memory", groups.get("memory", "/")))
    return CgroupLimits(
        _lowest([*map(_cpus, levels), *map(_cpus_v1, cpu_v1)]),
        _lowest(
            [_number(level / "memory.max") for level in levels]
            + [_number(level / "memory.limit_in_bytes") for level in memory_v1]
        ),
    )


def _own_groups(root: Path) -> dict[str, str]:
    """This process's group by controller; version 2 is the controller without a name."""
    groups = {}
    for line in kernel_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _levels(mount: Path, group: str) -> Iterator[Path]:
    """The group's directory and all above it. In a container the group's path may not exist below the mount."""
    own = mount / group.lstrip("/")
    yield from (level for level in (own, *own.parents) if level == mount or mount in level.parents)


def _cpus(level: Path) -> float | None:
    quota, _, period = kernel_text(level / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _cpus_v1(level: Path) -> float | None:
    quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _number(file: Path) -> int | None:
    """A limit; ``max`` and -1 mean none."""
    text = kernel_text(file)
    return int(text) if text.isdigit() else None


def _lowest(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)
