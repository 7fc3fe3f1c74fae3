"""A run of the suite in a process of its own, which ends with this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sglperf.server.guardian import PR_SET_PDEATHSIG

_ENDING_SECONDS = 60.0
_LAST_LINES = 12


def run_pytest(arguments: Sequence[str], log: Path) -> int:
    """Run pytest with its output in ``log``, and end it with this process; its exit code.

    Interrupted, it interrupts that once, and waits until everything there is ended.
    """
    libc = ctypes.CDLL(None)
    harness = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != harness:
            os._exit(1)

    with log.open("ab") as output:
        # In a session of its own, so that Ctrl-C reaches it once and through us.
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,  # noqa: PLW1509
        )
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    end = time.monotonic() + _ENDING_SECONDS
    while process.poll() is None:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
        except KeyboardInterrupt:
            continue


def last_lines(log: Path) -> str:
    """What a run that came to nothing said last: its errors, else its last lines."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    return "\n".join(errors[-_LAST_LINES:] or lines[-_LAST_LINES:])
