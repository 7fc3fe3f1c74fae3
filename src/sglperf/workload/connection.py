"""One TCP connection for one request: opened ahead of time, stamped first, read without thinking."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import cast

from sglperf.workload.recording import Recording

Address = tuple[int, tuple[str, int]]


class Connection(asyncio.Protocol):
    """Sends one request and records its response.

    Attributes:
        recording: what came of it.
        usable: connected, and neither used nor lost yet.
    """

    def __init__(self, on_finished: Callable[[], None]) -> None:
        """``on_finished`` is called once, soon after the response has ended in any way."""
        self.recording = Recording()
        self.usable = False
        self._on_finished = on_finished
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None

    async def open(self, address: Address) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there, or no further socket can be had.
        """
        family, target = address
        loop = asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            await loop.sock_connect(self._socket, target)
            await loop.create_connection(lambda: self, sock=self._socket)
        except BaseException:
            self._socket.close()
            raise

    def send(self, request: bytes) -> None:
        """Hand the request to the kernel here and now.

        The transport would only queue it until every other callback of this turn has run. The time is
        taken before the call: the call itself wakes the server, which may take this very core.
        """
        assert self._socket is not None
        self.usable = False
        self.recording.sent_ns = monotonic_ns()
        try:
            handed = self._socket.send(request)
        except BlockingIOError:
            handed = 0
        except OSError as error:
            self._fail(describe(error))
            return
        if handed < len(request):
            self._send_rest(request[handed:])

    def abandon(self, reason: str) -> None:
        """End the request from this side, with ``reason`` as its failure unless it has ended already."""
        self.usable = False
        if self.recording.finished_ns is None:
            self.recording.fail(monotonic_ns(), reason)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop when connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class, not derived from it
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Called by the loop with what one read brought: stamp, keep, and nothing else."""
        now_ns = monotonic_ns()
        if self.recording.finished_ns is not None:
            return
        self.recording.receive(now_ns, data)
        if self.recording.finished_ns is not None:
            self._finished()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop when the connection ended, in order (None) or not."""
        now_ns = monotonic_ns()
        self.usable = False
        if self.recording.sent_ns is not None and self.recording.finished_ns is None:
            self.recording.close(now_ns, None if exc is None else describe(exc))
            self._finished()

    def resume_writing(self) -> None:
        """Called by the loop when the last byte of a long request has left for the kernel."""
        self.recording.sent_ns = monotonic_ns()

    def _send_rest(self, rest: bytes) -> None:
        assert self._transport is not None
        self._transport.set_write_buffer_limits(high=0)  # so resume_writing means "all of it"
        self._transport.write(rest)

    def _fail(self, reason: str) -> None:
        self.recording.fail(monotonic_ns(), reason)
        self._finished()

    def _finished(self) -> None:
        """Let the next request start, but only when all chunks of this turn of the loop have been stamped."""
        if self._transport is not None and not self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._transport.close)
        asyncio.get_running_loop().call_soon(self._on_finished)


def describe(error: BaseException) -> str:
    """An operating system's complaint in words: ``connection refused (ECONNREFUSED)``."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
