"""Continuous load is what the workload, its seed and the profile's lengths say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import ask, server

from sglperf.core.service import Objective, Service
from sglperf.errors import ConfigError, UsageError
from sglperf.plan import check_ask, make_plan
from sglperf.profiling import full_batch
from sglperf.workload.shapes import Decode, plan_hash
from sglperf.workload.traffic import ClosedLoop, OpenLoop, Saturation, Traffic

LENGTHS = {"prompt_tokens": 16, "new_tokens": 8, "ttft_objective_ms": 300, "tpot_objective_ms": 40}
CLOSED = ClosedLoop(requests=20, concurrency=4).filled(LENGTHS)
OPEN = OpenLoop(requests=20, seconds=5).filled(LENGTHS)
SEARCH = Saturation(requests=20, concurrency=4).filled(LENGTHS)
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize(
    "workload", [CLOSED, OPEN, replace(OPEN, arrivals="bursty"), replace(OPEN, arrivals="ramp")]
)
def test_each_request_has_a_prompt_of_its_own_and_mixed_lengths(workload: Traffic):
    """As many as asked for, of different lengths, none sharing its first token with another."""
    plan = workload.plan(seed=3, vocab_size=1000)

    assert len(plan.requests) == 20
    assert len({request.input_ids[0] for request in plan.requests}) == 20
    assert len(set(plan.prompt_tokens)) > 5
    assert len({request.max_new_tokens for request in plan.requests}) > 5
    assert max(len(one.input_ids) + one.max_new_tokens for one in plan.requests) <= workload.longest == 96


def test_a_closed_loop_keeps_so_many_in_flight():
    """Concurrency is the plan's, and nothing has a time of its own."""
    plan = CLOSED.plan(seed=0, vocab_size=1000)

    assert plan.concurrency == 4
    assert plan.due == ()
    assert CLOSED.service == Service(Objective(0.3, 0.04))


@pytest.mark.parametrize(("arrivals", "stationary"), [("poisson", True), ("bursty", False), ("ramp", False)])
def test_an_open_loop_sends_each_request_at_its_time(arrivals, stationary):
    """Times ascend within the seconds given, and what is in flight does not matter."""
    workload = replace(OPEN, arrivals=arrivals)
    plan = workload.plan(seed=0, vocab_size=1000)

    assert plan.concurrency is None
    assert list(plan.due) == sorted(plan.due)
    assert plan.due[-1] <= 5
    assert workload.service == Service(Objective(0.3, 0.04), open=True, stationary=stationary)


def test_an_unknown_pattern_of_arrivals_is_refused():
    """The message names the pattern and the known ones."""
    with pytest.raises(ConfigError, match="OpenLoop has arrivals = 'regular': give poisson, bursty or ramp"):
        OpenLoop(arrivals="regular", requests=20, seconds=5).filled(LENGTHS)


@given(seeds, st.floats(0.5, 50))
def test_a_probe_is_the_same_requests_at_another_rate(seed, rate):
    """The pattern is stretched as a whole, so that probes differ in nothing but their rate."""
    round_ = SEARCH.plan(seed=seed, vocab_size=1000)
    probe, slower = (SEARCH.at_rate(round_, each, seed=seed) for each in (rate, rate / 2))

    assert [one.input_ids for one in probe.requests] == [one.input_ids for one in round_.requests]
    assert probe.concurrency is None
    assert probe.due[-1] == pytest.approx(20 / rate, rel=0.5)
    assert slower.due == pytest.approx([2 * at for at in probe.due])


@given(seeds)
def test_a_warm_up_is_the_beginning_of_the_round(seed):
    """A quarter of its requests, in the same order and at the same times."""
    plan = OPEN.plan(seed=seed, vocab_size=1000)
    warm_up = OPEN.warm_up(plan)

    assert warm_up.requests == plan.requests[:5]
    assert Decode(1, 5, 5).warm_up(plan) is plan


def test_identity_holds_how_a_round_is_read():
    """The same requests under another objective are another case: its goodput is not comparable."""
    stricter = CLOSED.filled({}).__class__(**{**vars(CLOSED), "ttft_objective_ms": 200})
    loads = [
        make_plan([ask("goodput", workload=one)], launches=1, rounds=1, warmup_rounds=0, seed=0).loads(
            server()
        )[0]
        for one in (CLOSED, stricter, CLOSED)
    ]

    assert loads[0].round == loads[1].round
    assert loads[0].hash == loads[2].hash != loads[1].hash


def test_identities_are_fixed_for_all_time():
    """Baselines hold these hashes: another value here makes every stored case incomparable."""
    hashes = [
        plan_hash(one.plan(seed=0, vocab_size=1000), one.service, one.search)
        for one in (CLOSED, OPEN, SEARCH)
    ]

    assert hashes == ["2e304ea58d235879", "1ddca7f75808ed11", "6bf6b55c76787d66"]


def test_a_trace_of_mixed_lengths_waits_for_half_of_the_batch():
    """Requests of unequal length are never all decoding for long; streams of equal length are."""
    (closed,), (equal,) = (full_batch(one).values() for one in (CLOSED, Decode(8, 5, 5)))

    assert (closed, equal) == ("2", "8")


def test_labels_are_unique():
    """Patterns, concurrency and lengths are in them."""
    patterns = [replace(OPEN, arrivals=name) for name in ("bursty", "ramp")]
    labels = [one.label for one in (CLOSED, replace(CLOSED, concurrency=5), OPEN, *patterns, SEARCH)]

    assert len(set(labels)) == len(labels)
    assert labels[0] == "closed-c4-p16-n8-r20"
    assert labels[2] == "poisson-20in5s-p16-n8"


def test_a_loop_that_the_server_cannot_hold_is_refused():
    """Its concurrency counts as streams do: it must fit the batch and the pool, so that nothing is ever retracted."""
    check_ask(ask("output_throughput", workload=CLOSED))
    with pytest.raises(UsageError, match="runs 17 streams, the server is limited to 16"):
        check_ask(ask("output_throughput", workload=replace(CLOSED, concurrency=17)))
    with pytest.raises(UsageError, match="tokens of KV cache"):
        check_ask(ask("output_throughput", workload=replace(CLOSED, concurrency=16, prompt_tokens=64)))
