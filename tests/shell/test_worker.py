"""Workers on bad days: scripts of the tests stand in for `sglperf.workers`, for faults that those do not have."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from double import make_target

from sglperf.core.server_config import Model, ServerConfig
from sglperf.errors import LaunchError, ServerDied
from sglperf.server import worker as room
from sglperf.server.leases import Lease, lease_gpus
from sglperf.server.worker import Worker, start_worker
from sglperf.target.resolve import resolve_target

CONFIG = ServerConfig(
    Model("tiny", 2048, 4096, {"vocab_size": 2048}), "cpu", "torch_native", 16, (0,), 4096, 8, 0.3
)
ECHO = "from link import serve\nimport os, time\nserve(lambda request: eval(request['do']))\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of workers that a test may add to."""
    shutil.copytree(room.WORKERS, tmp_path / "workers")
    monkeypatch.setattr(room, "WORKERS", tmp_path / "workers")
    return tmp_path


def started(
    folder: Path,
    script: str,
    timeout: float = 20,
    config: ServerConfig = CONFIG,
    gpus: Sequence[Lease] | None = None,
) -> Worker:
    (folder / "workers" / "echo.py").write_text(script)
    number = len(list(folder.glob("target*")))
    target = resolve_target(str(make_target(folder / f"target{number or ''}")))
    return start_worker(
        target, config, "echo", log_path=folder / "log", timeout=timeout, gpus=gpus, cache=folder / "cache"
    )


def test_answers(folder: Path) -> None:
    """A worker runs in the target's interpreter and answers request after request."""
    with started(folder, ECHO) as worker:
        prefix = worker.ask({"do": "__import__('sys').prefix"}, 10)
        assert prefix == str(folder / "target")
        assert worker.ask({"do": "'x' * 300000"}, 10) == "x" * 300000
        pid = worker.ask({"do": "os.getpid()"}, 10)
    assert not psutil.pid_exists(pid)


def test_two_on_one_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are to be compared share a lease; one that comes by itself is told who holds the GPU."""
    uuid = f"GPU-of-a-test-{os.getpid()}"
    monkeypatch.setattr(room, "gpu_uuids", lambda _: (uuid,))
    gpu = replace(CONFIG, device="cuda")
    with lease_gpus((uuid,)) as leases:
        with (
            started(folder, ECHO, config=gpu, gpus=leases) as one,
            started(folder, ECHO, config=gpu, gpus=leases) as two,
        ):
            assert [worker.ask({"do": "1 + 1"}, 10) for worker in (one, two)] == [2, 2]
        with pytest.raises(LaunchError, match="is in use"):
            started(folder, ECHO, config=gpu)


def test_finishes(folder: Path) -> None:
    """A worker that is let go ends by itself, so that a tool around it can write down what it saw."""
    with started(folder, ECHO + "print('the end', flush=True)\n") as worker:
        worker.finish(20)
    assert "the end" in (folder / "log").read_text()


def test_does_not_finish(folder: Path) -> None:
    """One that goes on is not waited for any longer than that."""
    with (
        started(folder, ECHO + "time.sleep(600)\n") as worker,
        pytest.raises(ServerDied, match="did not end within 0.5 s"),
    ):
        worker.finish(0.5)


def test_request_that_fails(folder: Path) -> None:
    """What goes wrong in a worker is said with its own words, and the worker goes on."""
    with started(folder, ECHO) as worker:
        with pytest.raises(ServerDied, match="worker echo failed: ZeroDivisionError: division by zero"):
            worker.ask({"do": "1 / 0"}, 10)
        assert worker.ask({"do": "1 + 1"}, 10) == 2


def test_dies(folder: Path) -> None:
    """A worker that dies at a request says so at once."""
    with started(folder, ECHO) as worker:
        begin = time.monotonic()
        with pytest.raises(ServerDied, match="worker echo ended \\(exit status 7\\)"):
            worker.ask({"do": "os._exit(7)"}, 60)
        assert time.monotonic() - begin < 30


def test_hangs(folder: Path) -> None:
    """A worker that does not answer in time is named, with the time."""
    with started(folder, ECHO) as worker, pytest.raises(ServerDied, match="did not answer within 0.3 s"):
        worker.ask({"do": "time.sleep(60)"}, 0.3)


@pytest.mark.parametrize(
    ("script", "timeout", "said"),
    [
        (
            "import nothing_of_that_name\n",
            20,
            "ended while starting \\(exit status 1\\)(.|\n)*nothing_of_that_name",
        ),
        ("import time; time.sleep(60)\n", 0.5, "was not ready within 0.5 s"),
    ],
)
def test_does_not_start(folder: Path, script: str, timeout: float, said: str) -> None:
    """A worker that cannot start is a failed launch with the cause from its log, and nothing is left of it."""
    before = set(psutil.Process(os.getpid()).children(recursive=True))
    with pytest.raises(LaunchError, match=said):
        started(folder, script, timeout)
    assert set(psutil.Process(os.getpid()).children(recursive=True)) <= before
