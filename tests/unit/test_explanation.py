"""The sentence names the likeliest cause where one explains most, and says so where none does."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from sglperf.core.explanation import Explanation, compare_stages
from sglperf.core.trace import Profile, ProfileChange, Row, compare_profiles
from sglperf.core.trace_events import Part
from sglperf.report.explanation import explanation_parts


def changed(**rows: tuple[tuple[int, float], tuple[int, float]]) -> ProfileChange:
    """Two builds' decode steps; each row's calls and milliseconds in a step, before and after."""

    def side(which: int, scale: float) -> Profile:
        found = {
            (part_of(name), name): Row(row[which][0], (row[which][1] / 100 * scale,))
            for name, row in rows.items()
        }
        return Profile("decode", (10,), (sum(row.seconds[0] for row in found.values()),), found)

    base, head = ([side(which, scale) for scale in (0.99, 1.0, 1.01)] for which in (0, 1))
    (change,) = compare_profiles(base, head)
    return change


def part_of(name: str) -> Part:
    if name.startswith("cuda"):
        return Part.RUNTIME
    return Part.STAGE if name.startswith("scheduler") else Part.KERNEL if "kernel" in name else Part.OPERATOR


MM = ((20, 5.0), (20, 5.01))


def test_one_row_explains_most():
    """The row, its time, its calls and its share of the change."""
    said = Explanation("x", profiles=(changed(mm=MM, copy_=((33, 0.3), (37, 2.3))),)).sentence
    assert said == (
        "likeliest cause: operator copy_, 0.300 → 2.300 ms a step: 100% of what a decode step takes longer "
        "(5.300 → 7.310 ms while profiled); calls in a step that changed: copy_ 33 → 37"
    )


def test_no_row_explains_most():
    """Several rows that each grew a little: the largest is named as what it is."""
    rows = {f"op{number}": ((1, 1.0), (1, 1.3)) for number in range(4)}
    said = Explanation("x", profiles=(changed(**rows),)).sentence
    assert said.startswith("no single row explains most of it: the largest, operator op")
    assert "is 25% of what a decode step takes longer" in said


def test_a_wait_is_not_a_cause():
    """The host waits as long as the kernel runs: the kernel is named, however long the wait."""
    rows = {"decode_kernel": ((32, 1.0), (32, 2.0)), "cudaStreamSynchronize": ((1, 1.0), (1, 2.2))}
    said = Explanation("x", profiles=(changed(**rows),)).sentence
    assert "cudaStreamSynchronize" not in said
    assert "kernel decode_kernel, 1.000 → 2.000 ms" in said


def test_a_profile_that_does_not_show_it():
    """A change that is gone while profiled is not given a cause."""
    said = Explanation("x", profiles=(changed(mm=((20, 5.0), (20, 5.0))),)).sentence
    assert said.startswith("the profile does not show the change")


def blurred(**rows: tuple[tuple[float, float], tuple[float, float]]) -> ProfileChange:
    """Two traces a side; each row's milliseconds in a step of both, before and after."""
    sides = [
        [
            Profile(
                "decode", (10,), (sum(row[side][trace] for row in rows.values()) / 100,),
                {(Part.OPERATOR, name): Row(1, (row[side][trace] / 100,)) for name, row in rows.items()},
            )
            for trace in (0, 1)
        ]
        for side in (0, 1)
    ]  # fmt: skip
    (change,) = compare_profiles(*sides)
    return change


def test_a_row_that_overlaps_itself_is_not_a_cause():
    """The row that grew most differs as much among traces of one build: the clear one is named, with its share."""
    profile = blurred(noisy=((1.0, 5.0), (3.0, 7.0)), steady=((1.0, 1.1), (1.5, 1.6)))
    said = Explanation("x", profiles=(profile,)).sentence
    assert "the largest, operator steady, 1.050 → 1.550 ms a step, is 20%" in said
    assert "noisy" not in said


def test_a_row_that_shrank_is_not_why_it_grew():
    """Where only an unclear row grew, nothing is named."""
    profile = blurred(noisy=((1.0, 5.0), (3.0, 7.0)), steady=((1.5, 1.6), (1.0, 1.1)))
    assert Explanation("x", profiles=(profile,)).sentence.startswith("the profile does not show the change")


