"""The harness's handle on the streaming measurement client, which is a process of its own (worker.py)."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from time import monotonic
from types import TracebackType
from typing import IO, Any, Self

import orjson

from sglperf.core.observation import ClientHealth, RequestObservation
from sglperf.errors import WorkloadError
from sglperf.workload.channel import Deframer, frame
from sglperf.workload.plan import RoundPlan
from sglperf.workload.request import http_request, server_address

COMMAND = [sys.executable, "-P", "-m", "sglperf.workload.worker"]
GRACE_SECONDS = 30.0  # for reading the recordings after a round's own timeout
CLOSE_SECONDS = 5.0


class StreamingClient:
    """Plays rounds on servers and reports what each request saw.

    Use it as a context manager, once for a whole run: the process starts on entry, so that its imports
    are paid while a server starts, and is gone on exit. It ends by itself if the harness is killed.
    Not to be used from two threads at once.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._last_words: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The client process, None while there is none."""
        return None if self._process is None else self._process.pid

    def execute(
        self, base_url: str, plan: RoundPlan, *, timeout: float
    ) -> tuple[tuple[RequestObservation, ...], ClientHealth]:
        """Play one round and wait for its end.

        Args:
            base_url: ``http://HOST:PORT`` of a server.
            plan: what to send.
            timeout: seconds for the whole round, connecting included. Requests that are unfinished then end
                with an error that says for how long they had been silent.

        Returns:
            Observations in plan order, and the client's own health. What goes wrong with a request is its
            ``error``, never an exception.

        Raises:
            WorkloadError: the client process died or hangs; the next call starts another one.
        """
        if not plan.requests:
            raise WorkloadError("a round without requests measures nothing: give the plan at least one")
        address = server_address(base_url)
        settings = {
            "address": address,
            "due": [request.at for request in plan.requests],
            "concurrency": plan.concurrency,
            "timeout": timeout,
        }
        requests = [http_request(base_url, request) for request in plan.requests]
        try:
            answer = self._ask([orjson.dumps(settings), *requests], timeout + GRACE_SECONDS)
        except (
            BaseException
        ):  # also Ctrl-C: an answer nobody waited for must not be taken for the next round's
            self.close()
            raise
        return tuple(map(_observation, answer["requests"])), ClientHealth(**answer["client"])

    def close(self) -> None:
        """End the client process; harmless when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        assert self._link is not None
        assert self._last_words is not None
        self._link.close()
        _end(process)
        self._last_words.close()

    def _start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches the harness alone."""
        self._link, theirs = socket.socketpair()
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with theirs:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._last_words,
                start_new_session=True,
            )

    def _ask(self, frames: list[bytes], patience: float) -> Any:
        if self._process is None:
            self._start()
        assert self._link is not None
        deadline = monotonic() + patience
        try:
            self._link.settimeout(patience)
            self._link.sendall(b"".join(map(frame, frames)))
            return orjson.loads(self._receive(deadline))
        except TimeoutError:
            raise WorkloadError(
                f"the measurement client (pid {self.pid}) did not answer within {patience:g} s; it was ended. "
                "Look for what keeps it from running: a stopped process, an overloaded or swapping machine"
            ) from None
        except ConnectionError:
            raise self._death() from None

    def _receive(self, deadline: float) -> bytes:
        assert self._link is not None
        deframer = Deframer()
        while True:
            self._link.settimeout(max(deadline - monotonic(), 0.001))
            data = self._link.recv(1 << 20)
            if not data:
                raise ConnectionResetError
            for content in deframer.feed(data):
                return content

    def _death(self) -> WorkloadError:
        """The client process has closed its end: say how it ended, in its own words."""
        assert self._process is not None
        assert self._last_words is not None
        status = _end(self._process)
        how = f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
        self._last_words.seek(0)
        lines = self._last_words.read().decode(errors="replace").split("\n")
        words = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return WorkloadError(
            f"the measurement client (pid {self.pid}) ended with {how} during a round: {words}"
        )


def _end(process: subprocess.Popen[bytes]) -> int:
    """Exit status of a process whose link is closed, and which therefore ends, or is made to."""
    try:
        return process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _observation(fields: dict[str, Any]) -> RequestObservation:
    for name in ("arrivals", "tokens", "output_ids"):
        fields[name] = tuple(fields[name])
    return RequestObservation(**fields)
