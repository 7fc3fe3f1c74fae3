"""The machine's speed as a target's own interpreter measures it; and at night, a start that takes longer."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from statistics import median

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "shell"))
from faults import faulty
from suite import Suite

from sglperf.core.server_config import Model, ServerConfig
from sglperf.server.worker import start_worker
from sglperf.target.resolve import resolve_target

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)
CONFIG = ServerConfig(
    Model("tiny", 2048, 4096, {"vocab_size": 2048}), "cpu", "torch_native", 16, (0,), 4096, 8, 0.3
)
SLOW_START = (
    "srt/managers/scheduler.py",
    "    def init_model_config(self):\n",
    "    def init_model_config(self):\n        time.sleep(20)\n",
)


def seconds_here() -> float:
    """The worker's piece of Python, in this process."""
    taken = []
    for _ in range(9):
        begin = time.perf_counter()
        counts: dict[int, int] = {}
        for number in range(20_000):
            key = number * number % 1009
            counts[key] = counts.get(key, 0) + 1
        sum(sorted(counts.values())[::2])
        taken.append(time.perf_counter() - begin)
    return median(taken)


def test_the_machines_speed(tmp_path: Path) -> None:
    """Figures that hang together: against the same Python here, and each against another of the same answer."""
    target = resolve_target(None)
    with start_worker(target, CONFIG, "machine_speed", log_path=tmp_path / "log", timeout=120) as worker:
        said = worker.ask({"device": "cpu", "budget": 0.02}, 120)
    here = seconds_here()

    assert set(said) == {
        "method", "copy_bytes_per_second", "matmul_flops_per_second", "launch_seconds", "python_seconds",
    }  # fmt: skip
    assert here / 10 < said["python_seconds"] < 10 * here
    assert said["launch_seconds"] < said["python_seconds"] / 20  # one operation, not a hundred
    # A product of bf16 matrices takes several operations for each byte that a copy could have moved.
    assert said["matmul_flops_per_second"] > said["copy_bytes_per_second"] / 10
    assert said["method"] == "wall clock, cold cache"


@pytest.mark.nightly
def test_a_start_that_takes_longer(tmp_path: Path) -> None:
    """Twenty seconds of forty are seen, and named with their metric; the KV cache is as large as it was."""
    suite = Suite(tmp_path / "suite", {"launches": 3, "rounds": 1})
    first = suite.run("-m", "env", "-k", "test_start", timeout=500)
    assert first.code == 0, first.output
    ended = suite.run("-m", "env", "-k", "test_start", faulty(tmp_path / "sglang", SLOW_START), timeout=500)

    assert ended.code == 1, ended.output
    assert ended.status("prefill-p16-r1", "startup_seconds") == "regressed"
    assert ended.status("prefill-p16-r1", "kv_capacity_tokens") == "unchanged"