def test_a_change_for_the_better_has_a_cause_too():
    """What shrank is looked for where head is the faster one."""
    profiles = (changed(mm=MM, copy_=((37, 2.3), (33, 0.3))),)
    said = Explanation("x", profiles=profiles, worse=False).sentence
    assert "likeliest cause: operator copy_, 2.300 → 0.300 ms" in said
    assert "takes less" in said


def test_other_rows_may_have_shrunk():
    """A row that grew by more than the step did is more than all of it."""
    rows = {"mm": ((20, 5.0), (20, 4.0)), "copy_": ((33, 0.3), (33, 2.3))}
    said = Explanation("x", profiles=(changed(**rows),)).sentence
    assert "2.300 ms a step: more than all of what a decode step takes longer" in said


def test_where_nothing_changed_only_counts_are_said():
    """No cause is named of a change that nobody saw; a call more in each step is a fact all the same."""
    profiles = (changed(mm=MM, copy_=((33, 0.3), (37, 2.3))),)
    assert (
        Explanation("x", profiles=profiles, changed=False).sentence
        == "calls in a step that changed: copy_ 33 → 37"
    )
    assert (
        Explanation("x", profiles=(changed(mm=MM),), changed=False).sentence
        == "nothing that was looked at differs"
    )


def test_a_changed_default_is_the_first_suspect():
    """An argument that differs comes before what the profile shows."""
    said = Explanation(
        "x", arguments=("chunked_prefill_size 4096 → 128",), profiles=(changed(mm=MM),)
    ).sentence
    assert said.startswith("first suspect: server argument chunked_prefill_size 4096 → 128; ")


@pytest.mark.parametrize(
    ("explanation", "said"),
    [
        (Explanation("x", versions=("torch 2.13.0 → 2.14.1",)), "the packages differ: torch 2.13.0 → 2.14.1"),
        (Explanation("x", files=("a.py +1 −0",)), "one file differs: a.py +1 −0"),
        (Explanation("x", files=("a.py +1 −0", "b.py +1 −0")), "nothing that was looked at differs"),
        (Explanation("x"), "nothing that was looked at differs"),
    ],
)
def test_without_a_profile(explanation, said):
    """What else differs is named; where nothing does, that is said."""
    assert explanation.sentence == said


def test_another_phase_is_not_asked():
    """A longer time to the first token is not explained by a decode step."""
    said = Explanation(
        "x", profiles=(changed(mm=MM, copy_=((33, 0.3), (37, 2.3))),), phase="prefill"
    ).sentence
    assert "copy_" not in said


def test_stages_come_by_size_of_change():
    """A stage that only one side has counts from zero."""
    found = compare_stages({"run_batch": 1.0, "other": 0.2}, {"run_batch": 1.5, "idle": 0.1, "other": 0.2})
    assert [(one.name, one.seconds) for one in found] == [
        ("run_batch", (1.0, 1.5)),
        ("idle", (0.0, 0.1)),
        ("other", (0.2, 0.2)),
    ]


def test_as_a_person_reads_it():
    """Title, sentence, what differs, and a table that fits 100 columns."""
    long = "a_kernel_with_template_arguments<" + "float, " * 30 + ">"
    explanation = Explanation(
        "triton-page1-tp0",
        "decode-p64-n64-s8",
        arguments=tuple(f"argument_{number} 1 → 2" for number in range(9)),
        stages=compare_stages({"run_batch": 1.0}, {"run_batch": 1.5}),
        profiles=(changed(mm=MM, copy_=((33, 0.3), (37, 2.3)), **{long: ((1, 0.1), (1, 3.1))}),),
        notes=("a note",),
    )
    console = Console(width=100, record=True, file=StringIO())
    for part in explanation_parts(explanation):
        console.print(part)
    shown = [line.rstrip() for line in console.export_text().splitlines()]

    assert max(map(len, shown)) <= 100
    assert shown[0] == "why · triton-page1-tp0 · decode-p64-n64-s8"
    assert any("and 1 more in run.json" in line for line in shown)
    assert "scheduler, in a round: run_batch 1.000 s → 1.500 s" in shown
    assert any(re.search(r"operator copy_ +33 → 37 +300.0 µs +2.300 ms +\+2.000 ms", line) for line in shown)
    assert not any(line.startswith("operator mm") for line in shown)
