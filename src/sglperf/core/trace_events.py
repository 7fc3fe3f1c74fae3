"""A torch profiler's trace as events: what ran on each thread of the host, and on the device.

The trace is Chrome's trace event format as Kineto writes it: complete events (``ph`` is ``X``) with a category, a
thread, a start and a duration in microseconds.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# SGLang wraps each forward pass in a range of this name: `step[DECODE bs=8]`, `step[EXTEND bs=1 toks=64]`.
_STEP = re.compile(r"step\[(?P<mode>\w+)")
# The range that the profiler itself spans, and the bookkeeping that it admits to.
_PROFILERS_OWN = re.compile(r"PyTorch Profiler|ProfilerStep|Iteration Start|Record Window End")


class Part(StrEnum):
    """What an event, and a row of a profile, is."""

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


@dataclass
class Event:
    """One event of a trace.

    Attributes:
        begin, end: microseconds on the trace's clock.
        correlation: what a call of the runtime and the kernels that it launched have in common; None without one.
        inner: microseconds that the events below it on its thread take; known once `nest` has looked at the thread.
        root: where the outermost event above it begins, likewise.
    """

    part: Part
    name: str
    begin: float
    end: float
    correlation: int | None = None
    inner: float = 0.0
    root: float = 0.0

    @property
    def own(self) -> float:
        """Microseconds without those of the events below it."""
        return max(0.0, self.end - self.begin - self.inner)

    @property
    def mode(self) -> str | None:
        """Of a forward pass: ``DECODE``, ``EXTEND``, …; None for anything else."""
        found = _STEP.match(self.name) if self.part is Part.STAGE else None
        return found["mode"] if found else None


@dataclass(frozen=True)
class Trace:
    """The events of a trace in which there is a forward pass.

    Attributes:
        threads: of the host, each with its events.
        scheduler: key of the thread on which the forward passes are.
        device: what ran on the device; empty on a CPU.
    """

    threads: Mapping[object, list[Event]]
    scheduler: object
    device: list[Event]

    @property
    def passes(self) -> list[Event]:
        """Its forward passes in order."""
        mine = self.threads[self.scheduler]
        return sorted((one for one in mine if one.mode), key=lambda one: one.begin)

    @property
    def decoding(self) -> bool:
        """Whether most of its passes decode."""
        passes = self.passes
        return sum(one.mode == "DECODE" for one in passes) * 2 > len(passes)


def read_trace(events: Iterable[Mapping[str, Any]]) -> Trace | None:
    """The trace's events, nested; None where no forward pass is among them.

    Args:
        events: the trace's ``traceEvents``.
    """
    threads, device = _by_thread(events)
    passes = {thread: sum(one.mode is not None for one in mine) for thread, mine in threads.items()}
    scheduler = max(passes, key=passes.__getitem__, default=None)
    if scheduler is None or not passes[scheduler]:
        return None
    for mine in threads.values():
        nest(mine)
    return Trace(threads, scheduler, device)


def _by_thread(events: Iterable[Mapping[str, Any]]) -> tuple[dict[object, list[Event]], list[Event]]:
    threads: defaultdict[object, list[Event]] = defaultdict(list)
    device: list[Event] = []
    for event in events:
        part = _PARTS.get(str(event.get("cat", "")))
        if event.get("ph") != "X" or part is None or _PROFILERS_OWN.match(str(event["name"])):
            continue
        begin = float(event["ts"])
        correlation = event.get("args", {}).get("correlation")
        one = Event(part, str(event["name"]), begin, begin + float(event.get("dur", 0.0)), correlation)
        (device if part is Part.KERNEL else threads[event.get("pid"), event.get("tid")]).append(one)
    return threads, device


def nest(events: list[Event]) -> None:
    """Tell each event of one thread how long those below it take, and when the outermost one above it begins."""
    enclosing: list[Event] = []
    for event in sorted(events, key=lambda event: (event.begin, -event.end)):
        while enclosing and enclosing[-1].end <= event.begin:
            enclosing.pop()
        if enclosing:
            # A clock of two sources may let a child outlast its parent by a little.
            enclosing[-1].inner += min(event.end, enclosing[-1].end) - event.begin
        enclosing.append(event)
        event.root = enclosing[0].begin
