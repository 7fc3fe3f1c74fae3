"""GPUs are read through NVML, on machines that are here only as recordings."""

from __future__ import annotations

import pytest
from recorded_nvml import (
    A100_X7,
    EMPTY,
    H100,
    H100_X8,
    H200,
    LOST_GPU,
    MIG_GPU,
    NO_DRIVER,
    OLD_DRIVER,
    OLD_LIBRARY,
    PCIE_X2,
    PCIE_X8,
    RecordedNvml,
    Recording,
    gpu,
)

from sglperf.core.machine import Gpu, GpuProcess, Gpus, GpuState, LostGpu
from sglperf.core.topology import Link, LinkClass, LinkKind
from sglperf.probes.gpu import probe_gpus, visible_indices

ALL = {
    "H100": H100,
    "H200": H200,
    "H100_X8": H100_X8,
    "A100_X7": A100_X7,
    "PCIE_X2": PCIE_X2,
    "PCIE_X8": PCIE_X8,
    "LOST_GPU": LOST_GPU,
    "MIG_GPU": MIG_GPU,
    "NO_DRIVER": NO_DRIVER,
    "OLD_LIBRARY": OLD_LIBRARY,
    "EMPTY": EMPTY,
    "OLD_DRIVER": OLD_DRIVER,
}


def probed(recording: Recording, visible: str | None = None) -> Gpus:
    return probe_gpus(RecordedNvml(recording), visible)


def test_one_gpu_is_read_whole():
    """Every fact of a real H200 arrives under its name and in its unit."""
    gpus = probed(H200)

    assert gpus.gpus == (
        Gpu(
            index=0,
            uuid="GPU-00000000-1111-4222-8333-444444444444",
            name="NVIDIA H200",
            pci_bus="0000:00:06.0",
            memory_bytes=150_754_820_096,
            power_limit_w=700.0,
            numa_node=0,
            compute_capability="9.0",
            persistence=True,
            mig=False,
            ecc=True,
            sm_clock_max_mhz=1980,
            memory_clock_max_mhz=3201,
            state=GpuState(345, 3201, ("idle",), 40, 110.123, ()),
        ),
    )
    assert (gpus.driver, gpus.cuda, gpus.visible, gpus.reason) == ("580.159.04", "13.0", (0,), None)


def test_nvswitch_joins_every_pair():
    """On an HGX host each pair has 18 NVLinks through the switch, across NUMA nodes too."""
    gpus = probed(H100_X8)

    assert {(link.kind, link.nvlinks) for link in gpus.topology.links} == {(LinkKind.NVSWITCH, 18)}
    assert len(gpus.topology.links) == 28
    assert [found.numa_node for found in gpus.gpus] == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("gpu_set", "link_class"),
    [
        ((0, 1), LinkClass.NVLINK),
        ((2, 3), LinkClass.NVLINK),
        ((5, 6), LinkClass.NVLINK),
        ((1, 2), LinkClass.NUMA_NODE),
        ((0, 1, 2, 3), LinkClass.NUMA_NODE),
        ((4, 5, 6), LinkClass.NUMA_NODE),
        ((3, 4), LinkClass.CROSS_NUMA),
        ((2, 3, 5, 6), LinkClass.CROSS_NUMA),
        ((0, 1, 2, 3, 4, 5, 6), LinkClass.CROSS_NUMA),
    ],
)
def test_sets_of_the_seven_a100(gpu_set: tuple[int, ...], link_class: LinkClass):
    """The report's sets come out as NVLink pair, one NUMA node, and across nodes."""
    assert probed(A100_X7).topology.link_class(gpu_set) is link_class


def test_direct_nvlinks_are_counted():
    """A bridge of twelve links is twelve, and only between the two it joins."""
    topology = probed(A100_X7).topology

    assert topology.link(1, 0) == Link(0, 1, LinkKind.NVLINK, 12)
    assert topology.link(0, 2) == Link(0, 2, LinkKind.NODE, 0)


