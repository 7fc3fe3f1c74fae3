"""A double of `pynvml` that answers from recordings, for machines that are not here.

What is recorded is plain data: per GPU, the answer of each function that sglperf asks, or the error
code it gives instead. Constants and the exception come from the real `pynvml`, which needs no driver.
A question that no recording answers is an error of the test, not of the library: so a call that
changes a setting cannot pass unseen, and `calls` names everything that was asked.

Where the answers come from:

* `H200`: a real H200 (driver 580.159.04, in a virtual machine), read with NVML; its UUID is changed.
* the others: composed for what they stand for from NVIDIA's published data (NVML's reference,
  ``nvidia-smi`` outputs, data sheets); the A100 host has the links of the report this project starts
  from. What a real machine of that kind answers elsewhere may differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml

MIB = 2**20


@dataclass(frozen=True)
class Fails:
    """An answer that is an error: the name of its code."""

    code: str

    def error(self) -> pynvml.NVMLError:
        return pynvml.NVMLError(getattr(pynvml, self.code))


@dataclass(frozen=True)
class ByArgument:
    """An answer that depends on the argument after the handle, or on the tuple of several; others are not supported."""

    answers: Mapping[Any, Any]


@dataclass(frozen=True)
class Live:
    """An answer that is computed whenever it is asked for."""

    answer: Callable[[], Any]


class InTurn:
    """A GPU that changes: its moments in order, of which the last one stays.

    A moment lasts until the GPU's handle is asked for again. So what is asked through one handle, as all of a
    sample is, comes from one moment, and a recording can say what each sample will see.
    """

    def __init__(self, *moments: Mapping[str, Any] | Fails) -> None:
        self.moments = moments


@dataclass(frozen=True)
class Recording:
    """A machine: what starting the library, the system's functions, and each GPU's functions answer.

    ``gpus`` holds one mapping a GPU, `Fails` for one whose handle cannot be had, or both of them `InTurn`.
    ``paths`` holds the common ancestor of each pair, ``(low, high)``, in NVML's levels.
    """

    gpus: tuple[Mapping[str, Any] | Fails | InTurn, ...] = ()
    paths: Mapping[tuple[int, int], int] = field(default_factory=dict)
    start: Fails | None = None
    driver: str = "580.159.04"
    cuda: int = 13000
    process_names: Mapping[int, str] = field(default_factory=dict)


NOT_SUPPORTED = Fails("NVML_ERROR_NOT_SUPPORTED")
LOST = Fails("NVML_ERROR_GPU_IS_LOST")


class RecordedNvml:
    """The functions of `pynvml` that sglperf uses, answered by a `Recording`.

    Attributes:
        calls: the name of every function called, in order.
        opened: how often the library is initialized and not yet shut down.
        handles: GPU → how often its handle was asked for, which is how far an `InTurn` has come.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.calls: list[str] = []
        self.opened = 0
        self.handles: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            return getattr(pynvml, name)
        return lambda *arguments: self._called(name, *arguments)

    def _called(self, name: str, *arguments: Any) -> Any:
        self.calls.append(name)
        system = self._system()
        if name in system:
            return system[name](*arguments)
        assert self.opened, f"{name} before the library is initialized"
        index, *rest = arguments
        gpu = self._moment(index)
        assert not isinstance(gpu, Fails), f"{name} on GPU {index}, which has no handle"
        assert name in gpu, f"{name} is not recorded"
        return _answer(gpu[name], rest)

    def _system(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "nvmlInit": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlDeviceGetCount": lambda: len(self.recording.gpus),
            "nvmlDeviceGetHandleByIndex": self._handle,
            "nvmlSystemGetDriverVersion": lambda: self.recording.driver,
            "nvmlSystemGetCudaDriverVersion_v2": lambda: self.recording.cuda,
            "nvmlSystemGetProcessName": self._process_name,
            "nvmlDeviceGetTopologyCommonAncestor": self._ancestor,
        }

    def _init(self) -> None:
        if self.recording.start is not None:
            raise self.recording.start.error()
        self.opened += 1

    def _shutdown(self) -> None:
        assert self.opened, "shut down more often than initialized"
        self.opened -= 1

    def _handle(self, index: int) -> int:
        self.handles[index] += 1
        gpu = self._moment(index)
        if isinstance(gpu, Fails):
            raise gpu.error()
        return index

    def _moment(self, index: int) -> Mapping[str, Any] | Fails:
        gpu = self.recording.gpus[index]
        if isinstance(gpu, InTurn):
            return gpu.moments[min(self.handles[index], len(gpu.moments)) - 1]
        return gpu

    def _process_name(self, pid: int) -> str:
        return str(_answer(self.recording.process_names.get(pid, Fails("NVML_ERROR_NOT_FOUND")), []))

    def _ancestor(self, a: int, b: int) -> int:
        level: int = _answer(self.recording.paths.get((min(a, b), max(a, b)), NOT_SUPPORTED), [])
        return level


