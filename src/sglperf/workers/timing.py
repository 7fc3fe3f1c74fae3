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
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
_MATRIX = {"cpu": 1024, "cuda": 8192}


class Timer:
    """Times a call that finds a cold cache, as in a pass, where the weights of other layers went through it."""

    def __init__(self, device: str) -> None:
        self.gpu = device.startswith("cuda")
        if self.gpu:
            self.method = "CUPTI, cold L2" if has_cupti() else "CUDA events, cold L2"
        else:
            self.method, self.cold = (
                "wall clock, cold cache",
                torch.empty(2 * cache_bytes(), dtype=torch.int8),
            )

    def seconds(self, call: Callable[[], Any], budget: float) -> float:
        """Median of a call, over about ``budget`` seconds and several calls."""
        return self._gpu(call, budget) if self.gpu else self._cpu(call, budget)

    def _gpu(self, call: Callable[[], Any], budget: float) -> float:
        from flashinfer.testing import bench_gpu_time

        milliseconds = bench_gpu_time(
            call,
            dry_run_time_ms=max(1, int(budget * 250)),
            repeat_time_ms=max(1, int(budget * 1000)),
            enable_cupti=self.method.startswith("CUPTI"),
            cold_l2_cache=True,
        )
        return float(median(milliseconds)) / 1e3

    def _cpu(self, call: Callable[[], Any], budget: float) -> float:
        call()
        taken: list[float] = []
        while len(taken) < _FEWEST or (sum(taken) < budget and len(taken) < _MOST):
            self.cold.fill_(len(taken) % 128)
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
        return median(taken)


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
    """What this machine can do at this moment: copy memory, and multiply matrices."""
    kind = device.partition(":")[0]
    source = torch.ones(_COPY_BYTES[kind], dtype=torch.uint8, device=device)
    copy = torch.zeros_like(source)
    left = torch.randn(_MATRIX[kind], _MATRIX[kind], dtype=torch.bfloat16, device=device)
    return {
        "copy_bytes_per_second": 2 * source.numel() / timer.seconds(lambda: copy.copy_(source), budget),
        "matmul_flops_per_second": 2 * _MATRIX[kind] ** 3 / timer.seconds(lambda: left @ left, budget),
    }