def test_pcie_host_and_neighbours():
    """Without NVLink the PCIe path counts; throttle reasons and foreign processes are named."""
    gpus = probed(PCIE_X2)

    assert gpus.topology.links == (Link(0, 1, LinkKind.PHB),)
    assert gpus.gpus[1].state.clock_reasons == ("sw power cap", "hw thermal")
    assert gpus.gpus[1].state.processes == (
        GpuProcess(1313, None, None),
        GpuProcess(4242, "python3", 20_000 * 2**20),
    )


def test_a_lost_gpu_is_alone_in_its_loss():
    """GPUs that fail are reported with the driver's words, the others as always."""
    gpus = probed(LOST_GPU)

    assert [found.index for found in gpus.gpus] == [0]
    assert gpus.lost == (LostGpu(1, "GPU is lost"), LostGpu(2, "GPU is lost"))
    assert gpus.reason is None


def test_a_gpu_split_by_mig_is_not_usable():
    """A GPU under MIG is shown, and left out of what may be measured."""
    gpus = probed(MIG_GPU)

    assert [found.mig for found in gpus.gpus] == [True]
    assert gpus.usable == ()
    assert gpus.gpus[0].sm_clock_max_mhz is None


@pytest.mark.parametrize(("mask", "node"), [([0, 1, 0, 0], 64), ([3, 0, 0, 0], None), ([0, 0, 0, 0], None)])
def test_the_nearest_numa_node(mask: list[int], node: int | None):
    """A GPU has a node where its mask names exactly one, beyond the first 64 too."""
    [found] = probed(Recording((gpu(0, "G", 1024, "0000:01:00.0", MemoryAffinity=mask),))).gpus

    assert found.numa_node == node


def test_modes_are_those_of_now():
    """What MIG and ECC will be after the next reset is not what they are."""
    [found] = probed(Recording((gpu(0, "G", 1024, "0000:01:00.0", MigMode=[0, 1], EccMode=[1, 0]),))).gpus

    assert (found.mig, found.ecc) == (False, True)


def test_older_names_of_functions_are_tried():
    """A driver that knows two questions by their older names only still answers both."""
    state = probed(OLD_DRIVER).gpus[0].state

    assert (state.temperature_c, state.clock_reasons) == (44, ("sw power cap",))


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (NO_DRIVER, "no NVIDIA driver here (libnvidia-ml.so.1 is not found)"),
        (OLD_LIBRARY, "the NVIDIA driver and its library differ in version (reboot)"),
        (EMPTY, "the NVIDIA driver sees no GPU"),
    ],
)
def test_no_gpu_is_a_normal_answer(recording: Recording, reason: str):
    """Where there is no GPU the answer is empty and says why."""
    gpus = probed(recording)

    assert (gpus.gpus, gpus.reason) == ((), reason)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_changed_and_the_library_is_left_tidy(name: str):
    """Only questions are asked, and the library is shut down as often as it was initialized."""
    nvml = RecordedNvml(ALL[name])
    probe_gpus(nvml)

    asked = {call for call in nvml.calls if call not in ("nvmlInit", "nvmlShutdown")}
    assert all("Get" in call for call in asked)
    assert nvml.calls[0] == "nvmlInit"
    assert nvml.opened == 0


@pytest.mark.parametrize(
    ("setting", "visible"),
    [
        (None, (0, 1)),
        ("", ()),
        ("1", (1,)),
        ("1, 0", (1, 0)),
        ("GPU-00000001", (1,)),
        ("GPU-", ()),  # means both, so neither
        ("0,7,1", (0,)),
    ],
)
def test_visible_devices(setting: str | None, visible: tuple[int, ...]):
    """CUDA_VISIBLE_DEVICES leaves what it names, in its order, up to the first it cannot mean."""
    assert visible_indices(setting, probed(PCIE_X2).gpus) == visible
    assert probed(PCIE_X2, setting).visible == visible