def _answer(recorded: Any, arguments: list[Any]) -> Any:
    if isinstance(recorded, ByArgument):
        recorded = recorded.answers.get(
            *arguments if len(arguments) == 1 else [tuple(arguments)], NOT_SUPPORTED
        )
    if isinstance(recorded, Live):
        recorded = recorded.answer()
    if isinstance(recorded, Fails):
        raise recorded.error()
    return recorded


def gpu(index: int, name: str, memory_mib: int, bus: str, **others: Any) -> dict[str, Any]:
    """A healthy, idle GPU; ``others`` replaces answers, its names without ``nvmlDeviceGet``."""
    answers = {
        "UUID": f"GPU-{index:08d}-0000-4000-8000-000000000000",
        "Name": name,
        "PciInfo": SimpleNamespace(busId=f"0000{bus}".upper().encode()),
        "MemoryInfo": SimpleNamespace(total=memory_mib * MIB),
        "CudaComputeCapability": (9, 0),
        "PowerManagementLimit": 700_000,
        "MemoryAffinity": [1, 0, 0, 0],
        "PersistenceMode": 1,
        "MigMode": [0, 0],
        "EccMode": [1, 1],
        "TotalEccErrors": ecc_errors(0),
        **clocks(1980, 2619, sm=345),
        "CurrentClocksEventReasons": pynvml.nvmlClocksEventReasonGpuIdle,
        "TemperatureV": 31,
        "PowerUsage": 70_412,
        "ComputeRunningProcesses": [],
        "GraphicsRunningProcesses": [],
        "NvLinkState": NOT_SUPPORTED,
        "NvLinkRemoteDeviceType": NOT_SUPPORTED,
        "NvLinkRemotePciInfo": NOT_SUPPORTED,
    }
    return {f"nvmlDeviceGet{key}": answer for key, answer in (answers | others).items()}


def clocks(sm_max: int, memory: int, sm: int = 210) -> dict[str, ByArgument]:
    """SM clock now and at most, and a memory clock that stays, MHz."""
    sm_clock, memory_clock = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
    return {
        "MaxClockInfo": ByArgument({sm_clock: sm_max, memory_clock: memory}),
        "ClockInfo": ByArgument({sm_clock: sm, memory_clock: memory}),
    }


def ecc_errors(uncorrected: int) -> ByArgument:
    """Memory errors since the driver was loaded; more were corrected, and there were more in the GPU's life."""
    wrong, now = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    corrected, ever = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_AGGREGATE_ECC
    return ByArgument(
        {
            (wrong, now): uncorrected,
            (wrong, ever): 3 * uncorrected + 5,
            (corrected, now): 11,
            (corrected, ever): 200,
        }
    )


def processes(*pids: int) -> list[SimpleNamespace]:
    """Compute processes as NVML lists them."""
    return [SimpleNamespace(pid=pid, usedGpuMemory=20_000 * MIB) for pid in pids]


def _nvlinks(ends: list[tuple[int, str]]) -> dict[str, ByArgument]:
    """NVLinks by number: what kind of device each ends at, and its bus."""
    return {
        "NvLinkState": ByArgument({n: 1 for n, _ in enumerate(ends)}),
        "NvLinkRemoteDeviceType": ByArgument({n: kind for n, (kind, _) in enumerate(ends)}),
        "NvLinkRemotePciInfo": ByArgument(
            {n: SimpleNamespace(busId=f"0000{bus}".upper().encode()) for n, (_, bus) in enumerate(ends)}
        ),
    }


def _pairs(count: int, level: Callable[[int, int], int]) -> dict[tuple[int, int], int]:
    return {(a, b): level(a, b) for b in range(count) for a in range(b)}


H200 = Recording(
    gpus=(
        gpu(
            0,
            "NVIDIA H200",
            143_771,
            "0000:00:06.0",
            UUID="GPU-00000000-1111-4222-8333-444444444444",
            **clocks(1980, 3201, sm=345),
            TemperatureV=40,
            PowerUsage=110_123,
        ),
    )
)

