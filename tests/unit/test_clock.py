"""The time that a run may take, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sglperf.clock import Clock


def launches(limit: float | None, times: Sequence[float]) -> list[bool]:
    """Whether there is room at each of these times, of a run that began at 100."""
    given = iter([100.0, *(100.0 + time for time in times)])
    clock = Clock(limit, lambda: next(given))
    return [clock.leaves_room() for _ in times]


@pytest.mark.parametrize(
    ("limit", "times", "room"),
    [
        (None, [0, 50, 5000], [True, True, True]),
        (100, [0, 50], [True, True]),  # another 50 s end just in time
        (99, [0, 50], [True, False]),
        (200, [0, 90, 120, 150, 180], [True, True, True, True, False]),  # the first one compiled
        (1, [0, 50], [True, False]),  # the first is made in any case
    ],
)
def test_room_for_another_launch(limit, times, room):
    """There is, if it ends within the limit, should it take as long as the one before."""
    assert launches(limit, times) == room


def test_what_is_said():
    """How many launches were made of how many, and what to change."""
    assert Clock(336.0).note(4, 6) == (
        "ended after 4 of 6 launches: another one would not fit in 336 s (--time-limit)"
    )
