"""What this machine can do without SGLang: copy, multiply, launch an operation, run Python. From the target's interpreter.

    python machine_speed.py SOCKET SERVER_ARGUMENTS...

Request ``{"device": "cpu" or "cuda", "budget": seconds for each timing}``. Answer::

    {"method": how copies and products were timed, "copy_bytes_per_second", "matmul_flops_per_second",
     "launch_seconds": host time of one small operation, waited for, "python_seconds": of a fixed piece of Python,
     "to_device_bytes_per_second", "from_device_bytes_per_second": from and to pinned host memory; on a GPU only}
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from link import serve
from timing import Timer, ceilings

_FEWEST = 5
_OPERATIONS = 100  # in one timing: a clock's own cost is then lost in it
_TRANSFER_BYTES = 2**28


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """All of it once."""
    device, budget = request["device"], request["budget"]
    timer = Timer(device, cupti=False)  # the ceilings are never timed by it
    with torch.no_grad():
        return {
            "method": timer.method,
            **ceilings(timer, device, budget),
            "launch_seconds": seconds(small_operations(device), budget) / _OPERATIONS,
            "python_seconds": seconds(python, budget),
            **(transfers(budget) if timer.gpu else {}),
        }


def seconds(call: Callable[[], object], budget: float) -> float:
    """Median of a call by the wall clock, over about ``budget`` seconds and several calls."""
    call()
    taken: list[float] = []
    while len(taken) < _FEWEST or sum(taken) < budget:
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return median(taken)


def small_operations(device: str) -> Callable[[], object]:
    """One operation after another, each waited for: what is left is the host's own work, and the way to the device."""
    value = torch.zeros(1, device=device)
    wait = torch.cuda.synchronize if device == "cuda" else int

    def run() -> None:
        for _ in range(_OPERATIONS):
            value.add_(1)
            wait()

    return run


def python() -> int:
    """What an interpreter does all day: calls, integers, a dictionary and a list."""
    counts: dict[int, int] = {}
    for number in range(20_000):
        key = number * number % 1009
        counts[key] = counts.get(key, 0) + 1
    return sum(sorted(counts.values())[::2])


def transfers(budget: float) -> dict[str, float]:
    """Copies between pinned host memory and the GPU, each waited for."""
    host = torch.zeros(_TRANSFER_BYTES, dtype=torch.uint8, pin_memory=True)
    device = torch.zeros_like(host, device="cuda")

    def copy(target: torch.Tensor, source: torch.Tensor) -> Callable[[], object]:
        def run() -> None:
            target.copy_(source)
            torch.cuda.synchronize()

        return run

    return {
        "to_device_bytes_per_second": _TRANSFER_BYTES / seconds(copy(device, host), budget),
        "from_device_bytes_per_second": _TRANSFER_BYTES / seconds(copy(host, device), budget),
    }


if __name__ == "__main__":
    serve(measure)
