"""Timing a call on the device, and what the machine can do at this moment. For workers; needs torch."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

_CUPTI = 13  # the first release that FlashInfer's timer takes
_CACHE_FILE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
_FEWEST, _MOST = 5, 10  # calls on a CPU; emptying its cache takes longer than most of them
_MOST_ON_GPU = 50
_WARMING = 0.25  # share of a budget that is spent before anything is timed
_CYCLES = 2e9  # of a GPU, in a second
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
_MATRIX = {"cpu": 1024, "cuda": 8192}


class Timer:
    """Times a call that finds a cold cache, as in a pass, where the weights of other layers went through it.

    Attributes:
        method: how, in the words of a baseline.
    """

    def __init__(self, device: str, *, cupti: bool | None = None) -> None:
        self.gpu = device.startswith("cuda")
        self.cupti = self.gpu and (has_cupti() if cupti is None else cupti)
        if self.gpu:
            self.method = "CUPTI, CUDA graphs, cold L2" if self.cupti else "CUDA events, queued, cold L2"
            size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
        else:
            self.method, size = "wall clock, cold cache", 2 * cache_bytes()
        self.cold = torch.zeros(size, dtype=torch.int8, device=device)

    def seconds(self, call: Callable[[], Any], budget: float, *, graph: bool = True) -> float:
        """Median of a call, over about ``budget`` seconds and several calls.

        Args:
            graph: whether a CUDA graph can hold it, which needs a call that does not wait for the GPU.

        Raises:
            CuptiFailed: CUPTI did not see each call do the same, or no graph could be made.
        """
        if not self.gpu:
            return self._clock(call, budget)
        return self._cupti(call, budget) if self.cupti and graph else self._events(call, budget, queue=graph)

    def _cupti(self, call: Callable[[], Any], budget: float) -> float:
        """From the first kernel's begin to the last one's end. In a graph, since else the host's time lies between."""
        from flashinfer.testing import bench_gpu_time

        try:
            milliseconds = bench_gpu_time(
                call,
                dry_run_time_ms=max(1, int(budget * _WARMING * 1000)),
                repeat_iters=repeats(budget, self._once(call)[1]),
                enable_cupti=True,
                use_cuda_graph=True,
                cold_l2_cache=True,
            )
        except Exception as error:  # it saw other kernels than in the call before, or fails itself
            raise CuptiFailed(f"{type(error).__name__}: {error}") from error
        return float(median(milliseconds)) / 1e3

    def _events(self, call: Callable[[], Any], budget: float, *, queue: bool) -> float:
        """Between two events, all of it queued while the GPU is kept busy: else a short kernel's time is the host's."""
        queued, once = self._once(call)
        pause = int(2 * queued * _CYCLES) if queue else 0
        warming = int(budget * _WARMING / once)
        taken: list[float] = []
        for _ in range(warming + repeats(budget, once)):
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self.cold.sum()  # read, not written: what is dirty would have to make room while the call runs
            torch.cuda._sleep(pause)
            begun.record()
            call()
            ended.record()
            torch.cuda.synchronize()
            taken.append(begun.elapsed_time(ended) / 1e3)
        return median(taken[warming:])

    def _once(self, call: Callable[[], Any]) -> tuple[float, float]:
        """Seconds until a call is queued, and until it is done."""
        call()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        queued = time.perf_counter() - begin
        torch.cuda.synchronize()
        return queued, time.perf_counter() - begin

    def _clock(self, call: Callable[[], Any], budget: float) -> float:
        call()
        taken: list[float] = []
        while len(taken) < _FEWEST or (sum(taken) < budget and len(taken) < _MOST):
            self.cold.fill_(len(taken) % 128)
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
        return median(taken)


def repeats(budget: float, once: float) -> int:
    """Calls on a GPU in so many seconds; more than enough of them tell nothing new."""
    return min(max(int(budget / once), _FEWEST), _MOST_ON_GPU)


class CuptiFailed(Exception):
    """CUPTI's record of a call makes no sense."""


def has_cupti() -> bool:
    """Whether FlashInfer's timer will find CUPTI."""
    try:
        importlib.import_module("cupti")
        return int(version("cupti-python").partition(".")[0]) >= _CUPTI
    except (ImportError, PackageNotFoundError):
        return False


def cache_bytes() -> int:
    """Size of the processor's last cache, or a large one's."""
    with contextlib.suppress(OSError, ValueError):
        return int(_CACHE_FILE.read_text().strip().removesuffix("K")) * 1024
    return 2**25


def ceilings(timer: Timer, device: str, budget: float) -> dict[str, float]:
    """What this machine can do at this moment: copy memory, and multiply matrices.

    Not in a CUDA graph: there a copy is another operation, which on an H100 moves 2.29 TB/s instead of 3.02.
    """
    kind = device.partition(":")[0]
    source = torch.ones(_COPY_BYTES[kind], dtype=torch.uint8, device=device)
    copy = torch.zeros_like(source)
    left = torch.randn(_MATRIX[kind], _MATRIX[kind], dtype=torch.bfloat16, device=device)
    copying = timer.seconds(lambda: copy.copy_(source), budget, graph=False)
    multiplying = timer.seconds(lambda: left @ left, budget, graph=False)
    return {
        "copy_bytes_per_second": 2 * source.numel() / copying,
        "matmul_flops_per_second": 2 * _MATRIX[kind] ** 3 / multiplying,
    }
