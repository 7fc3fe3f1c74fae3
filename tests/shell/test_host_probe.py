"""The host is read from the kernel's files, which tests lay out in a folder of their own."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import pytest

from sglperf.core.machine import NumaNode
from sglperf.probes.cgroup import CgroupLimits, read_limits
from sglperf.probes.host import cpu_list, numa_nodes, probe_host

GIB = 2**30


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def every_cpu(name: str, text: str) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/{name}": text for cpu in os.sched_getaffinity(0)}


def test_this_machine():
    """On the machine at hand the facts agree with the kernel's own."""
    host = probe_host()

    assert host.available_cpus == len(os.sched_getaffinity(0))
    assert 1 <= host.available_cores <= host.available_cpus <= host.cpus
    assert host.memory_bytes == psutil.virtual_memory().total
    assert host.kernel == platform.release()
    assert host.cpu_model == " ".join(host.cpu_model.split()) != ""


def test_affinity_bounds_what_is_available():
    """A process pinned to one CPU has one CPU and one core, on a machine that has as many as before."""
    before, everywhere = probe_host(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        pinned = probe_host()
    finally:
        os.sched_setaffinity(0, everywhere)

    assert (pinned.available_cpus, pinned.available_cores) == (1, 1)
    assert (pinned.cpus, pinned.cores) == (before.cpus, before.cores)


def test_siblings_share_a_core(tmp_path: Path):
    """Logical CPUs that name the same siblings count as one core."""
    host = probe_host(lay(tmp_path, every_cpu("topology/thread_siblings_list", "0-1")))

    assert host.available_cores == 1


def test_a_bare_machine_hides_much(tmp_path: Path):
    """Where the kernel's files are absent the answers are None, empty, or one core a CPU."""
    host = probe_host(tmp_path)

    assert (host.numa_nodes, host.cpu_quota, host.memory_limit_bytes) == ((), None, None)
    assert (host.governor, host.turbo, host.container) == (None, None, None)
    assert host.available_cores == host.available_cpus


@pytest.mark.parametrize(
    ("files", "turbo"),
    [
        ({"sys/devices/system/cpu/intel_pstate/no_turbo": "0"}, True),
        ({"sys/devices/system/cpu/intel_pstate/no_turbo": "1"}, False),
        ({"sys/devices/system/cpu/cpufreq/boost": "1"}, True),
        ({"sys/devices/system/cpu/cpufreq/boost": "0"}, False),
    ],
)
def test_turbo(tmp_path: Path, files: dict[str, str], turbo: bool):
    """Intel's driver says when turbo is off, the others when it is on."""
    assert probe_host(lay(tmp_path, files)).turbo is turbo


def test_governor(tmp_path: Path):
    """A governor that all CPUs share is named once."""
    host = probe_host(lay(tmp_path, every_cpu("cpufreq/scaling_governor", "powersave")))

    assert host.governor == "powersave"


@pytest.mark.parametrize(
    ("mark", "text", "container"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("run/systemd/container", "lxc", "lxc"),
    ],
)
def test_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, text: str, container: str):
    """The marks that container engines leave are recognized."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    assert probe_host(lay(tmp_path, {mark: text})).container == container


def test_a_compiler_named_by_the_environment_wins(monkeypatch: pytest.MonkeyPatch):
    """CXX decides, arguments behind it aside; one that is not there is none."""
    monkeypatch.setenv("CXX", "sh -c")
    assert Path(str(probe_host().cxx_compiler)).name == "sh"

    monkeypatch.setenv("CXX", "no-such-compiler")
    assert probe_host().cxx_compiler is None


def test_numa_nodes(tmp_path: Path):
    """Nodes come in the order of their numbers, with CPUs and memory; a node may have neither."""
    node = "sys/devices/system/node/node"
    lay(
        tmp_path,
        {
            f"{node}0/cpulist": "0-2,8",
            f"{node}0/meminfo": "Node 0 MemTotal:       1048576 kB\nNode 0 MemFree: 1 kB",
            f"{node}10/cpulist": "",
            f"{node}2/cpulist": "3",
        },
    )

    assert numa_nodes(tmp_path) == (
        NumaNode(0, (0, 1, 2, 8), GIB),
        NumaNode(2, (3,), None),
        NumaNode(10, (), None),
    )


def test_cpu_list():
    """The kernel's list format becomes numbers."""
    assert cpu_list("0-3,8,10-11") == (0, 1, 2, 3, 8, 10, 11)
    assert cpu_list("") == ()


V2 = {"proc/self/cgroup": "0::/jobs/mine", "sys/fs/cgroup/cgroup.controllers": "cpu memory"}
V1 = {"proc/self/cgroup": "4:memory:/jobs/mine\n2:cpu,cpuacct:/jobs/mine\n1:name=systemd:/"}


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, CgroupLimits(None, None)),
        (V2, CgroupLimits(None, None)),
        (V2 | {"sys/fs/cgroup/jobs/mine/cpu.max": "max 100000"}, CgroupLimits(None, None)),
        (V2 | {"sys/fs/cgroup/jobs/mine/cpu.max": "150000 100000"}, CgroupLimits(1.5, None)),
        (  # the stricter level counts, wherever it is
            V2
            | {
                "sys/fs/cgroup/jobs/mine/cpu.max": "400000 100000",
                "sys/fs/cgroup/jobs/cpu.max": "200000 100000",
            },
            CgroupLimits(2.0, None),
        ),
        (V2 | {"sys/fs/cgroup/jobs/mine/memory.max": str(GIB)}, CgroupLimits(None, GIB)),
        (V2 | {"sys/fs/cgroup/jobs/mine/memory.max": "max"}, CgroupLimits(None, None)),
        # in a container the group's path is the host's, and the mount shows the group itself
        (V2 | {"sys/fs/cgroup/cpu.max": "50000 100000"}, CgroupLimits(0.5, None)),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/jobs/mine/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu/jobs/mine/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": str(2 * GIB),
            },
            CgroupLimits(3.0, 2 * GIB),
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/jobs/mine/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/jobs/mine/cpu.cfs_period_us": "100000",
            },
            CgroupLimits(None, None),
        ),
    ],
)
def test_cgroup_limits(tmp_path: Path, files: dict[str, str], limits: CgroupLimits):
    """Both versions of control groups yield the strictest limit on the way to the root."""
    assert read_limits(lay(tmp_path, files)) == limits


def test_a_limit_that_does_not_bind_is_none(tmp_path: Path):
    """Quota and memory limit are told only where they grant less than the machine has."""
    roomy = {"sys/fs/cgroup/cpu.max": "99900000 100000", "sys/fs/cgroup/memory.max": str(2**62)}
    tight = {"sys/fs/cgroup/cpu.max": "50000 100000", "sys/fs/cgroup/memory.max": str(GIB)}

    host = probe_host(lay(tmp_path / "roomy", V2 | roomy))
    assert (host.cpu_quota, host.memory_limit_bytes) == (None, None)
    host = probe_host(lay(tmp_path / "tight", V2 | tight))
    assert (host.cpu_quota, host.memory_limit_bytes) == (0.5, GIB)
