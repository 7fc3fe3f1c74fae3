"""All-reduce over two ranks on the CPU: exact sums, faults that are seen, and nothing left when it ends."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sglperf.config_folder import config_folder
from sglperf.core.server_config import ServerConfig
from sglperf.errors import ServerDied
from sglperf.models import load_model
from sglperf.server.worker import WORKERS, Worker, start_worker
from sglperf.target.resolve import resolve_target

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None, reason="needs SGLang in this environment"
)
ROOT = Path(__file__).parents[2]
REQUEST = {"elements": 2048, "type": "bfloat16", "seed": 3, "budget": 0.05}


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    config = ServerConfig(
        load_model(config_folder(ROOT), "tiny-llama"), "cpu", "torch_native", 16, (0, 1), 4096, 8, 0.3
    )
    with start_worker(
        resolve_target(None), config, "collectives", log_path=tmp_path / "log", timeout=120
    ) as worker:
        yield worker


def ranks() -> list[psutil.Process]:
    below = psutil.Process().children(recursive=True)
    return [one for one in below if "collective_rank.py" in " ".join(one.cmdline())]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two processors")
def test_two_ranks_and_their_end(worker: Worker) -> None:
    """Sums are exact, each rank keeps to its processors, a larger message takes longer; a dead rank ends the job."""
    small, large = (worker.ask({**REQUEST, "elements": count}, 60) for count in (2048, 2**22))
    for said in (small, large):
        assert (said["error"], said["outside"], said["method"]) == (0, 0, "wall clock")
        assert said["seconds"] > 0
        assert said["streamed_seconds"] > 0
    assert large["seconds"] > small["seconds"]
    one, other = ranks()
    assert set(one.cpu_affinity()).isdisjoint(other.cpu_affinity())

    other.send_signal(signal.SIGKILL)
    with pytest.raises(ServerDied, match="rank [01] of 2"):
        worker.ask(REQUEST, 60)
    worker.stop()
    end = time.monotonic() + 20
    while one.is_running() and time.monotonic() < end:
        time.sleep(0.05)
    assert not one.is_running()
    assert ranks() == []


# The check, against all-reduces that are wrong on purpose


@pytest.fixture(scope="module")
def rank() -> Any:
    """The rank's module, as its process has it."""
    sys.path.insert(0, str(WORKERS))
    try:
        import collective_rank
    finally:
        sys.path.remove(str(WORKERS))
    return collective_rank


def checked(rank: Any, monkeypatch: pytest.MonkeyPatch, reduce: Any) -> dict[str, Any]:
    """What the first of two ranks says of a message of eight values that this all-reduce sums."""
    import torch

    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    one = object.__new__(rank.Rank)
    one.rank, one.ranks, one.cuda, one.device = 0, 2, False, torch.device("cpu")
    return dict(one.check(8, torch.bfloat16, 3))


def test_what_the_check_sees(rank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sum, half of it, one value off, no number, a value beside the message: each is seen, and the sum passes."""
    other = rank.part(1, 8, 3)

    def nothing(message: Any) -> None:
        """Leave every rank with its own part."""

    def off(message: Any) -> None:
        message += other
        message[5] += 1

    def beyond(message: Any) -> None:
        message += other
        message.as_strided((1,), (1,), message.storage_offset() + 8).fill_(0)

    assert checked(rank, monkeypatch, lambda message: message.add_(other)) == {"error": 0, "outside": 0}
    assert checked(rank, monkeypatch, nothing)["error"] > 0
    assert checked(rank, monkeypatch, lambda message: message[:4].add_(other[:4]))["error"] > 0
    assert checked(rank, monkeypatch, off) == {"error": 1, "outside": 0}
    assert checked(rank, monkeypatch, lambda message: message.fill_(float("nan")))["error"] == float("inf")
    assert checked(rank, monkeypatch, beyond) == {"error": 0, "outside": 1}
