"""What must match for two timings to be comparable, as one value with a short name.

Only what a timing depends on and a reboot does not change is in here. Driver, versions, load and
temperature are context: they may differ, and then explain (`sglperf.core.machine.context`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from sglperf.core.machine import Gpu, Gpus, Host, Machine
from sglperf.errors import BaselineError, UsageError

GIB = 2**30
_LONGEST_NAME = 40  # characters of a product's name in an id
_ADORNMENT = re.compile(r"\((r|tm|c)\)|@.*|\bcpu\b|\bprocessor\b|\b\d+-core\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fingerprint:
    """The comparability of a timing.

    Attributes:
        device: ``cpu`` or ``cuda``.
        cpu_model, cpu_signature: as in `Host`.
        cpu_cores, cpu_threads: physical cores and logical CPUs that the process may use.
        cpu_quota: CPUs' worth of time that the cgroup grants, to a tenth; None without a limit.
        accelerator: product name; several are joined with `` + ``. None on a CPU, as all below.
        accelerator_memory_gib: of the GPU with least, GiB, rounded (see `rounded_gib`).
        power_cap_w: of the GPU with the lowest, W.
        gpu_count: size of the GPU set; 0 on a CPU.
        link_class: of the set, see `sglperf.core.topology.LinkClass`.
        nvlinks: NVLinks between the two GPUs of the set that share fewest.
    """

    device: str
    cpu_model: str
    cpu_signature: str | None
    cpu_cores: int
    cpu_threads: int
    cpu_quota: float | None = None
    accelerator: str | None = None
    accelerator_memory_gib: int | None = None
    power_cap_w: int | None = None
    gpu_count: int = 0
    link_class: str | None = None
    nvlinks: int | None = None

    @property
    def id(self) -> str:
        """A readable slug and 8 hex digits over every field; safe as a directory name."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=True)
        return f"{self._slug()}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"

    @property
    def links(self) -> str:
        """Class of links between its ranks; ``cpu`` for those on a CPU."""
        return self.link_class or "cpu"

    def _slug(self) -> str:
        if self.accelerator is None:
            return f"cpu-{_slug(self.cpu_model)}-{self.cpu_cores}c"
        link = f"-{_slug(self.link_class)}" if self.link_class and self.gpu_count > 1 else ""
        return f"{self.gpu_count}x-{_slug(self.accelerator)}{link}"

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs, one line a field: ``power cap: 700 W here, 500 W there``; ``other`` is there."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in _FIELDS)
        return [
            f"{_LABELS[name][0]}: {_shown(name, here)} here, {_shown(name, there)} there"
            for name, here, there in pairs
            if here != there
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Fingerprint:
        """The inverse of `to_dict`.

        Raises:
            BaselineError: a field is missing, foreign, or of the wrong type.
        """
        missing, foreign = set(_FIELDS) - set(plain), set(plain) - set(_FIELDS)
        wrong = [name for name in _FIELDS if name in plain and not _fits(name, plain[name])]
        if missing or foreign or wrong:
            faults = (("lacks", missing), ("does not know", foreign), ("holds a wrong value in", wrong))
            said = "; ".join(f"{verb} {', '.join(sorted(names))}" for verb, names in faults if names)
            raise BaselineError(f"a stored fingerprint {said}: record it again with this version of sglperf")
        return cls(**plain)


_FIELDS = tuple(field.name for field in fields(Fingerprint))
# Label and unit, for people.
_LABELS = {
    "device": ("device", ""),
    "cpu_model": ("CPU model", ""),
    "cpu_signature": ("CPU signature", ""),
    "cpu_cores": ("CPU cores", ""),
    "cpu_threads": ("CPU threads", ""),
    "cpu_quota": ("CPU quota", " CPUs"),
    "accelerator": ("accelerator", ""),
    "accelerator_memory_gib": ("accelerator memory", " GiB"),
    "power_cap_w": ("power cap", " W"),
    "gpu_count": ("GPUs", ""),
    "link_class": ("link class", ""),
    "nvlinks": ("NVLinks between two GPUs", ""),
}
_TYPES = get_type_hints(Fingerprint)


def fingerprint(machine: Machine, gpu_set: Sequence[int] = ()) -> Fingerprint:
    """The fingerprint of running on ``gpu_set`` (driver's indices), or on the CPU where it is empty.

    The set's order and which of several equal GPUs are taken do not matter.

    Raises:
        UsageError: a GPU is not there or does not answer.
    """
    host = machine.host
    cpu = (host.cpu_model, host.cpu_signature, host.available_cores, host.available_cpus, _quota(host))
    if not gpu_set:
        return Fingerprint("cpu", *cpu)
    chosen = sorted(set(gpu_set))
    gpus = [_gpu(machine.gpus, index) for index in chosen]
    topology = machine.gpus.topology
    return Fingerprint(
        "cuda",
        *cpu,
        accelerator=" + ".join(sorted({f"{gpu.name} (MIG)" if gpu.mig else gpu.name for gpu in gpus})),
        accelerator_memory_gib=_least(rounded_gib(gpu.memory_bytes) for gpu in gpus if gpu.memory_bytes),
        power_cap_w=_least(round(gpu.power_limit_w) for gpu in gpus if gpu.power_limit_w),
        gpu_count=len(gpus),
        link_class=topology.link_class(chosen).value,
        nvlinks=topology.fewest_nvlinks(chosen),
    )


def rounded_gib(reported: int) -> int:
    """Bytes as GiB, coarse enough that a driver's reserve (0.3 GiB between releases) does not show.

    Whole GiB below 16 GiB, multiples of 4 GiB from there: 79.3 and 79.6 are both 80.
    """
    step = 1 if reported < 16 * GIB else 4
    return step * round(reported / (step * GIB))


def _quota(host: Host) -> float | None:
    return None if host.cpu_quota is None else round(host.cpu_quota, 1)


def _gpu(gpus: Gpus, index: int) -> Gpu:
    for gpu in gpus.gpus:
        if gpu.index == index:
            return gpu
    lost = next(
        (f"GPU {lost.index} does not answer ({lost.reason})" for lost in gpus.lost if lost.index == index),
        None,
    )
    here = ", ".join(str(gpu.index) for gpu in gpus.gpus) or "none"
    reason = f" ({gpus.reason})" if gpus.reason else ""
    raise UsageError(f"{lost or f'there is no GPU {index}'}; those that are there: {here}{reason}")


def _least(values: Iterable[int]) -> int | None:
    return min(values, default=None)


def _slug(text: str) -> str:
    bare = _ADORNMENT.sub(" ", text).lower()
    return re.sub(r"[^a-z0-9]+", "-", bare).strip("-")[:_LONGEST_NAME].strip("-") or "unknown"


def _shown(name: str, value: object) -> str:
    return "none" if value is None else f"{value}{_LABELS[name][1]}"


def _fits(name: str, value: object) -> bool:
    return isinstance(value, _TYPES[name]) and not isinstance(value, bool)
