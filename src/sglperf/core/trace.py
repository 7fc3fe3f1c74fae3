"""From a torch profiler trace to what a scheduling step consists of: operators and kernels, with calls and time.

The trace is Chrome's trace event format as Kineto writes it: complete events (``ph`` is ``X``) with a category, a
thread, a start and a duration in microseconds. Events of one host thread nest, so each is booked with the time that
its children do not account for; then the rows of a thread add up to its wall time, and nothing is counted twice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any

# SGLang wraps each forward pass in a range of this name: `step[DECODE bs=8]`, `step[EXTEND bs=1 toks=64]`.
_STEP = re.compile(r"step\[(?P<mode>\w+)")
# The range that the profiler itself spans, and the bookkeeping that it admits to.
_PROFILERS_OWN = re.compile(r"PyTorch Profiler|ProfilerStep|Iteration Start|Record Window End")


class Part(StrEnum):
    """What a row of a profile is."""

    KERNEL = "kernel"  # on the device, also copies and fills
    OPERATOR = "operator"  # of torch, on the host
    RUNTIME = "runtime"  # calls of the CUDA runtime and driver
    STAGE = "stage"  # a range that SGLang names, where none of the above ran: its Python
    OUTSIDE = "outside"  # between all of these


_PARTS = {
    "kernel": Part.KERNEL,
    "gpu_memcpy": Part.KERNEL,
    "gpu_memset": Part.KERNEL,
    "cpu_op": Part.OPERATOR,
    "cuda_runtime": Part.RUNTIME,
    "cuda_driver": Part.RUNTIME,
    "user_annotation": Part.STAGE,
}

RowKey = tuple[Part, str]


@dataclass(frozen=True)
class Row:
    """One operator, kernel, function or stage over a whole trace.

    Attributes:
        calls: how often it ran.
        seconds: its own time, without that of what it called; of a kernel, its time on the device.
    """

    calls: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """One trace, summed up.

    Attributes:
        phase: ``decode`` or ``prefill``.
        steps: forward passes in it.
        seconds: wall time of the scheduler's thread.
        rows: by part and name.
    """

    phase: str
    steps: int
    seconds: float
    rows: Mapping[RowKey, Row]

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.seconds / self.steps


@dataclass
class _Event:
    part: Part
    name: str
    begin: float
    end: float
    children: float = field(default=0.0)

    @property
    def own(self) -> float:
        return max(0.0, self.end - self.begin - self.children)


def profile_of(events: Iterable[Mapping[str, Any]]) -> Profile | None:
    """What a trace holds; None where no forward pass is in it.

    Args:
        events: the trace's ``traceEvents``; times in microseconds.
    """
    threads: defaultdict[object, list[_Event]] = defaultdict(list)
    device: list[_Event] = []
    modes: defaultdict[object, list[str]] = defaultdict(list)
    for event in events:
        part = _PARTS.get(str(event.get("cat", "")))
        if event.get("ph") != "X" or part is None or _PROFILERS_OWN.match(str(event["name"])):
            continue
        thread: object = (event.get("pid"), event.get("tid"))
        begin = float(event["ts"])
        one = _Event(part, str(event["name"]), begin, begin + float(event.get("dur", 0.0)))
        (device if part is Part.KERNEL else threads[thread]).append(one)
        step = _STEP.match(one.name) if part is Part.STAGE else None
        if step is not None:
            modes[thread].append(step["mode"])
    if not modes:
        return None
    scheduler = max(modes, key=lambda thread: len(modes[thread]))
    phase = "decode" if modes[scheduler].count("DECODE") * 2 > len(modes[scheduler]) else "prefill"
    rows: defaultdict[RowKey, list[float]] = defaultdict(list)
    for one in device:
        rows[one.part, one.name].append(one.own)
    seconds = 0.0
    for thread, mine in threads.items():
        top = _booked(mine, rows)
        if thread == scheduler:
            seconds = max(event.end for event in mine) - min(event.begin for event in mine)
            rows[Part.OUTSIDE, "scheduler loop"].append(max(0.0, seconds - top))
    return Profile(
        phase,
        len(modes[scheduler]),
        seconds / 1e6,
        {key: Row(len(own), sum(own) / 1e6) for key, own in rows.items()},
    )


def _booked(events: Sequence[_Event], rows: Mapping[RowKey, list[float]]) -> float:
    """Book every event of one thread with its own time; returns that of those that nothing encloses, µs."""
    enclosing: list[_Event] = []
    top = 0.0
    for event in sorted(events, key=lambda event: (event.begin, -event.end)):
        while enclosing and enclosing[-1].end <= event.begin:
            enclosing.pop()
        if enclosing:
            # A clock of two sources may let a child outlast its parent by a little.
            enclosing[-1].children += min(event.end, enclosing[-1].end) - event.begin
        else:
            top += event.end - event.begin
        enclosing.append(event)
    for event in events:
        rows[event.part, _name(event)].append(event.own)
    return top


def _name(event: _Event) -> str:
    """The same for the same thing in two builds: a pass is not named by its batch."""
    step = _STEP.match(event.name) if event.part is Part.STAGE else None
    return event.name if step is None else f"step[{step['mode']}]"


@dataclass(frozen=True)
class Change:
    """One row of two builds' profiles, for one step.

    Attributes:
        calls: base's and head's calls in a step; None where a side's own traces disagree on it.
        seconds: base's and head's own time in a step; medians over the traces.
        clear: every trace of one side shows more time than every trace of the other.
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
        traces: of each side.
        steps: seconds of a step of base and head, while profiled; medians over the traces.
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
        steps = tuple(median([one.step for one in side]) for side in sides)
        yield ProfileChange(phase, min(map(len, sides)), (steps[0], steps[1]), tuple(changes))


def _change(key: RowKey, base: Sequence[Profile], head: Sequence[Profile]) -> Change:
    before, after = _seconds(key, base), _seconds(key, head)
    return Change(
        *key,
        calls=(_calls(key, base), _calls(key, head)),
        seconds=(median(before), median(after)),
        clear=max(before) < min(after) or max(after) < min(before),
    )


_NEVER = Row(0, 0.0)


def _seconds(key: RowKey, profiles: Sequence[Profile]) -> list[float]:
    return [one.rows.get(key, _NEVER).seconds / one.steps for one in profiles]


def _calls(key: RowKey, profiles: Sequence[Profile]) -> float | None:
    """Calls in a step, where all traces agree to less than one call a step."""
    calls = [one.rows.get(key, _NEVER).calls / one.steps for one in profiles]
    return median(calls) if max(calls) - min(calls) < 1 else None