H100 = Recording(gpus=(gpu(0, "NVIDIA H100 80GB HBM3", 81_559, "0000:18:00.0"),))

_H100_BUSES = tuple(f"0000:{bus}:00.0" for bus in ("18", "2a", "3a", "5d", "9a", "ab", "ba", "db"))
_SWITCHED = [(pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH, f"0000:0{5 + n % 4}:00.0") for n in range(18)]
H100_X8 = Recording(  # HGX: 18 NVLinks a GPU, all to four NVSwitches; four GPUs on each of two nodes
    gpus=tuple(
        gpu(
            index,
            "NVIDIA H100 80GB HBM3",
            81_559,
            bus,
            MemoryAffinity=[1 << index // 4, 0, 0, 0],
            **_nvlinks(_SWITCHED),
        )
        for index, bus in enumerate(_H100_BUSES)
    ),
    paths=_pairs(
        8, lambda a, b: pynvml.NVML_TOPOLOGY_NODE if a // 4 == b // 4 else pynvml.NVML_TOPOLOGY_SYSTEM
    ),
)

_A100_BUSES = tuple(f"0000:{bus}:00.0" for bus in ("01", "24", "41", "61", "81", "a1", "c1"))
_BRIDGED = {0: 1, 1: 0, 2: 3, 3: 2, 5: 6, 6: 5}  # an NVLink bridge of 12 links joins the pair
A100_X7 = Recording(
    gpus=tuple(
        gpu(
            index,
            "NVIDIA A100 80GB PCIe",
            81_920,
            bus,
            CudaComputeCapability=(8, 0),
            PowerManagementLimit=300_000,
            MemoryAffinity=[1 if index < 4 else 2, 0, 0, 0],
            **clocks(1410, 1512),
            **(
                _nvlinks([(pynvml.NVML_NVLINK_DEVICE_TYPE_GPU, _A100_BUSES[_BRIDGED[index]])] * 12)
                if index in _BRIDGED
                else {}
            ),
        )
        for index, bus in enumerate(_A100_BUSES)
    ),
    paths=_pairs(
        7, lambda a, b: pynvml.NVML_TOPOLOGY_NODE if (a < 4) == (b < 4) else pynvml.NVML_TOPOLOGY_SYSTEM
    ),
    driver="535.129.03",
    cuda=12020,
)

_L40S: dict[str, Any] = {
    "CudaComputeCapability": (8, 9),
    "PowerManagementLimit": 350_000,
    **clocks(2520, 9001),
}
PCIE_X2 = Recording(  # two L40S below one host bridge, no NVLink, one of them with a neighbour
    gpus=(
        gpu(0, "NVIDIA L40S", 46_068, "0000:01:00.0", **_L40S),
        gpu(
            1,
            "NVIDIA L40S",
            46_068,
            "0000:02:00.0",
            **_L40S,
            PersistenceMode=0,
            CurrentClocksEventReasons=pynvml.nvmlClocksEventReasonSwPowerCap
            | pynvml.nvmlClocksEventReasonHwThermalSlowdown,
            ComputeRunningProcesses=processes(4242),
            GraphicsRunningProcesses=[SimpleNamespace(pid=1313, usedGpuMemory=None)],
        ),
    ),
    paths={(0, 1): pynvml.NVML_TOPOLOGY_HOSTBRIDGE},
    process_names={4242: "/usr/bin/python3"},
)

PCIE_X8 = Recording(  # eight L40S without NVLink: pairs below one switch, four GPUs on each of two nodes
    gpus=tuple(
        gpu(
            index,
            "NVIDIA L40S",
            46_068,
            f"0000:{bus}:00.0",
            **_L40S,
            MemoryAffinity=[1 << index // 4, 0, 0, 0],
        )
        for index, bus in enumerate(("01", "02", "41", "42", "81", "82", "c1", "c2"))
    ),
    paths=_pairs(
        8,
        lambda a, b: (
            pynvml.NVML_TOPOLOGY_SINGLE
            if a // 2 == b // 2
            else pynvml.NVML_TOPOLOGY_NODE
            if a // 4 == b // 4
            else pynvml.NVML_TOPOLOGY_SYSTEM
        ),
    ),
)

LOST_GPU = Recording(  # of three, one has no handle, one gives up while it is asked
    gpus=(
        gpu(0, "NVIDIA H100 80GB HBM3", 81_559, "0000:18:00.0"),
        LOST,
        gpu(2, "NVIDIA H100 80GB HBM3", 81_559, "0000:3a:00.0", TemperatureV=LOST),
    )
)

MIG_GPU = Recording(
    gpus=(
        gpu(
            0,
            "NVIDIA A100-SXM4-80GB",
            81_920,
            "0000:07:00.0",
            CudaComputeCapability=(8, 0),
            PowerManagementLimit=400_000,
            MigMode=[1, 1],
            MaxClockInfo=NOT_SUPPORTED,
            ClockInfo=NOT_SUPPORTED,
            PowerUsage=NOT_SUPPORTED,
            ComputeRunningProcesses=Fails("NVML_ERROR_NO_PERMISSION"),
        ),
    )
)

NO_DRIVER = Recording(start=Fails("NVML_ERROR_LIBRARY_NOT_FOUND"))
OLD_LIBRARY = Recording(start=Fails("NVML_ERROR_LIB_RM_VERSION_MISMATCH"))
EMPTY = Recording()
OLD_DRIVER = Recording(  # answers only under the older names of two functions
    gpus=(
        gpu(
            0,
            "Tesla V100-SXM2-32GB",
            32_510,
            "0000:1a:00.0",
            CudaComputeCapability=(7, 0),
            PowerManagementLimit=300_000,
            **clocks(1530, 877),
            TemperatureV=Fails("NVML_ERROR_FUNCTION_NOT_FOUND"),
            Temperature=44,
            CurrentClocksEventReasons=Fails("NVML_ERROR_FUNCTION_NOT_FOUND"),
            CurrentClocksThrottleReasons=pynvml.nvmlClocksEventReasonSwPowerCap,
        ),
    ),
    driver="470.82.01",
    cuda=11040,
)


def h100(index: int = 0, **others: Any) -> dict[str, Any]:
    """An H100; ``others`` as for `gpu`."""
    return gpu(index, "NVIDIA H100 80GB HBM3", 81_559, _H100_BUSES[index], **others)


def hot(**others: Any) -> dict[str, Any]:
    """An H100 that its own hardware slows down."""
    slow: dict[str, Any] = {
        **clocks(1980, 2619, sm=1155),
        "CurrentClocksEventReasons": pynvml.nvmlClocksEventReasonSwPowerCap
        | pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        "TemperatureV": 88,
        "PowerUsage": 512_003,
    }
    return h100(**slow | others)


NEIGHBOUR_BEFORE = Recording((h100(ComputeRunningProcesses=processes(4242)),))
HIDDEN_PIDS = Recording((h100(ComputeRunningProcesses=Fails("NVML_ERROR_NO_PERMISSION")),))


def our_servers(offset: int = 0) -> Live:
    """What a GPU lists while this process's servers, doubles of SGLang, are up.

    Args:
        offset: from a pid here to the driver's number for it: not 0 where a container has numbers of its own.
    """

    def listed() -> list[SimpleNamespace]:
        below = psutil.Process().children(recursive=True)
        return processes(*(one.pid + offset for one in below if _is_server(one)))

    return Live(listed)


def _is_server(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:3] == ["-m", "sglang.launch_server"]  # its guardian has that further on
    except psutil.Error:
        return False


# Machines for whole runs. A run asks for a GPU's handle when it looks at the machine, makes its watch, leases the GPU,
# and once its server is up; then twice in each round, or more often in a long one. Its warm-up is the first of these.
_UP, _ROUND = 4, 2
_IN_A_CONTAINER = our_servers(1_000_000)
WELL = Recording((h100(ComputeRunningProcesses=our_servers()),))
ALWAYS_HOT = Recording((hot(),))
HOT_THEN_WELL = Recording(
    (
        InTurn(
            *[hot(ComputeRunningProcesses=_IN_A_CONTAINER)] * (_UP + 5 * _ROUND),
            h100(ComputeRunningProcesses=_IN_A_CONTAINER),
        ),
    )
)
ECC_ERRORS = Recording((InTurn(*[h100(TotalEccErrors=ecc_errors(2 + n)) for n in range(200)]),))
LOST_MIDWAY = Recording((InTurn(*[h100()] * (_UP + _ROUND + 1), LOST),))
NEIGHBOUR_COMES = Recording(
    (
        InTurn(
            *[h100(ComputeRunningProcesses=_IN_A_CONTAINER)] * _UP,
            h100(ComputeRunningProcesses=Live(lambda: [*processes(4242), *_IN_A_CONTAINER.answer()])),
        ),
    )
)
