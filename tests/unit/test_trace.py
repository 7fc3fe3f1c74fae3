"""A trace becomes rows whose own times add up, and two builds' rows stand side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.trace import Profile, Row, compare_profiles
from sglperf.core.trace import profile_of as profile_of_trace
from sglperf.core.trace_events import Part, read_trace

Event = dict[str, Any]


def profile_of(events: list[Event]) -> Profile | None:
    trace = read_trace(events)
    return None if trace is None else profile_of_trace(trace)


def event(name: str, begin: float, length: float, cat: str = "cpu_op", tid: int = 1) -> Event:
    return {"ph": "X", "cat": cat, "name": name, "pid": 7, "tid": tid, "ts": begin, "dur": length}


def step(begin: float, length: float, mode: str = "DECODE") -> Event:
    return event(f"step[{mode} bs=8]", begin, length, "user_annotation")


def own(profile: Profile | None) -> dict[str, tuple[float, float]]:
    assert profile is not None
    return {name: (row.calls, round(sum(row.seconds) * 1e6, 3)) for (_, name), row in profile.rows.items()}


def test_each_event_is_booked_with_its_own_time():
    """What a callee takes is not its caller's; what nothing covers is the loop's."""
    found = profile_of(
        [
            step(0, 100),
            event("aten::to", 10, 50),
            event("aten::copy_", 20, 30),
            event("aten::mm", 70, 20),
            step(120, 80),
        ]
    )
    assert own(found) == {
        "step[DECODE]": (1, 110.0),
        "aten::to": (0.5, 20.0),
        "aten::copy_": (0.5, 30.0),
        "aten::mm": (0.5, 20.0),
        "scheduler loop": (1, 20.0),
    }
    assert found is not None
    assert (found.phase, found.steps, found.seconds) == ("decode", (2,), (pytest.approx(200e-6),))


def test_calls_are_those_of_most_steps():
    """What comes with the profiler's start, or with a new page now and then, is no part of a step."""
    extra = {0: 18, 15: 3}
    events: list[Event] = []
    for number in range(16):
        events.append(step(100 * number, 90))
        copies = 5 + extra.get(number, 0)
        events += [event("aten::copy_", 100 * number + 2 * index, 1) for index in range(copies)]
    assert own(profile_of(events))["aten::copy_"][0] == 5


def test_what_is_no_operation_is_left_out():
    """Flows, names of threads, and the profiler's own ranges are no part of a step."""
    found = profile_of(
        [
            {"ph": "M", "name": "process_name", "pid": 7},
            {"ph": "s", "cat": "ac2g", "name": "ac2g", "ts": 1},
            event("PyTorch Profiler (0)", -1000, 5000, "Trace", tid=9),
            event("Iteration Start: PyTorch Profiler", -1000, 1, "user_annotation"),
            step(0, 10, "EXTEND"),
        ]
    )
    assert found is not None
    assert (found.phase, found.seconds) == ("prefill", (pytest.approx(10e-6),))
    assert set(own(found)) == {"step[EXTEND]", "scheduler loop"}


def test_a_trace_without_a_pass_says_nothing():
    """No forward pass, no step to divide by."""
    assert profile_of([event("aten::mm", 0, 1)]) is None
    assert profile_of([]) is None


def test_kernels_are_counted_on_the_device():
    """A kernel runs beside the host: it takes no time from the operator that launched it."""
    found = profile_of(
        [
            step(0, 100),
            event("aten::mm", 10, 20),
            event("sgemm_128", 25, 60, "kernel", tid=77),
            event("beside_it", 30, 10, "kernel", tid=77),
            event("Memcpy DtoD", 85, 5, "gpu_memcpy", tid=77),
            event("cudaLaunchKernel", 12, 5, "cuda_runtime"),
        ]
    )
    assert own(found)["aten::mm"] == (1, 15.0)
    assert own(found)["sgemm_128"] == (1, 60.0)
    assert found is not None
    assert found.rows[Part.KERNEL, "Memcpy DtoD"] == Row(1, (pytest.approx(5e-6),))


@st.composite
def nested(draw: st.DrawFn) -> list[Event]:
    """One thread's events, as calls nest."""

    def calls(begin: int, end: int, depth: int) -> Iterator[Event]:
        edges = sorted(draw(st.lists(st.integers(begin, end), max_size=4, unique=True)))
        for left, right in zip(edges[::2], edges[1::2], strict=False):
            yield event(draw(st.sampled_from(["a", "b", "c"])), left, right - left)
            if depth:
                yield from calls(left, right, depth - 1)

    return [step(0, 1000), *calls(0, 1000, 3)]


@given(nested())
def test_rows_add_up_to_the_wall_time(events):
    """However calls nest, nothing is counted twice and nothing is lost."""
    found = profile_of(events)
    assert found is not None
    assert sum(sum(row.seconds) for row in found.rows.values()) == pytest.approx(sum(found.seconds))
    assert sum(row.calls for row in found.rows.values()) == len(events) + 1


