"""What one forward pass of a traced server consists of: how often it calls what, and who waits for whom.

Counts are those of most passes, so that what happens in one pass of forty is no part of them. Times are sums over all
passes that count. A traced pass is slower than others, its host's part most of all: its times say in which proportion
things stand, not how fast they are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import pairwise

from sglperf.core.trace_events import Event, Part, Trace

Span = tuple[float, float]
"""Begin and end, microseconds."""

SETTLING = 4
"""One in so many passes, at the beginning, is left out: the profiler settles there."""


class Group(StrEnum):
    """What a kernel, or on a CPU an operator, is for."""

    ATTENTION = "attention"
    GEMM = "gemm"
    NORM = "norm"
    COLLECTIVE = "collective"
    REST = "rest"


# The first that is found in a name says what it is for. Kernels of FlashInfer, FlashAttention, Triton, cuBLAS, CUTLASS,
# NCCL and SGLang's own; operators of torch. An operator of a CPU that several groups use, as a product element by
# element, is none of these.
_GROUPS = (
    (Group.COLLECTIVE, r"nccl|all_?reduce|all_?gather|reduce_?scatter|cross_device|c10d::|gloo"),
    (Group.NORM, r"(rms|layer|group|batch)_?norm|rsqrt|aten::(pow|mean)\b"),
    (
        Group.ATTENTION,
        r"attention|attn|fmha|\bflash::|Batch(Decode|Prefill)|PagedKV|MergeState|merge_state|^_fwd_|decode_.*stage\d",
    ),
    (Group.GEMM, r"gemm|gemv|nvjet|cublas|cutlass|splitK|aten::(mm|bmm|addmm|linear|matmul)\b|mkldnn_linear"),
)
_COMPILED = tuple((group, re.compile(pattern, re.IGNORECASE)) for group, pattern in _GROUPS)
# Where the host stands still until the device has come so far.
_WAITS = re.compile(r"(cuda|cu|hip)(Stream|Event|Device|Ctx)Synchronize|(cuda|hip)Memcpy$")
# A CPU has nothing to wait for; a value taken out of a tensor would be such a wait on a GPU.
_VALUE_TAKEN = "aten::_local_scalar_dense"


def group_of(name: str) -> Group:
    """What a kernel or operator of this name is for."""
    return next((group for group, pattern in _COMPILED if pattern.search(name)), Group.REST)


def step_values(trace: Trace) -> dict[str, float]:
    """Figures of a pass by metric name; empty where no two passes of one kind follow one another.

    Of decoding, a pass lasts until the next one begins, with everything that the host does in between. A prefill pass
    lasts as long as its range: what follows is the wait for the next prompt.
    """
    spans = list(_spans(trace))
    if not spans:
        return {}
    counts = _counts(trace, spans)
    values = {f"step_{name}": float(most_common(of_each)) for name, of_each in counts.items()}
    times = _group_times(trace, spans)
    total = sum(times.values())
    if total:
        values |= {f"step_{group}_share": times[group] / total for group in Group}
    if trace.decoding:
        values |= _waits(trace, spans)
    return values


def most_common(counts: Sequence[int]) -> int:
    """The count that most passes have; the smaller of two that as many have."""
    found = Counter(counts)
    return min(found, key=lambda count: (-found[count], count))


def _spans(trace: Trace) -> Iterator[Span]:
    """From when to when each pass that counts lasts."""
    passes = trace.passes[len(trace.passes) // SETTLING :]
    if not trace.decoding:
        yield from ((one.begin, one.end) for one in passes if one.mode != "DECODE")
        return
    whole = Counter(one.name for one in passes).most_common(1)[0][0] if passes else ""
    for one, following in pairwise(passes):
        if one.name == following.name == whole:
            yield one.begin, following.begin


def _counts(trace: Trace, spans: Sequence[Span]) -> dict[str, list[int]]:
    """Calls in each pass: operators, kernels, and waits of the host for the device."""
    mine = trace.threads[trace.scheduler]
    operators = [one.begin for one in mine if one.part is Part.OPERATOR]
    waits = [one.begin for one in mine if _waits_for_device(one, trace)]
    return {
        "operators": _numbers(operators, spans),
        "kernels": _numbers([begin for begin, _ in _launched(trace)], spans),
        "syncs": _numbers(waits, spans),
    }


def _waits_for_device(event: Event, trace: Trace) -> bool:
    if trace.device:
        return event.part is Part.RUNTIME and _WAITS.match(event.name) is not None
    return event.name == _VALUE_TAKEN


def _launched(trace: Trace) -> Iterator[tuple[float, Event]]:
    """Each kernel with when it was launched; with when it began, where the trace does not say."""
    begins = {
        one.correlation: one.begin
        for events in trace.threads.values()
        for one in events
        if one.part is Part.RUNTIME and one.correlation is not None
    }
    for kernel in trace.device:
        known = None if kernel.correlation is None else begins.get(kernel.correlation)
        yield kernel.begin if known is None else known, kernel


def _numbers(begins: Sequence[float], spans: Sequence[Span]) -> list[int]:
    return [sum(begin <= one < end for one in begins) for begin, end in spans]


def _group_times(trace: Trace, spans: Sequence[Span]) -> dict[Group, float]:
    """Microseconds of each group over all passes: of kernels on the device, on a CPU of operators in a pass's range."""
    times: defaultdict[Group, float] = defaultdict(float)
    if trace.device:
        for begin, kernel in _launched(trace):
            if _inside(begin, spans):
                times[group_of(kernel.name)] += kernel.end - kernel.begin
        return times
    for event, group in _grouped(trace):
        if _inside(event.begin, spans):
            times[group] += event.own
    return times


