"""From a torch profiler trace to what a scheduling step consists of: operators and kernels, with calls and time.

Events of one host thread nest, so each is booked with the time that its children do not account for; then the rows
of a thread add up to its wall time, and nothing is counted twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from statistics import median

from sglperf.core.trace_events import Event, Part, Trace

RowKey = tuple[Part, str]


SEGMENTS = 5
"""Parts that a trace of decoding is cut into. The first, in which the profiler settles, is left out, and so is the last: the scheduler
ends the profile within its last batch, which takes ten times as long as the batch itself."""


@dataclass(frozen=True)
class Row:
    """One operator, kernel, runtime call or stage over a whole trace.

    Attributes:
        calls: how often it ran in a step, as most steps have it: their median. Taking a new page of the KV cache is no part
            of a step, nor is what comes with the profiler's start, which no two traces have alike.
        seconds: its own time in each segment, without that of what it called; of a kernel, its time on the device.
    """

    calls: float
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Profile:
    """One trace, summed up. Its segments show how far one build's steps differ among themselves.

    Attributes:
        phase: ``decode`` or ``prefill``.
        steps: forward passes in each segment.
        seconds: wall time of the scheduler's thread in each segment.
        rows: by part and name.
    """

    phase: str
    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    rows: Mapping[RowKey, Row]

    @property
    def settled(self) -> range:
        """Segments that count."""
        cut = len(self.steps) > 1
        return range(cut, len(self.steps) - cut)


def profile_of(trace: Trace) -> Profile:
    """What a trace holds."""
    threads, scheduler, steps, decoding = trace.threads, trace.scheduler, trace.passes, trace.decoding
    edges = _edges(steps) if decoding else []
    turns = [step.root for step in steps[1:]]
    begin, end = min(one.begin for one in threads[scheduler]), max(one.end for one in threads[scheduler])
    walls = [right - left for left, right in pairwise([begin, *edges, end])]

    def segment(one: Event) -> int:
        return bisect_right(edges, one.begin)

    calls: defaultdict[RowKey, list[int]] = defaultdict(lambda: [0] * max(len(steps), 1))
    own: defaultdict[RowKey, list[float]] = defaultdict(lambda: [0.0] * len(walls))
    for one in (*trace.device, *chain.from_iterable(threads.values())):
        key = one.part, _name(one)
        calls[key][bisect_right(turns, one.begin)] += 1
        own[key][segment(one)] += one.own
    outside = list(walls)
    for one in threads[scheduler]:
        outside[segment(one)] -= one.own
    calls[_OUTSIDE], own[_OUTSIDE] = [1], [max(0.0, left) for left in outside]
    counted = Counter(map(segment, steps))
    return Profile(
        "decode" if decoding else "prefill",
        tuple(counted[number] for number in range(len(walls))),
        tuple(wall / 1e6 for wall in walls),
        {key: Row(median(calls[key]), tuple(time / 1e6 for time in times)) for key, times in own.items()},
    )


_OUTSIDE: RowKey = (Part.OUTSIDE, "scheduler loop")


def _edges(steps: Sequence[Event]) -> list[float]:
    """Where a segment ends and the next begins, as the scheduler turns to a step; none for a short trace."""
    if len(steps) < 2 * SEGMENTS:
        return []
    return [steps[number * len(steps) // SEGMENTS].root for number in range(1, SEGMENTS)]


def _name(event: Event) -> str:
    """The same for the same thing in two builds: a pass is not named by its batch."""
    return event.name if event.mode is None else f"step[{event.mode}]"


@dataclass(frozen=True)
class Change:
    """One row of two builds' profiles, for one step.

    Attributes:
        calls: base's and head's calls in a step; None where a side's own traces disagree on it.
        seconds: base's and head's own time in a step; medians over segments and traces.
        clear: every segment of one side shows more time than every segment of the other.
    """

    part: Part
    name: str
    calls: tuple[float | None, float | None]
    seconds: tuple[float, float]
    clear: bool

    @property
    def added(self) -> float:
        """Seconds that head spends more in a step; negative where it spends less."""
        return self.seconds[1] - self.seconds[0]

    @property
    def recounted(self) -> bool:
        """Whether it runs at least once more, or less, in every step."""
        before, after = self.calls
        return before is not None and after is not None and abs(after - before) >= 1


@dataclass(frozen=True)
class ProfileChange:
    """Two builds' profiles of one phase, side by side.

    Attributes:
        phase: ``decode`` or ``prefill``.
        traces: of the side that has fewer.
        steps: seconds of a step of base and head, while profiled; medians over segments and traces.
        changes: all rows, the largest change of time first.
    """

    phase: str
    traces: int
    steps: tuple[float, float]
    changes: tuple[Change, ...]

    @property
    def added(self) -> float:
        """Seconds that a profiled step takes longer on head."""
        return self.steps[1] - self.steps[0]


def compare_profiles(base: Sequence[Profile], head: Sequence[Profile]) -> Iterator[ProfileChange]:
    """The two sides' profiles, for each phase that both have."""
    for phase in ("prefill", "decode"):
        sides = [[one for one in side if one.phase == phase] for side in (base, head)]
        if not all(sides):
            continue
        keys = {key for side in sides for one in side for key in one.rows}
        changes = [_change(key, *sides) for key in keys]
        changes.sort(key=lambda change: (-abs(change.added), change.name))
        steps = [median(_per_step(side, lambda one: one.seconds)) for side in sides]
        yield ProfileChange(phase, min(map(len, sides)), (steps[0], steps[1]), tuple(changes))


def _change(key: RowKey, base: Sequence[Profile], head: Sequence[Profile]) -> Change:
    before, after = _seconds(key, base), _seconds(key, head)
    return Change(
        *key,
        calls=(_calls(key, base), _calls(key, head)),
        seconds=(median(before), median(after)),
        clear=max(before) < min(after) or max(after) < min(before),
    )


def _seconds(key: RowKey, profiles: Sequence[Profile]) -> list[float]:
    return _per_step(
        profiles, lambda one: one.rows[key].seconds if key in one.rows else (0.0,) * len(one.steps)
    )


def _per_step(profiles: Sequence[Profile], seconds: Callable[[Profile], Sequence[float]]) -> list[float]:
    """Seconds of a step in each segment that counts."""
    return [seconds(one)[number] / one.steps[number] for one in profiles for number in one.settled]


def _calls(key: RowKey, profiles: Sequence[Profile]) -> float | None:
    """Calls in a step, where all traces agree to less than one call a step."""
    calls = [one.rows[key].calls if key in one.rows else 0.0 for one in profiles]
    return median(calls) if max(calls) - min(calls) < 1 else None
