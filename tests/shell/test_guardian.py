"""Nothing that sglperf starts survives it, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sglperf.server.guarded import Guarded, guard

# The promise: gone within five seconds.
DEADLINE = 5.0

# Leaves a grandchild in a session of its own that ignores SIGTERM, then waits.
TREE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run([sys.executable, "-c", '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
''', sys.argv[1]])
time.sleep(600)
"""

# A harness: guards the tree, says the pids, and waits to be killed. With `fork`, a child of it that
# shares every open file outlives it.
HARNESS = """
import os, sys, time
from pathlib import Path
from sglperf.server.guarded import guard
folder = Path(sys.argv[1])
guarded = guard([sys.executable, "-c", sys.argv[2], str(folder / "grandchild")],
                environment=dict(os.environ), directory=folder / "private", log=folder / "log")
while guarded.pid is None:
    guarded.listen()
guarded.started()
forked = os.fork() if sys.argv[3] == "fork" else 0
if forked == 0 and sys.argv[3] == "fork":
    time.sleep(600)
print(guarded.process.pid, guarded.pid, forked, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_for(condition: Callable[[], bool], seconds: float = DEADLINE) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def grandchild(folder: Path) -> int:
    path = folder / "grandchild"
    assert wait_for(path.exists, 20)
    return int(path.read_text())


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[Guarded, list[int]]]:
    """A guarded command and the pids of guardian, command and stubborn grandchild."""
    private = tmp_path / "private"
    private.mkdir()
    guarded = guard(
        [sys.executable, "-c", TREE, str(tmp_path / "grandchild")],
        environment=dict(os.environ),
        directory=private,
        log=tmp_path / "log",
    )
    stubborn = grandchild(tmp_path)
    guarded.listen()
    assert guarded.pid is not None
    yield guarded, [guarded.process.pid, guarded.pid, stubborn]
    guarded.stop()


def test_stop_ends_everything(tree: tuple[Guarded, list[int]], tmp_path: Path) -> None:
    """Stopping ends the command, and the grandchild that left its session and ignores SIGTERM."""
    guarded, pids = tree
    guarded.stop()
    assert [pid for pid in pids if alive(pid)] == []
    assert not (tmp_path / "private").exists()


def test_command_runs_until_stopped(tree: tuple[Guarded, list[int]]) -> None:
    """As long as nobody stops it, the command runs."""
    guarded, pids = tree
    assert guarded.ended() is None
    assert all(alive(pid) for pid in pids)


@pytest.mark.parametrize("sharing", ["alone", "fork"])
def test_killed_harness_leaves_nothing(tmp_path: Path, sharing: str) -> None:
    """After ``kill -9`` of the harness nothing is left, even if a fork of it holds the channel open."""
    (tmp_path / "private").mkdir()
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path), TREE, sharing], stdout=subprocess.PIPE, text=True
    )
    assert harness.stdout is not None
    guardian, command, forked = map(int, harness.stdout.readline().split())
    pids = [guardian, command, grandchild(tmp_path)]
    assert all(alive(pid) for pid in pids)
    harness.kill()
    try:
        assert wait_for(lambda: not any(alive(pid) for pid in pids))
        assert not (tmp_path / "private").exists()
    finally:
        if forked:
            os.kill(forked, signal.SIGKILL)
        harness.wait()


def test_killed_guardian_takes_the_command_with_it(tree: tuple[Guarded, list[int]]) -> None:
    """``kill -9`` of the guardian ends the command, and the harness is told."""
    guarded, (guardian, command, stubborn) = tree
    os.kill(guardian, signal.SIGKILL)
    assert wait_for(lambda: not alive(command))
    assert wait_for(lambda: guarded.ended() is not None)
    os.kill(stubborn, signal.SIGKILL)  # SGLang's own children watch their parent; this one does not


def test_interrupt_is_left_to_the_harness(tree: tuple[Guarded, list[int]]) -> None:
    """SIGINT to the guardian changes nothing: Ctrl-C is the harness's to handle."""
    guarded, pids = tree
    os.kill(pids[0], signal.SIGINT)
    os.kill(pids[0], signal.SIGINT)
    assert not wait_for(lambda: not all(alive(pid) for pid in pids), 0.5)
    assert guarded.ended() is None


def test_terminated_guardian_ends_everything(tree: tuple[Guarded, list[int]]) -> None:
    """SIGTERM to the guardian ends everything below it, and then itself."""
    guarded, pids = tree
    os.kill(pids[0], signal.SIGTERM)
    assert wait_for(lambda: guarded.process.poll() is not None)
    assert [pid for pid in pids if alive(pid)] == []


@pytest.mark.parametrize(
    ("program", "end"),
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
    ],
)
def test_exit_is_reported(tmp_path: Path, program: str, end: str) -> None:
    """The harness learns how the command ended."""
    private = tmp_path / "private"
    private.mkdir()
    guarded = guard(
        [sys.executable, "-c", program], environment=dict(os.environ), directory=private, log=tmp_path / "log"
    )
    assert wait_for(lambda: guarded.ended() is not None, 20)
    assert guarded.ended() == end
    guarded.stop()


def test_orphans_of_a_dead_command_are_ended(tmp_path: Path) -> None:
    """A command that ends by itself leaves no child behind."""
    private = tmp_path / "private"
    private.mkdir()
    waiting = "while not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    program = TREE.rsplit("time.sleep(600)", 1)[0] + waiting
    guarded = guard(
        [sys.executable, "-c", program, str(tmp_path / "grandchild")],
        environment=dict(os.environ),
        directory=private,
        log=tmp_path / "log",
    )
    stubborn = grandchild(tmp_path)
    assert wait_for(lambda: guarded.ended() is not None, 20)
    assert guarded.ended() == "exit status 0"
    assert not alive(stubborn)
    guarded.stop()


@pytest.mark.parametrize("end", ["stopped", "dead at once", "dead while starting"])
def test_shared_memory_is_removed(tmp_path: Path, end: str) -> None:
    """A segment in /dev/shm that the command had mapped does not outlive it, however it ends."""
    private = tmp_path / "private"
    private.mkdir()
    segment = Path(f"/dev/shm/sglperf-test-{os.getpid()}")
    program = (
        "import mmap, sys, time; f = open(sys.argv[1], 'w+b'); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096);"
        "print('mapped', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    guarded = guard(
        [sys.executable, "-c", program, str(segment)],
        environment=dict(os.environ),
        directory=private,
        log=log,
    )
    try:
        assert wait_for(lambda: "mapped" in log.read_text(), 20)
        assert segment.exists()
        if end != "stopped":
            if end == "dead at once":
                guarded.started()
            assert not wait_for(lambda: guarded.ended() is not None, 2.0)  # it has looked by then
            assert guarded.pid is not None
            os.kill(guarded.pid, signal.SIGKILL)
        guarded.stop()
        assert not segment.exists()
    finally:
        guarded.stop()
        segment.unlink(missing_ok=True)
