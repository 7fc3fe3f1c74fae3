"""GPUs through NVIDIA's management library, read only: no call here changes a setting.

No driver and no GPU are normal answers. A GPU that fails is reported alone; the others still are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sglperf.core.machine import Gpu, GpuProcess, Gpus, GpuState, LostGpu
from sglperf.core.topology import Topology
from sglperf.probes.gpu_links import probe_links
from sglperf.probes.nvml import Device, decoded, initialized, pci_bus, why_no_driver

# Bits of nvmlDeviceGetCurrentClocksEventReasons.
_CLOCK_REASONS = {
    0x1: "idle",
    0x2: "applications clocks",
    0x4: "sw power cap",
    0x8: "hw slowdown",
    0x10: "sync boost",
    0x20: "sw thermal",
    0x40: "hw thermal",
    0x80: "hw power brake",
    0x100: "display clock",
}
_NODE_WORDS = 4  # of 64 NUMA nodes each


def probe_gpus(nvml: Any = None, visible_devices: str | None = None) -> Gpus:
    """All GPUs, how they are linked, and the driver.

    Args:
        nvml: `pynvml`, which is the default, or a double with its functions.
        visible_devices: the value of ``CUDA_VISIBLE_DEVICES``; None where it is unset. Its numbers are
            taken for the driver's, which holds under ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` or for equal GPUs.
    """
    nvml = nvml or _pynvml()
    try:
        with initialized(nvml):
            return _inventory(nvml, visible_devices)
    except nvml.NVMLError as error:
        return Gpus(reason=why_no_driver(nvml, error))


def visible_indices(setting: str | None, gpus: Sequence[Gpu]) -> tuple[int, ...]:
    """The GPUs ``CUDA_VISIBLE_DEVICES`` leaves: numbers or UUID prefixes, up to the first that is neither."""
    if setting is None:
        return tuple(gpu.index for gpu in gpus)
    chosen: list[int] = []
    for entry in map(str.strip, setting.split(",")):
        named = [gpu.index for gpu in gpus if _names(entry, gpu)]
        if len(named) != 1:
            break
        chosen += named
    return tuple(chosen)


def _names(entry: str, gpu: Gpu) -> bool:
    return entry == str(gpu.index) or (entry.startswith("GPU-") and gpu.uuid.startswith(entry))


def _pynvml() -> Any:
    import pynvml

    return pynvml


def _inventory(nvml: Any, visible_devices: str | None) -> Gpus:
    devices: dict[int, Device] = {}
    gpus: list[Gpu] = []
    lost: list[LostGpu] = []
    count = nvml.nvmlDeviceGetCount()
    for index in range(count):
        try:
            device = Device(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
            gpus.append(_gpu(index, device))
            devices[index] = device
        except nvml.NVMLError as error:
            lost.append(LostGpu(index, str(error)))
    return Gpus(
        gpus=tuple(gpus),
        lost=tuple(lost),
        topology=Topology(probe_links(devices, {gpu.index: gpu.pci_bus for gpu in gpus})),
        visible=visible_indices(visible_devices, gpus),
        driver=nvml.nvmlSystemGetDriverVersion(),
        cuda=_cuda(nvml.nvmlSystemGetCudaDriverVersion_v2()),
        reason=None if count else "the NVIDIA driver sees no GPU",
    )


def _gpu(index: int, device: Device) -> Gpu:
    nvml, ask = device.nvml, device.ask
    memory, capability = ask("nvmlDeviceGetMemoryInfo"), ask("nvmlDeviceGetCudaComputeCapability")
    mig, ecc = ask("nvmlDeviceGetMigMode"), ask("nvmlDeviceGetEccMode")  # (now, after a reboot)
    return Gpu(
        index=index,
        uuid=decoded(ask("nvmlDeviceGetUUID") or ""),
        name=decoded(ask("nvmlDeviceGetName") or "unnamed GPU"),
        pci_bus=pci_bus(ask("nvmlDeviceGetPciInfo")),
        memory_bytes=memory and int(memory.total),
        power_limit_w=_watts(ask("nvmlDeviceGetPowerManagementLimit")),
        numa_node=_numa_node(ask("nvmlDeviceGetMemoryAffinity", _NODE_WORDS, nvml.NVML_AFFINITY_SCOPE_NODE)),
        compute_capability=capability and "{}.{}".format(*capability),
        persistence=_switch(ask("nvmlDeviceGetPersistenceMode")),
        mig=_switch(mig and mig[0]),
        ecc=_switch(ecc and ecc[0]),
        sm_clock_max_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        memory_clock_max_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
        state=_state(device),
    )


def _state(device: Device) -> GpuState:
    nvml, ask = device.nvml, device.ask
    return GpuState(
        sm_clock_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        memory_clock_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        clock_reasons=clock_reasons(device),
        temperature_c=temperature(device),
        power_w=_watts(ask("nvmlDeviceGetPowerUsage")),
        processes=_processes(device),
    )


def clock_reasons(device: Device) -> tuple[str, ...]:
    """Why its clocks are no higher at this moment."""
    bits = device.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:  # drivers before 535 know the older name only
        bits = device.ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    return tuple(name for bit, name in _CLOCK_REASONS.items() if bits & bit)


def temperature(device: Device) -> int | None:
    """Of the chip, °C."""
    sensor = device.nvml.NVML_TEMPERATURE_GPU
    answer: int | None = device.ask("nvmlDeviceGetTemperatureV", sensor)
    if answer is None:  # drivers before 570 know the older name only
        answer = device.ask("nvmlDeviceGetTemperature", sensor)
    return answer


def compute_pids(device: Device) -> tuple[int, ...] | None:
    """Processes with a compute context on it, as the driver numbers them; None where it hides them."""
    found = device.ask("nvmlDeviceGetComputeRunningProcesses")
    return None if found is None else tuple(sorted({process.pid for process in found}))


def _processes(device: Device) -> tuple[GpuProcess, ...]:
    kinds = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
    found = {process.pid: process for kind in kinds for process in device.ask(kind) or ()}
    return tuple(
        GpuProcess(pid, _process_name(device.nvml, pid), process.usedGpuMemory)
        for pid, process in sorted(found.items())
    )


def _process_name(nvml: Any, pid: int) -> str | None:
    """NVML's own word: in a container the pid is the host's, and would name another process here."""
    try:
        name = decoded(nvml.nvmlSystemGetProcessName(pid))
    except nvml.NVMLError:
        return None
    return None if name.startswith("[") else name.rpartition("/")[2] or None


def _numa_node(words: Sequence[int] | None) -> int | None:
    """The one node of a bit mask; a GPU near to none or to several has none of its own."""
    nodes = [bit + 64 * i for i, word in enumerate(words or ()) for bit in range(64) if word >> bit & 1]
    return nodes[0] if len(nodes) == 1 else None


def _switch(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _cuda(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