def _grouped(trace: Trace) -> Iterator[tuple[Event, Group]]:
    """Operators below a pass's range, each with its group: its own, or that of what called it."""
    enclosing: list[tuple[float, Group | None]] = []
    for event in sorted(trace.threads[trace.scheduler], key=lambda event: (event.begin, -event.end)):
        while enclosing and enclosing[-1][0] <= event.begin:
            enclosing.pop()
        above = enclosing[-1][1] if enclosing else None
        if event.mode is not None:
            above = Group.REST
        elif above is Group.REST and event.part is Part.OPERATOR:
            above = group_of(event.name)
        enclosing.append((event.end, above))
        if above is not None and event.part is Part.OPERATOR:
            yield event, above


def _inside(time: float, spans: Sequence[Span]) -> bool:
    return any(begin <= time < end for begin, end in spans)


def _waits(trace: Trace, spans: Sequence[Span]) -> dict[str, float]:
    """How long the device waits for the host in a step, and how much of the host's work the device hides.

    On a CPU the device is the processor while it runs a pass's operators, so nothing can be hidden behind it.
    """
    mine = trace.threads[trace.scheduler]
    if trace.device:
        computing = merged((one.begin, one.end) for one in trace.device)
        waiting = merged((one.begin, one.end) for one in mine if _waits_for_device(one, trace))
    else:
        computing = merged((one.begin, one.end) for one, _ in _grouped(trace))
        waiting = computing
    steps = merged(spans)
    computed = common(steps, computing)
    wall, busy = length(steps), length(computed)
    host = wall - length(common(steps, waiting))
    hidden = busy - length(common(computed, waiting))
    values = {
        "step_time": wall / len(spans) / 1e6,
        "step_host_time": host / len(spans) / 1e6,
        "device_wait_share": 1 - busy / wall,
    }
    return values | ({"hidden_host_share": hidden / host} if host else {})


def merged(spans: Iterator[Span] | Sequence[Span]) -> list[Span]:
    """The same time as spans in order, of which no two touch."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif begin < end:
            found.append((begin, end))
    return found


def length(spans: Sequence[Span]) -> float:
    """Time that merged spans cover."""
    return sum(end - begin for begin, end in spans)


def common(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What two lists of merged spans both cover."""
    found, i, j = [], 0, 0
    while i < len(some) and j < len(others):
        begin, end = max(some[i][0], others[j][0]), min(some[i][1], others[j][1])
        if begin < end:
            found.append((begin, end))
        if some[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return found
