"""Machines made up for the tests of the pure core."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sglperf.core.machine import Gpu, Gpus, GpuState, Host, Installation, Machine, NumaNode
from sglperf.core.topology import Link, LinkKind, Topology

GIB = 2**30

HOST = Host(
    cpu_model="Intel(R) Xeon(R) Platinum 8480+",
    cpu_signature="GenuineIntel family 6 model 143 stepping 8",
    architecture="x86_64",
    cores=112,
    cpus=224,
    available_cores=112,
    available_cpus=224,
    cpu_quota=None,
    numa_nodes=(
        NumaNode(0, tuple(range(56)) + tuple(range(112, 168)), 1008 * GIB),
        NumaNode(1, tuple(range(56, 112)) + tuple(range(168, 224)), 1008 * GIB),
    ),
    memory_bytes=2016 * GIB,
    memory_available_bytes=1987 * GIB,
    memory_limit_bytes=None,
    kernel="5.15.0-105-generic",
    container=None,
    virtual_machine=None,
    governor="performance",
    clock_mhz=3800.0,
    clock_max_mhz=3800.0,
    turbo=True,
    load_average=(0.5, 0.4, 0.3),
    c_compiler="/usr/bin/gcc",
    cxx_compiler="/usr/bin/g++",
)
IDLE = GpuState(345, 2619, ("idle",), 31, 70.412, ())
H100 = Gpu(
    index=0,
    uuid="GPU-00000000-0000-4000-8000-000000000000",
    name="NVIDIA H100 80GB HBM3",
    pci_bus="0000:18:00.0",
    memory_bytes=81_559 * 2**20,
    power_limit_w=700.0,
    numa_node=0,
    compute_capability="9.0",
    persistence=True,
    mig=False,
    ecc=True,
    sm_clock_max_mhz=1980,
    memory_clock_max_mhz=2619,
    state=IDLE,
)
INSTALLED = Installation(
    "/opt/env/bin/python",
    {
        "sglang": "0.5.23",
        "sglang-kernel": "0.4.10",
        "torch": "2.14.1",
        "triton": "3.8.0",
        "flashinfer-python": "0.7.2",
        "transformers": "5.19.0",
        "numpy": "2.3.5",
        "python": "3.11.7",
    },
    True,
)


def gpus(count: int, kind: LinkKind = LinkKind.NVSWITCH, nvlinks: int = 18, **changes: Any) -> Gpus:
    """That many H100, every pair linked alike."""
    found = tuple(
        replace(H100, index=i, uuid=f"GPU-{i:08d}-0000-4000-8000-000000000000", **changes)
        for i in range(count)
    )
    links = tuple(Link(a, b, kind, nvlinks) for b in range(count) for a in range(b))
    return Gpus(found, (), Topology(links), tuple(range(count)), "550.54.15", "12.4")


NO_GPUS = Gpus(reason="no NVIDIA driver here (libnvidia-ml.so.1 is not found)")
CPU_ONLY = Machine(HOST, NO_GPUS)
H100_X8 = Machine(HOST, gpus(8))
