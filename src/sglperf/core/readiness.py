"""What each area of the suite lacks on a machine, and what makes its timings doubtful.

An area is a pytest marker. It is asked twice: for SGLang's CPU engine and for GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sglperf.core.machine import Gpu, Gpus, Host, Installation, Machine

AREAS = (
    "env",
    "lifecycle",
    "prefill",
    "decode",
    "serving",
    "radix",
    "backend",
    "kernel",
    "overlap",
    "tp",
)
# Reasons that mean "slower than it should be"; idling and a set application clock do not.
SLOWDOWNS = frozenset({"hw slowdown", "sw thermal", "hw thermal", "hw power brake"})
_KERNEL_PACKAGES = ("sglang-kernel", "sgl-kernel")  # renamed between SGLang releases
_BUSY_SHARE = 0.5  # runnable tasks per CPU from which something else clearly runs


@dataclass(frozen=True)
class Finding:
    """Something missing or doubtful, and the next action."""

    what: str
    action: str

    @property
    def sentence(self) -> str:
        """Both in one line."""
        return f"{self.what}: {self.action}"


@dataclass(frozen=True)
class AreaReadiness:
    """What an area lacks on the CPU engine and on a GPU; nothing means ready."""

    area: str
    cpu: tuple[Finding, ...]
    gpu: tuple[Finding, ...]


def readiness(machine: Machine, installation: Installation) -> tuple[AreaReadiness, ...]:
    """Every area, in the order of `AREAS`."""
    return tuple(
        AreaReadiness(
            area,
            tuple(_on_cpu(area, machine, installation)),
            tuple(_on_gpu(area, machine, installation)),
        )
        for area in AREAS
    )


def cautions(machine: Machine) -> tuple[Finding, ...]:
    """What does not stop a run but makes its timings noisy, slow or incomparable."""
    return tuple(chain(_host_cautions(machine.host), _gpu_cautions(machine.gpus)))


def _on_cpu(area: str, machine: Machine, installation: Installation) -> Iterator[Finding]:
    yield from _sglang(installation)
    if area == "backend":
        yield from _flex_attention(machine.host, installation)
    if area == "tp" and machine.host.available_cpus < 2:
        yield Finding("TP needs two CPUs", "give this process two CPUs (taskset, cgroup, VM size)")


def _sglang(installation: Installation) -> Iterator[Finding]:
    if "sglang" not in installation.versions:
        yield Finding("no SGLang in the target", "pip install sglang there, or name a --target that has it")
    for said in installation.unmet:
        yield Finding(f"SGLang requires {said}", "pip install that there, or name another --target")


def _flex_attention(host: Host, installation: Installation) -> Iterator[Finding]:
    # torch compiles flex_attention to C++ on a CPU; the module it builds includes Python.h.
    if host.cxx_compiler is None:
        yield Finding("flex_attention needs a C++ compiler", "apt install g++, or set CXX")
    if not installation.python_headers:
        yield Finding("flex_attention needs Python.h", "apt install python3-dev")


def _on_gpu(area: str, machine: Machine, installation: Installation) -> Iterator[Finding]:
    if not machine.gpus.usable:
        yield _no_gpu(machine.gpus)
        return
    if area == "tp" and len(machine.gpus.usable) < 2:
        yield Finding("TP needs two GPUs", "run on a machine with two or more GPUs")
    yield from _sglang(installation)
    yield from _gpu_software(machine.host, installation)
    if area in ("env", "backend", "kernel") and "flashinfer-python" not in installation.versions:
        yield Finding("no FlashInfer in the target", "pip install flashinfer-python there")


def _no_gpu(gpus: Gpus) -> Finding:
    if gpus.reason is not None:
        return Finding("needs a GPU", f"{gpus.reason}: run on a machine with an NVIDIA GPU and its driver")
    if any(gpu.mig for gpu in gpus.gpus):
        return Finding("needs a whole GPU", "every GPU here is split by MIG: ask for one that is not")
    if gpus.gpus:
        return Finding("needs a visible GPU", "CUDA_VISIBLE_DEVICES hides them all: unset it or name one")
    return Finding("needs a GPU that answers", "reset or reboot: no GPU here answers its driver")


def _gpu_software(host: Host, installation: Installation) -> Iterator[Finding]:
    if "sglang" in installation.versions and not any(p in installation.versions for p in _KERNEL_PACKAGES):
        yield Finding("no sglang-kernel in the target", "pip install sglang-kernel there")
    if "+cpu" in installation.versions.get("torch", ""):
        yield Finding("torch is a CPU build", "install the CUDA build of torch in the target")
    if host.c_compiler is None:
        yield Finding("Triton needs a C compiler", "apt install gcc, or set CC")
    if not installation.python_headers:
        yield Finding("Triton needs Python.h", "apt install python3-dev")


def _host_cautions(host: Host) -> Iterator[Finding]:
    if host.load_average[0] >= _BUSY_SHARE * host.available_cpus:
        what = f"load average {host.load_average[0]:.1f} on {host.available_cpus} CPUs"
        yield Finding(what, "wait until nothing else runs here")
    if host.governor is not None and host.governor != "performance":
        yield Finding(f"CPU governor is {host.governor}", "sudo cpupower frequency-set -g performance")
    if host.cpu_quota is not None:
        what = f"cgroup grants {host.cpu_quota:g} of {host.available_cpus} CPUs"
        yield Finding(what, "raise the quota or pin to fewer CPUs: a throttled group stalls in bursts")


def _gpu_cautions(gpus: Gpus) -> Iterator[Finding]:
    for lost in gpus.lost:
        yield Finding(
            f"GPU {lost.index} does not answer: {lost.reason}", "reset it, or leave it out of --tp-gpus"
        )
    for gpu in gpus.gpus:
        yield from _one_gpu(gpu)


def _one_gpu(gpu: Gpu) -> Iterator[Finding]:
    if gpu.mig:
        yield Finding(f"GPU {gpu.index} is split by MIG", "choose another: sglperf measures whole GPUs")
    if gpu.persistence is False:
        yield Finding(f"GPU {gpu.index} has persistence off: its first use is slow", "sudo nvidia-smi -pm 1")
    slow = [reason for reason in gpu.state.clock_reasons if reason in SLOWDOWNS]
    if slow:
        yield Finding(
            f"GPU {gpu.index} is throttled: {', '.join(slow)}", "check its cooling and power supply"
        )
    if gpu.state.processes:
        users = ", ".join(f"{process.name or 'process'} {process.pid}" for process in gpu.state.processes)
        yield Finding(
            f"GPU {gpu.index} is shared with {users}", "end them, or choose other GPUs with --tp-gpus"
        )
