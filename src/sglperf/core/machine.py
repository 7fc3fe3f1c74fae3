"""What a machine is and how it is doing, as values; `sglperf.probes` fills them in.

None means that this machine does not say, which is normal: containers hide files, GPUs lack features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sglperf.core.topology import Topology


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node: its logical CPUs and its memory."""

    index: int
    cpus: tuple[int, ...]
    memory_bytes: int | None


@dataclass(frozen=True)
class Host:
    """Processors, memory and system.

    Attributes:
        cpu_model: the brand string, e.g. ``Intel(R) Xeon(R) Platinum 8480+``.
        cpu_signature: vendor, family, model and stepping: virtual machines hide generations behind
            one brand (``AMD EPYC``). None on processors that have none.
        architecture: ``x86_64``, ``aarch64``.
        cores, cpus: physical cores and logical CPUs of the machine.
        available_cores, available_cpus: those that this process may run on (affinity).
        cpu_quota: processor time the cgroup grants, in CPUs; None where it is no less than available_cpus.
        memory_bytes, memory_available_bytes: installed, and free to take now.
        memory_limit_bytes: the cgroup's bound; None where it is no less than memory_bytes.
        container, virtual_machine: what it looks like from inside; a hint, not a proof.
        governor: frequency governor, comma-separated where CPUs differ.
        clock_mhz, clock_max_mhz: mean over CPUs, MHz.
        load_average: runnable tasks over 1, 5 and 15 minutes.
        c_compiler, cxx_compiler: what Triton and torch's C++ code generation would call.
    """

    cpu_model: str
    cpu_signature: str | None
    architecture: str
    cores: int
    cpus: int
    available_cores: int
    available_cpus: int
    cpu_quota: float | None
    numa_nodes: tuple[NumaNode, ...]
    memory_bytes: int
    memory_available_bytes: int
    memory_limit_bytes: int | None
    kernel: str
    container: str | None
    virtual_machine: str | None
    governor: str | None
    clock_mhz: float | None
    clock_max_mhz: float | None
    turbo: bool | None
    load_average: tuple[float, float, float]
    c_compiler: str | None
    cxx_compiler: str | None


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds a context on a GPU. In a container ``pid`` is the host's number."""

    pid: int
    name: str | None
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuState:
    """How a GPU is doing at this moment: MHz, °C, W, and why its clocks are what they are."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    clock_reasons: tuple[str, ...]
    temperature_c: int | None
    power_w: float | None
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True)
class Gpu:
    """A GPU that answers.

    Attributes:
        index: the driver's number, as ``--tp-gpus`` takes it.
        pci_bus: domain:bus:device.function, as in ``/sys/bus/pci/devices``.
        compute_capability: ``9.0``.
        power_limit_w: the cap that is set, W.
        numa_node: the node whose memory is nearest.
    """

    index: int
    uuid: str
    name: str
    pci_bus: str
    memory_bytes: int | None
    power_limit_w: float | None
    numa_node: int | None
    compute_capability: str | None
    persistence: bool | None
    mig: bool | None
    ecc: bool | None
    sm_clock_max_mhz: int | None
    memory_clock_max_mhz: int | None
    state: GpuState


@dataclass(frozen=True)
class LostGpu:
    """A GPU that the driver counts but that does not answer, with the driver's words for why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Gpus:
    """All GPUs of a machine. Empty, with a ``reason``, where there is none or no driver.

    Attributes:
        visible: indices that ``CUDA_VISIBLE_DEVICES`` leaves to this process; all where it is unset.
    """

    gpus: tuple[Gpu, ...] = ()
    lost: tuple[LostGpu, ...] = ()
    topology: Topology = field(default_factory=Topology)
    visible: tuple[int, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    reason: str | None = None

    @property
    def usable(self) -> tuple[Gpu, ...]:
        """Whole GPUs that answer and that this process may take."""
        return tuple(gpu for gpu in self.gpus if gpu.index in self.visible and not gpu.mig)


@dataclass(frozen=True)
class Machine:
    """A host and its GPUs."""

    host: Host
    gpus: Gpus


@dataclass(frozen=True)
class Installation:
    """A target's interpreter, what it holds by distribution name, and whether it can build extensions.

    Attributes:
        versions: installed distributions and ``python``; what is not installed is absent.
        python_headers: ``Python.h`` is there, which just-in-time compiled C and C++ includes.
        unmet: what its SGLang requires and it does not have, in words.
    """

    interpreter: str
    versions: Mapping[str, str]
    python_headers: bool
    unmet: tuple[str, ...] = ()


def context(machine: Machine, installation: Installation) -> dict[str, str]:
    """What may differ between comparable runs and then explains a change; plain, sorted strings."""
    said = {
        **installation.versions,
        "kernel": machine.host.kernel,
        "governor": machine.host.governor,
        "driver": machine.gpus.driver,
        "cuda-driver": machine.gpus.cuda,
    }
    return {name: value for name, value in sorted(said.items()) if value is not None}


def short_names(gpus: Sequence[str]) -> str:
    """``GPU-a27e92c9``, several joined by commas: enough to tell one from another."""
    return ", ".join(uuid[:12] for uuid in gpus)
