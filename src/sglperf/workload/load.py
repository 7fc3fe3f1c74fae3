"""Plays one round: which request is sent when, over connections opened beforehand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from time import monotonic_ns

from sglperf.core.observation import ClientHealth
from sglperf.workload.connection import Address, Connection, describe
from sglperf.workload.health import HealthWatch
from sglperf.workload.heartbeat import Timer
from sglperf.workload.recording import Recording

# Connections kept open and unused: all of a usual round's, and well below a listener's backlog.
AHEAD = 256
# For the server to take those connections up, so that the first requests do not pay for it.
SETTLE_SECONDS = 0.002


class Load:
    """One round of requests against one server.

    Attributes:
        recordings: what came of each request, in plan order; complete once `play` has returned.
        start_ns: when the round began, monotonic clock.
    """

    def __init__(
        self, address: Address, requests: Sequence[bytes], due: Sequence[float], concurrency: int | None
    ) -> None:
        """Args:
        address: where to connect.
        requests: complete HTTP requests, in plan order.
        due: seconds after the start at which each is sent; ignored in a closed loop.
        concurrency: requests in flight in a closed loop; None for an open one.
        """
        self.recordings = [Recording() for _ in requests]
        self.start_ns = monotonic_ns()
        self._address = address
        self._requests = requests
        self._due = due
        self._concurrency = concurrency
        order = list(range(len(requests)))
        if concurrency is None:
            order.sort(key=due.__getitem__)
        self._unsent, self._unopened = deque(order), deque(order)
        self._connections: dict[int, Connection] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._left = len(requests)
        self._over = asyncio.Event()
        self._schedule: Timer | None = None

    async def play(self, timeout: float) -> ClientHealth:
        """Send everything and wait for every response, for at most ``timeout`` seconds in all."""
        watch = HealthWatch()
        try:
            async with asyncio.timeout(timeout):
                for _ in range(min(AHEAD, self._left)):
                    self._open_ahead()
                await asyncio.gather(*self._opening.values())
                await asyncio.sleep(SETTLE_SECONDS)
                self.start_ns = watch.start()
                self._begin()
                await self._over.wait()
        except TimeoutError:
            self._expire(timeout)
        finally:
            health = watch.stop()
            self._clear()
        return health

    def _begin(self) -> None:
        if self._concurrency is None:
            self._schedule = Timer(asyncio.get_running_loop(), lambda _: self._send_due())
            self._send_due()
            return
        for _ in range(min(self._concurrency, self._left)):
            self._send_next()

    def _send_due(self) -> None:
        """Open loop: send whatever is due by now, and wake again for the next."""
        while self._unsent:
            due_ns = self.start_ns + round(self._due[self._unsent[0]] * 1e9)
            if due_ns > monotonic_ns():
                assert self._schedule is not None
                self._schedule.arm(due_ns)
                return
            self._send_next()

    def _send_next(self) -> None:
        index = self._unsent.popleft()
        if self._is_open(index):
            self._connections[index].send(self._requests[index])
        else:
            task = asyncio.get_running_loop().create_task(self._open_and_send(index))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if self._unopened:
            self._open_ahead()

    def _is_open(self, index: int) -> bool:
        return index in self._connections and self._connections[index].usable

    def _open_ahead(self) -> None:
        """Begin to open the next connection; if that fails, it is tried once more when it is needed."""
        index = self._unopened.popleft()
        self._opening[index] = asyncio.get_running_loop().create_task(self._open(index))

    async def _open(self, index: int) -> None:
        connection = Connection(self._finished)
        try:
            await connection.open(self._address)
        except OSError as error:
            _, (host, port) = self._address
            self.recordings[index].failure = f"could not connect to {host}:{port}: {describe(error)}"
        else:
            self._connections[index] = connection
            self.recordings[index] = connection.recording

    async def _open_and_send(self, index: int) -> None:
        """Send on a connection that is still being opened, could not be, or was lost while it waited."""
        if index in self._opening:
            await self._opening[index]
        if not self._is_open(index):
            await self._open(index)
        if self._is_open(index):
            self._connections[index].send(self._requests[index])
        else:
            recording = self.recordings[index]
            recording.fail(
                monotonic_ns(), recording.failure or "the server closed the connection before it was used"
            )
            self._finished()

    def _finished(self) -> None:
        self._left -= 1
        if not self._left:
            self._over.set()
        elif self._concurrency is not None and self._unsent:
            self._send_next()

    def _expire(self, timeout: float) -> None:
        now_ns = monotonic_ns()
        for recording in self.recordings:
            if recording.finished_ns is not None:
                continue
            since_ns = recording.last_activity_ns
            silence = "not sent" if since_ns is None else f"no token for {(now_ns - since_ns) / 1e9:.1f} s"
            recording.fail(now_ns, f"{silence} when the round's {timeout:g} s were over")

    def _clear(self) -> None:
        """Leave no socket, task or timer behind."""
        for task in (*self._sending, *self._opening.values()):
            task.cancel()
        if self._schedule is not None:
            self._schedule.close()
        for connection in self._connections.values():
            connection.abandon("the round was over")
