"""The time that a run may take (``--time-limit``), and what still fits in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Clock:
    """Nothing is begun that would not end within the limit, as far as what came before tells.

    What is measured by then is judged: when a run ends has nothing to do with what it saw, so its error rates hold.

    Args:
        limit: seconds, from now; None for none.
    """

    def __init__(self, limit: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._now = limit, now
        self._begin = self._last = now()
        self._taken = 0.0

    def leaves_room(self) -> bool:
        """Whether there is time for another launch, if it takes as long as the last; asked before each, the first included."""
        now = self._now()
        self._taken, self._last = now - self._last, now
        return self._remaining(now) >= self._taken

    def fits(self) -> bool:
        """Whether what takes as long as the last launch that another was to follow would end in time, begun now.

        Of a run of one launch that is none: then it fits as long as any time is left.
        """
        return self.left >= self._taken

    @property
    def left(self) -> float:
        """Seconds until the limit: infinite without one, negative beyond it."""
        return self._remaining(self._now())

    @property
    def limit(self) -> str:
        """The limit as it was given, for a person."""
        return f"{self._limit:g} s (--time-limit)"

    def note(self, made: int, planned: int) -> str:
        """What a person is told of launches that were left out."""
        return f"ended after {made} of {planned} launches: another one would not fit in {self.limit}"

    def _remaining(self, now: float) -> float:
        return math.inf if self._limit is None else self._begin + self._limit - now
