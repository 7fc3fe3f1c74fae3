"""A workload is what its shape, seed and vocabulary say, on every machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.errors import ConfigError
from sglperf.workload.plan import RequestPlan, RoundPlan
from sglperf.workload.shapes import Decode, Prefill, Repeat, Workload, distinct_prompts, plan_hash

lengths = st.integers(1, 30)
shapes = st.one_of(
    st.builds(Decode, st.integers(1, 8), lengths, lengths),
    st.builds(Prefill, lengths, st.integers(1, 8)),
    st.builds(Repeat, lengths),
)
seeds = st.integers(0, 2**32)


# Open lengths


def test_open_lengths_come_from_the_profile_and_given_ones_stay():
    """None is filled, what the test says is kept, what the shape does not have is ignored."""
    defaults = {"prompt_tokens": 512, "new_tokens": 128, "streams": 99, "unknown": 1}

    assert Decode(streams=8, new_tokens=7).filled(defaults) == Decode(8, 512, 7)
    assert Prefill(requests=3).filled(defaults) == Prefill(512, 3)
    assert Repeat(300).filled({}) == Repeat(300)


def test_a_length_that_nobody_gives_is_named():
    """The message names the workload, each open length and where to give it."""
    with pytest.raises(ConfigError, match="Decode leaves prompt_tokens, new_tokens open .* workloads.decode"):
        Decode().filled({"requests": 3})


@pytest.mark.parametrize(
    ("shape", "defaults", "culprit"),
    [
        (Decode(0, 8, 8), {}, "Decode has streams = 0"),
        (Decode(-1, 8, 8), {}, "Decode has streams = -1"),
        (Decode(1, 8, 0), {}, "Decode has new_tokens = 0"),
        (Prefill(8), {"requests": 0}, "Prefill has requests = 0"),
        (Repeat(), {"prompt_tokens": -5}, "Repeat has prompt_tokens = -5"),
    ],
)
def test_a_length_below_one_is_refused(shape, defaults, culprit):
    """A round without a request, or a request without a token, is no measurement, whoever asked for it."""
    with pytest.raises(ConfigError, match=f"{culprit}: give it at least 1"):
        shape.filled(defaults)


# Plans


def test_decode_starts_all_streams_at_once():
    """As many requests as streams, each of the given lengths, all in flight together."""
    plan = Decode(3, 10, 5).plan(seed=1, vocab_size=50)

    assert plan.concurrency == 3
    assert [(len(one.input_ids), one.max_new_tokens, one.at) for one in plan.requests] == [(10, 5, 0.0)] * 3


def test_prefill_sends_one_prompt_after_another():
    """One request in flight, one token each."""
    plan = Prefill(10, 4).plan(seed=1, vocab_size=50)

    assert plan.concurrency == 1
    assert [(len(one.input_ids), one.max_new_tokens) for one in plan.requests] == [(10, 1)] * 4


def test_repeat_asks_the_same_prompt_twice():
    """The second request is the first one again, and may hit the cache."""
    first, second = Repeat(10).plan(seed=1, vocab_size=50).requests

    assert first == second
    assert Repeat.cold is False
    assert Decode.cold is Prefill.cold is True


@given(shapes, seeds)
def test_a_plan_keeps_to_its_shape(shape: Workload, seed: int):
    """No sequence is longer than the shape says, the longest is reached, and every id is in the vocabulary."""
    plan = shape.plan(seed=seed, vocab_size=64)

    assert max(len(one.input_ids) + one.max_new_tokens for one in plan.requests) == shape.longest
    assert all(0 <= token < 64 for one in plan.requests for token in one.input_ids)
    assert plan.concurrency is not None
    assert plan.concurrency >= 1


@given(shapes, shapes)
def test_labels_are_as_different_as_the_shapes(one: Workload, other: Workload):
    """A label names one shape only; it is a key of plans and baselines."""
    assert (one.label == other.label) == (one == other)
    assert one.label.startswith(one.kind)


# Prompts


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), seeds, st.integers(20, 300))
def test_no_prompt_can_hit_anothers_prefix(wanted, seed, vocab_size):
    """Prompts have the wanted lengths and differ from each other in their first token already."""
    prompts = distinct_prompts(wanted, seed=seed, vocab_size=vocab_size)

    assert [len(prompt) for prompt in prompts] == wanted
    assert len({prompt[0] for prompt in prompts}) == len(prompts)
    assert all(0 <= token < vocab_size for prompt in prompts for token in prompt)


def test_a_vocabulary_may_be_used_up_and_no_more():
    """As many prompts as tokens is possible; one more is refused with both numbers."""
    assert {prompt[0] for prompt in distinct_prompts([3] * 8, seed=0, vocab_size=8)} == set(range(8))
    with pytest.raises(ConfigError, match="9 distinct prompts .* the vocabulary has 8"):
        distinct_prompts([3] * 9, seed=0, vocab_size=8)


def test_a_prompt_without_tokens_is_refused():
    """The message names the lengths."""
    with pytest.raises(ConfigError, match=r"at least one token, got lengths \[0, 5\]"):
        distinct_prompts([5, 0], seed=0, vocab_size=8)


# Identity


def test_a_plans_identity_is_fixed_for_all_time():
    """Baselines hold these hashes: another value here makes every stored case incomparable."""
    assert plan_hash(Decode(2, 5, 3).plan(seed=0, vocab_size=100)) == "96e6e453f9d5da88"
    assert plan_hash(Repeat(4).plan(seed=7, vocab_size=32000)) == "4ce6f5b5bca8d3cd"


def test_every_process_plans_the_same():
    """Hash randomization does not reach a plan: two processes with other hash seeds agree with this one."""
    code = (
        "from sglperf.workload.shapes import *\n"
        "print(*(plan_hash(s.plan(seed=3, vocab_size=999)) for s in (Decode(4, 9, 2), Prefill(9, 4), Repeat(9))))"
    )
    here = [plan_hash(s.plan(seed=3, vocab_size=999)) for s in (Decode(4, 9, 2), Prefill(9, 4), Repeat(9))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]

    assert [process.communicate()[0].split() for process in processes] == [here, here]


PLAN = RoundPlan((RequestPlan((1, 2, 3), 4), RequestPlan((5, 6), 7)), concurrency=2)


@pytest.mark.parametrize(
    "other",
    [
        RoundPlan(PLAN.requests, concurrency=1),
        RoundPlan(PLAN.requests, concurrency=None),
        RoundPlan(PLAN.requests[::-1], concurrency=2),
        RoundPlan(PLAN.requests[:1], concurrency=2),
        RoundPlan((RequestPlan((1, 2, 4), 4), PLAN.requests[1]), concurrency=2),
        RoundPlan((RequestPlan((1, 2, 3), 5), PLAN.requests[1]), concurrency=2),
        RoundPlan((RequestPlan((1, 2, 3), 4, at=0.5), PLAN.requests[1]), concurrency=2),
        RoundPlan((RequestPlan((1, 2), 3), RequestPlan((4, 5, 6), 7)), concurrency=2),
        RoundPlan((RequestPlan((12, 3), 4), PLAN.requests[1]), concurrency=2),
    ],
)
def test_the_hash_sees_everything_that_is_sent(other):
    """An id, a length, a time, the order or the concurrency: each is part of a plan's identity."""
    assert plan_hash(other) != plan_hash(PLAN)
    assert plan_hash(RoundPlan(tuple(PLAN.requests), 2)) == plan_hash(PLAN)


@given(shapes, seeds)
def test_another_seed_is_another_workload(shape: Workload, seed: int):
    """Same seed, same plan; the next seed, other prompts of the same shape."""
    once, again, other = (shape.plan(seed=s, vocab_size=10**6) for s in (seed, seed, seed + 1))

    assert once == again
    assert plan_hash(once) == plan_hash(again) != plan_hash(other)
