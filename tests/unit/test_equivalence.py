"""Differences in work forbid a ratio; differences in context are named beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import WORK

from sglperf.core.equivalence import WORK_ARGUMENTS, Work, context_differences, work_differences

values = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=90) | st.lists(st.integers(), max_size=30)
)
contexts = st.dictionaries(st.sampled_from("abcdef"), values)


def test_the_same_work_does_not_differ():
    """Equal work has no differences, even where the reasons are listed in another order."""
    reasons = {"length": 7, "stop": 1}
    turned = dict(reversed(reasons.items()))

    assert work_differences(WORK, WORK) == ()
    assert work_differences(replace(WORK, finish_reasons=reasons), replace(WORK, finish_reasons=turned)) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workload_hash": "f" * 16}, "the workload itself differs"),
        ({"client": "2"}, "measured by another client (1 → 2)"),
        ({"finish_reasons": {"stop": 1}}, "finish reasons {'length': 1} → {'stop': 1}"),
        ({"finish_reasons": {}}, "finish reasons {'length': 1} → {}"),
        ({"cached_tokens": 16}, "cached tokens 0 → 16"),
        ({"cached_tokens": None}, "cached tokens 0 → None"),
        ({"resolved": {**WORK.resolved, "page_size": 1}}, "page_size 16 → 1"),
        ({"resolved": {"page_size": 16}}, "attention_backend torch_native → none"),
    ],
)
def test_each_difference_in_work_is_named(change, said):
    """One difference of any kind is enough, with its value before and after."""
    assert work_differences(WORK, replace(WORK, **change)) == (said,)


@pytest.mark.parametrize("name", WORK_ARGUMENTS)
def test_every_work_argument_counts(name):
    """Each resolved argument that decides what a request is forbids a ratio by itself."""
    base, head = (replace(WORK, resolved={**WORK.resolved, name: value}) for value in ("this", "that"))

    assert work_differences(base, head) == (f"{name} this → that",)


def test_an_argument_that_a_version_lacks_equals_one_that_is_not_set():
    """SGLang adds arguments; not set and not known yet are the same work."""
    known = replace(WORK, resolved={**WORK.resolved, "speculative_algorithm": None})

    assert work_differences(WORK, known) == ()


def test_other_arguments_are_context():
    """A default that drifted is a candidate cause, so it does not forbid the ratio."""
    drifted = replace(WORK, resolved={**WORK.resolved, "chunked_prefill_size": 4096})

    assert work_differences(WORK, drifted) == ()
    assert context_differences(WORK.resolved, drifted.resolved) == ("chunked_prefill_size absent → 4096",)


def test_culprits_come_first():
    """The workload and the client, which explain the rest, are named before what they lead to."""
    other = Work("f" * 16, "2", {"stop": 1}, 5, {"page_size": 1, "attention_backend": "triton"})

    assert [text.split()[0] for text in work_differences(WORK, other)] == [
        "the", "measured", "attention_backend", "page_size", "finish", "cached",
    ]  # fmt: skip


# Context


def test_context_is_sorted_and_tells_absent_from_none():
    """Entries come by name; one that is not there is absent, one that is null is none."""
    base, head = {"torch": "2.11.0", "cuda": None, "same": 1}, {"torch": "2.14.1", "aiter": None, "same": 1}

    assert context_differences(base, head) == (
        "aiter absent → none",
        "cuda none → absent",
        "torch 2.11.0 → 2.14.1",
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("a" * 40, "b", "x " + "a" * 40 + " → b"),
        ("a" * 41, "b", "x " + "a" * 39 + "… → b"),
        (list(range(30)), [*range(29), 99], "x …26, 27, 28, 29] → …26, 27, 28, 99]"),
        ("a" * 50, "a" * 51, "x …" + "a" * 12 + " → …" + "a" * 13),
    ],
)
def test_long_values_are_cut_to_where_they_differ(before, after, said):
    """A list of forty graph sizes that differ in the last is shown by its end, not by what both begin with."""
    assert context_differences({"x": before}, {"x": after}) == (said,)


@given(contexts, contexts)
def test_contexts_differ_where_and_only_where_an_entry_does(base, head):
    """No entry is missed or made up, and each fits a line."""
    expected = sorted(n for n in {*base, *head} if (n in base, base.get(n)) != (n in head, head.get(n)))
    found = context_differences(base, head)

    assert [text.split(" ", 1)[0] for text in found] == expected
    assert all(len(text) < 100 for text in found)


@given(st.text("ab", max_size=120), st.text("ab", max_size=120), st.text("ab", max_size=120))
def test_what_differs_is_shown_differently(shared, before, after):
    """However long their common part, the two values of a difference do not look alike."""
    for text in context_differences({"x": shared + before}, {"x": shared + after}):
        left, right = text.removeprefix("x ").split(" → ")
        assert left != right


@given(contexts, contexts)
def test_swapping_the_sides_turns_the_arrows(base, head):
    """What head has and base has not is, seen from the other side, what base lacks."""
    there, back = context_differences(base, head), context_differences(head, base)

    for one, other in zip(there, back, strict=True):
        name = one.split(" ", 1)[0] + " "
        before_after = one.removeprefix(name)
        after_before = other.removeprefix(name)
        assert sorted(before_after.split(" → ")) == sorted(after_before.split(" → "))
