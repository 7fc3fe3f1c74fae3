"""The harness's end of a command that runs under a guardian."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from sglperf.server import guardian
from sglperf.server.failure import exit_words

_STOP_SECONDS = 15.0


@dataclass
class Guarded:
    """A command running under its guardian."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    pid: int | None = None
    exit_code: int | None = None
    _heard: bytes = b""

    def listen(self) -> None:
        """Take in what the guardian has said so far, without waiting."""
        with contextlib.suppress(BlockingIOError, OSError):
            while chunk := self.channel.recv(4096, socket.MSG_DONTWAIT):
                self._heard += chunk
        for line in self._heard.decode().splitlines():
            word, _, number = line.partition(" ")
            if word == "pid" and number:
                self.pid = int(number)
            elif word == "exit" and number:
                self.exit_code = int(number)

    def ended(self) -> str | None:
        """How the command ended (``exit status 1``), or None while it runs."""
        self.listen()
        if self.exit_code is not None:
            return exit_words(self.exit_code)
        if self.process.poll() is not None:
            self.listen()
            code = self.exit_code
            return exit_words(code) if code is not None else "its guardian was killed, and the server with it"
        return None

    def started(self) -> None:
        """Tell the guardian that the start is over."""
        with contextlib.suppress(OSError):
            self.channel.sendall(b"started\n")

    def stop(self) -> None:
        """End the command and everything below it; returns once nothing is left."""
        self.channel.close()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_tree(self.process.pid)
            self.process.wait()


def guard(command: Sequence[str], *, environment: Mapping[str, str], directory: Path, log: Path) -> Guarded:
    """Run ``command`` in ``directory`` (removed at its end), its output going to ``log``."""
    ours, theirs = socket.socketpair()
    with theirs, log.open("ab") as output:
        words = [str(theirs.fileno()), str(os.getpid()), str(directory)]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, *words, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    return Guarded(process, ours)


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                each.kill()
