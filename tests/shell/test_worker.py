"""Workers on bad days: scripts of the tests stand in for `sglperf.workers`, for faults that those do not have."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psutil
import pytest
from double import make_target

from sglperf.core.server_config import Model, ServerConfig
from sglperf.errors import LaunchError, ServerDied
from sglperf.server import worker as room
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


def started(folder: Path, script: str, timeout: float = 20) -> Worker:
    (folder / "workers" / "echo.py").write_text(script)
    target = resolve_target(str(make_target(folder / "target")))
    return start_worker(
        target, CONFIG, "echo", log_path=folder / "log", timeout=timeout, cache=folder / "cache"
    )


def test_answers(folder: Path) -> None:
    """A worker runs in the target's interpreter and answers request after request."""
    with started(folder, ECHO) as worker:
        prefix = worker.ask({"do": "__import__('sys').prefix"}, 10)
        assert prefix == str(folder / "target")
        assert worker.ask({"do": "'x' * 300000"}, 10) == "x" * 300000
        pid = worker.ask({"do": "os.getpid()"}, 10)
    assert not psutil.pid_exists(pid)


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