def test_a_trace_of_decoding_is_cut_where_the_scheduler_turns_to_a_step():
    """What encloses a step stays with it, what comes between two stays with the first, and nothing is lost."""
    events: list[Event] = []
    for number in range(10):
        begin, slow = 100 * number, 10 if number < 2 else 0
        events += [
            event("scheduler.run_batch", begin + 10, 70 + slow, "user_annotation"),
            step(begin + 20, 50 + slow),
            event("aten::mm", begin + 30, 30 + slow),
            event("scheduler.recv_requests", begin + 90, 5, "user_annotation"),
        ]
    found = profile_of(events)
    assert found is not None
    assert found.steps == (2,) * 5
    assert found.seconds == pytest.approx((200e-6, 200e-6, 200e-6, 200e-6, 185e-6))
    assert found.rows[Part.OPERATOR, "aten::mm"].seconds == pytest.approx((80e-6, 60e-6, 60e-6, 60e-6, 60e-6))
    assert found.rows[Part.STAGE, "scheduler.run_batch"].seconds == pytest.approx((40e-6,) * 5)
    for number in range(5):
        assert sum(row.seconds[number] for row in found.rows.values()) == pytest.approx(found.seconds[number])
    (same,) = compare_profiles([found], [found])
    assert next(change for change in same.changes if change.name == "aten::mm").seconds == pytest.approx(
        (30e-6, 30e-6)
    )


def test_steps_without_a_gap_are_cut_between_them():
    """A step that begins where the one before ends is not a part of it."""
    found = profile_of([step(100 * number, 100) for number in range(10)])
    assert found is not None
    assert found.steps == (2,) * 5
    assert found.seconds == pytest.approx((200e-6,) * 5)


@pytest.mark.parametrize("odd", [(0, 1), (9,)], ids=["settles", "ends"])
def test_segments_in_which_the_profiler_works_do_not_count(odd):
    """It settles in the first and ends within the last batch: neither moves the median or hides a clear difference."""

    def trace(work: float, rest: float) -> Profile:
        lengths = [work if number in odd else rest for number in range(10)]
        begins = [sum(lengths[:number]) for number in range(10)]
        found = profile_of([step(*one) for one in zip(begins, lengths, strict=True)])
        assert found is not None
        return found

    (found,) = compare_profiles([trace(900, 100)], [trace(900, 200)])
    assert found.steps == pytest.approx((100e-6, 200e-6))
    assert next(change for change in found.changes if change.name == "step[DECODE]").clear


def test_a_trace_of_prefill_is_not_cut():
    """Its passes are of different sizes."""
    found = profile_of([step(100 * number, 50, "EXTEND") for number in range(20)])
    assert found is not None
    assert found.steps == (20,)


# Two builds


def profile(
    copies: int, seconds: float, steps: int = 10, phase: str = "decode", copy: float = 1e-4
) -> Profile:
    rows = {
        (Part.OPERATOR, "aten::copy_"): Row(copies, (copies * steps * copy,)),
        (Part.OPERATOR, "aten::mm"): Row(20, (seconds - copies * steps * copy,)),
    }
    return Profile(phase, (steps,), (seconds,), rows)


def test_calls_and_times_are_for_a_step():
    """Traces of different lengths compare, and a call more in every step is seen."""
    base = [profile(33, 0.1), profile(33, 0.11)]
    head = [profile(37, 0.3, steps=20), profile(37, 0.28, steps=20)]
    (found,) = compare_profiles(base, head)
    copy = next(change for change in found.changes if change.name == "aten::copy_")

    assert copy.calls == (33, 37)
    assert copy.recounted
    assert copy.clear
    assert copy.added == pytest.approx(4e-4)
    assert found.steps == (pytest.approx(0.0105), pytest.approx(0.0145))
    assert not next(change for change in found.changes if change.name == "aten::mm").recounted


def test_a_row_that_varies_by_itself_is_not_clear():
    """One trace of the head that is faster than one of the base, and the difference may be noise."""
    base, head = [profile(1, 0.1), profile(1, 0.3)], [profile(1, 0.2), profile(1, 0.4)]
    (found,) = compare_profiles(base, head)
    assert not any(change.clear for change in found.changes)


def test_calls_that_traces_disagree_on_are_no_fact():
    """A count that differs between traces of one build says nothing of the other."""
    (found,) = compare_profiles([profile(3, 0.1), profile(5, 0.1)], [profile(9, 0.1), profile(9, 0.1)])
    copy = next(change for change in found.changes if change.name == "aten::copy_")
    assert copy.calls == (None, 9)
    assert not copy.recounted


def test_only_phases_that_both_have_are_compared():
    """A side without a trace of a phase leaves nothing to compare in it."""
    base = [profile(1, 0.1), profile(1, 0.1, phase="prefill")]
    assert [one.phase for one in compare_profiles(base, [profile(1, 0.1)])] == ["decode"]
    assert list(compare_profiles(base, [])) == []
