"""The client's own pulse: a kernel timer that reaches the event loop on the road a chunk takes.

A timerfd fires on time to the microsecond and wakes the loop like a socket does, so how late its
callback runs is how late a chunk of that moment would have been stamped. The loop's own timers have a
resolution of a millisecond, which is more than the lag to be found.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import time
from collections.abc import Callable

# A wake-up costs up to 70 µs on a virtual machine (docs/client.md): a hundred a second stay below 1 % of a core.
# Not a whole number of milliseconds, so that a source paced in those cannot stay in step with it.
PERIOD_NS = 9_700_000

TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK, TFD_CLOEXEC are defined as these
TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Timer:
    """A timerfd on the monotonic clock (os.timerfd_create is Python 3.13's)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[int], None]) -> None:
        """``callback`` gets the number of expirations since it was last called."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_FLAGS))
        self._loop = loop
        self._callback = callback
        loop.add_reader(self._fd, self._fire)

    def arm(self, first_ns: int, period_ns: int = 0) -> None:
        """Expire at ``first_ns`` on the monotonic clock (at once if past), then every ``period_ns`` if given."""
        spec = _Itimerspec(_Timespec(*divmod(period_ns, 10**9)), _Timespec(*divmod(max(first_ns, 1), 10**9)))
        self._checked(self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None))

    def close(self) -> None:
        """Never call back again; harmless when closed already."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def poll(self) -> None:
        """Call back now if an expiration is still unread."""
        try:
            expirations = int.from_bytes(os.read(self._fd, 8), "little")
        except BlockingIOError:
            return
        self._callback(expirations)

    def _fire(self) -> None:
        self.poll()

    def _checked(self, result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(result)


class Heartbeat:
    """Collects how late each beat was.

    A stall that swallows several beats counts each with its own lateness, as if a chunk had come with
    each: otherwise the longest stalls would weigh least (coordinated omission).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.lags_ns: list[int] = []
        self._clock = clock
        self._due_ns = 0
        self._timer = Timer(loop, self.beat)

    def start(self, now_ns: int) -> None:
        """Begin to beat, one period from now."""
        self._due_ns = now_ns + PERIOD_NS
        self._timer.arm(self._due_ns, PERIOD_NS)

    def beat(self, expirations: int) -> None:
        """Note the lateness of this many beats, the earliest first."""
        now_ns = self._clock()
        for _ in range(expirations):
            self.lags_ns.append(now_ns - self._due_ns)
            self._due_ns += PERIOD_NS

    def stop(self) -> None:
        """Note what is still outstanding, and be still."""
        self._timer.poll()
        self._timer.close()


def quantile(values: list[int], share: float) -> int:
    """Nearest-rank quantile: the smallest value that ``share`` of all values do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0
