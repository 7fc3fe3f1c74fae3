"""Runs a server so that nothing of it survives the harness. Standard library only.

    python guardian.py CHANNEL HARNESS_PID DIRECTORY COMMAND...

Sits between the harness and SGLang, in a session of its own. It starts the command in a further
session, adopts every orphan below it (it is their subreaper), and waits. When the harness closes the
channel or disappears, on SIGTERM, or when the command ends, it ends every descendant, removes what
they leave behind (their private DIRECTORY, their shared memory) and exits.
Should the guardian itself be killed, the kernel kills the command (parent-death signal), and SGLang's
own processes watch their parent in the same way.

Over the channel, a stream socket, it says ``pid N`` once the command runs and ``exit CODE`` when it
has ended, CODE negative for a signal. Anything it hears means that the start is over: until then it looks
every second which shared memory the command uses, to remove it even if the whole tree dies at once, and
afterwards it sleeps. SIGINT is ignored: Ctrl-C is the harness's, which stops things
in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.02
# multiprocessing's tracker removes shared memory and semaphores once its users are gone.
_CLEANER = b"resource_tracker"
_CLEANING_SECONDS = 1.0
# What a shell says of a command it cannot run.
_CANNOT_RUN = 127


def main(argv: list[str]) -> int:
    """Guard one command; its exit code, 128 + signal where one ended it."""
    channel = socket.socket(fileno=int(argv[1]))
    harness, directory, command = int(argv[2]), argv[3], argv[4:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup = _catch_signals()
    try:
        child = _start(command, libc, os.getpid())
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        _clean(directory, set())
        _say(channel, f"exit {_CANNOT_RUN}")
        return _CANNOT_RUN
    _say(channel, f"pid {child.pid}")
    shared = _wait(channel, wakeup, harness, child)
    code = _finish(child)
    _clean(directory, shared)
    _say(channel, f"exit {code}")
    return code if code >= 0 else 128 - code


def _catch_signals() -> int:
    """A descriptor that becomes readable on SIGTERM, SIGHUP and SIGCHLD."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return reader


def _start(command: list[str], libc: ctypes.CDLL, guardian: int) -> subprocess.Popen[bytes]:
    def in_child() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:  # killed before the line above took effect
            os.kill(os.getpid(), signal.SIGKILL)

    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=in_child)  # noqa: PLW1509


def _wait(channel: socket.socket, wakeup: int, harness: int, child: subprocess.Popen[bytes]) -> set[str]:
    """Until the harness lets go or is gone, SIGTERM arrives, or the command ends; the shared memory in use."""
    shared: set[str] = set()
    poller = select.poll()
    poller.register(channel, select.POLLIN | select.POLLHUP)
    poller.register(wakeup, select.POLLIN)
    idle = None if _watch(poller, harness) else 500
    # Until the harness speaks, the command is starting and may die with all its processes at any moment.
    timeout: int | None = 1000
    while child.poll() is None and os.getppid() == harness:
        ready = {descriptor for descriptor, _ in poller.poll(timeout)}
        if channel.fileno() in ready:
            if not _heard(channel):
                break
            timeout = idle
        if timeout != idle or channel.fileno() in ready:
            shared |= _shared_memory()
        if wakeup in ready and {signal.SIGTERM, signal.SIGHUP} & set(os.read(wakeup, 4096)):
            break
    return shared | _shared_memory()


def _heard(channel: socket.socket) -> bool:
    """Whether the harness said something; if not, it closed the channel or is gone."""
    try:
        return bool(channel.recv(4096))
    except OSError:
        return False


def _watch(poller: select.poll, harness: int) -> bool:
    # The channel alone is not enough: a process forked by the harness may hold it open.
    try:
        poller.register(os.pidfd_open(harness), select.POLLIN)
    except (OSError, AttributeError):
        return False
    return True


def _finish(child: subprocess.Popen[bytes]) -> int:
    """End the command and everything below; the command's exit code.

    Killed, not asked: a server whose rounds are over has nothing to save, and SGLang would first drain.
    """
    if child.poll() is None:
        child.kill()
    cleaners_until = time.monotonic() + _CLEANING_SECONDS
    while remaining := set(_descendants(os.getpid())):
        spare = time.monotonic() < cleaners_until
        for pid in remaining:
            if not (spare and _is_cleaner(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        _reap(child)
        time.sleep(_POLL_SECONDS)
    return child.wait()


def _reap(child: subprocess.Popen[bytes]) -> None:
    child.poll()
    for pid in set(_descendants(os.getpid())):
        if pid != child.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with contextlib.suppress(OSError, ValueError, IndexError):
            children.setdefault(_parent(int(pid)), []).append(int(pid))
    pending = list(children.get(root, []))
    while pending:
        descendant = pending.pop()
        yield descendant
        pending += children.get(descendant, [])


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        # The command name, in parentheses, may itself hold spaces and parentheses.
        return int(file.read().rsplit(b")", 1)[1].split()[1])


def _is_cleaner(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        return _CLEANER in file.read()
    return False


def _shared_memory() -> set[str]:
    """Files in /dev/shm that a descendant has mapped: memory that stays until somebody unlinks it."""
    found: set[str] = set()
    for pid in _descendants(os.getpid()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", errors="replace") as file:  # noqa: PTH123
            found.update(line[line.index("/dev/shm/") :].strip() for line in file if " /dev/shm/" in line)
    return {name for name in found if not name.endswith(" (deleted)")}


def _clean(directory: str, shared: set[str]) -> None:
    for name in shared:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108
    shutil.rmtree(directory, ignore_errors=True)


def _say(channel: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):
        channel.sendall(text.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
