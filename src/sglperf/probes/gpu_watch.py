"""GPUs watched through NVML, read only, before, while and after something is measured on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from sglperf.core.gates import Gate
from sglperf.core.gpu_watch import GpuSample, GpuWatched
from sglperf.probes.gpu import clock_reasons, compute_pids, temperature
from sglperf.probes.nvml import Device, initialized, why_no_driver

PERIOD_SECONDS = 0.25
COOLING_SECONDS = 20.0


@dataclass
class GpuWatch:
    """The GPUs of one server. Its making notes who is on them already; nobody of these is the run's.

    In a container the driver numbers processes as the host does, so a pid says nothing by itself. The run's own are
    those that came while its servers were starting (`ours_are_up`); where pids can be looked up, its descendants.

    Attributes:
        indices: the driver's numbers.
        nvml: `pynvml`, or a double with its functions.
    """

    indices: tuple[int, ...]
    nvml: Any
    _before: Mapping[int, frozenset[int]] = field(init=False)
    _ours: Mapping[int, frozenset[int]] = field(init=False)
    _stays_hot: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._before = self._pids()
        self._ours = dict.fromkeys(self.indices, frozenset())

    def ours_are_up(self, root: psutil.Process | None = None) -> None:
        """From now on, whoever else comes is a neighbour.

        Args:
            root: the process below which the run's servers are; this one by default.
        """
        below = {process.pid for process in (root or psutil.Process()).children(recursive=True)}
        came = {index: pids - self._before[index] for index, pids in self._pids().items()}
        # Those of which not one is a descendant carry another machine's numbers.
        self._ours = {index: (pids & below) or pids for index, pids in came.items()}

    @contextmanager
    def during(self) -> Iterator[Callable[[], tuple[GpuWatched, ...]]]:
        """Sample until the end of the block, or until what it yields is called for what was seen."""
        ended = threading.Event()
        seen: dict[int, list[GpuSample]] = {index: [] for index in self.indices}
        lost: dict[int, str] = {}

        def sample() -> None:
            for index, found in self._each(_sample, lost).items():
                seen[index].append(found)

        def watch() -> None:
            while not ended.wait(PERIOD_SECONDS):
                sample()

        def watched() -> tuple[GpuWatched, ...]:
            ended.set()
            watcher.join()
            sample()
            return tuple(
                GpuWatched(index, tuple(samples), self._foreign(index, samples), lost.get(index))
                for index, samples in seen.items()
            )

        with ExitStack() as stack:
            with suppress(self.nvml.NVMLError):  # held open, a sample takes a millisecond
                stack.enter_context(initialized(self.nvml))
            sample()
            watcher = threading.Thread(target=watch, name="gpu-watch", daemon=True)
            watcher.start()
            try:
                yield watched
            finally:
                ended.set()
                watcher.join()

    def cool(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait until nothing slows the GPUs down any more, but no longer than that.

        GPUs that stayed hot once are not waited for again: each round would wait in vain.
        """
        deadline = time.monotonic() + (0 if self._stays_hot else seconds)
        while self._throttled():
            if time.monotonic() >= deadline:
                self._stays_hot = True
                return
            sleep(PERIOD_SECONDS)

    def _throttled(self) -> bool:
        return any(sample.throttled for sample in self._each(_sample, {}).values())

    def _foreign(self, index: int, samples: Sequence[GpuSample]) -> tuple[int, ...]:
        found = {pid for sample in samples for pid in sample.processes or ()}
        return tuple(sorted(found - self._ours[index]))

    def _pids(self) -> dict[int, frozenset[int]]:
        pids = {index: frozenset(found or ()) for index, found in self._each(compute_pids, {}).items()}
        return {index: pids.get(index, frozenset()) for index in self.indices}

    def _each(self, ask: Callable[[Device], Any], lost: dict[int, str]) -> dict[int, Any]:
        """The answer of each GPU that gives one; of the others, why not."""
        answers = {}
        try:
            with initialized(self.nvml):
                for index in self.indices:
                    try:
                        answers[index] = ask(Device(self.nvml, self.nvml.nvmlDeviceGetHandleByIndex(index)))
                    except self.nvml.NVMLError as error:
                        lost[index] = str(error)
        except self.nvml.NVMLError as error:
            lost |= dict.fromkeys(self.indices, why_no_driver(self.nvml, error))
        return answers


def watching(watch: GpuWatch | None) -> AbstractContextManager[Callable[[], tuple[GpuWatched, ...]]]:
    """`GpuWatch.during`; on a CPU there is nothing to watch."""
    return nullcontext(tuple) if watch is None else watch.during()


def settle(watch: GpuWatch | None, gates: Collection[Gate]) -> None:
    """Before what failed these gates is measured again: where a GPU was slowed down, let it cool."""
    if watch is not None and any(gate.code == "gpu-throttled" for gate in gates):
        watch.cool(COOLING_SECONDS)


def watch_gpus(indices: Collection[int]) -> GpuWatch:
    """A watch on this machine's GPUs."""
    import pynvml

    return GpuWatch(tuple(sorted(indices)), pynvml)


def _sample(device: Device) -> GpuSample:
    nvml, ask = device.nvml, device.ask
    power = ask("nvmlDeviceGetPowerUsage")
    return GpuSample(
        sm_clock_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        memory_clock_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        clock_reasons=clock_reasons(device),
        temperature_c=temperature(device),
        power_w=power and power / 1000,
        processes=compute_pids(device),
        ecc_errors=ask(
            "nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
    )
