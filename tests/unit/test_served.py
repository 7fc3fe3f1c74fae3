"""What a server sustains is read from the part of a round in which it is in a steady state, found by rule."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from queues import BatchServer, poisson_queue
from samples import observed, paced, request

from sglperf.core.catalogue import METRICS
from sglperf.core.gates import Limits
from sglperf.core.served import (
    batch_series,
    first_at_mean,
    good_share,
    served,
    service_gates,
    steady_window,
    unserved_share,
)
from sglperf.core.service import Objective, Service
from sglperf.workload.plan import RoundPlan
from sglperf.workload.traffic import ClosedLoop, OpenLoop

OBJECTIVE = Objective(0.5, 0.05)
CLOSED = Service(OBJECTIVE)
OPEN = Service(OBJECTIVE, open=True)
LENGTHS = {"prompt_tokens": 48, "new_tokens": 24, "ttft_objective_ms": 500, "tpot_objective_ms": 50}
SERVER = BatchServer()


def plan_of(workload: ClosedLoop | OpenLoop, seed: int = 0) -> RoundPlan:
    return workload.filled(LENGTHS).plan(seed=seed, vocab_size=30_000)


def open_loop(requests: int, seconds: int, seed: int = 0, arrivals: str = "poisson") -> RoundPlan:
    return plan_of(OpenLoop(arrivals=arrivals, requests=requests, seconds=seconds), seed)


def codes(plan: RoundPlan, service: Service = OPEN, server: BatchServer = SERVER) -> list[str]:
    return [gate.code for gate in service_gates(server.play(plan), service, plan.due, Limits())]


# The window


def test_the_first_moment_at_the_mean_by_hand():
    """Open: none to 1 s, one to 2 s, two to 5 s: 1.4 on average, reached when the second begins."""
    starts, ends = np.array([1.0, 2.0]), np.array([5.0, 5.0])

    assert first_at_mean(starts, ends, 0.0, 5.0) == 2.0


def test_events_of_one_moment_are_one_event():
    """At 2 s one leaves as another comes, which are never two at once; two there are from 4 s on."""
    starts, ends = np.array([0.0, 2.0, 4.0]), np.array([2.0, 6.0, 6.0])

    assert first_at_mean(starts, ends, 0.0, 6.0) == 4.0


def test_a_constant_number_is_at_its_mean_from_the_beginning():
    """Whatever rounding does to the mean."""
    starts = np.array([0.1 * k for k in range(30)])

    assert first_at_mean(starts, starts + 0.1, 0.0, 3.0) == 0.0


intervals = st.lists(st.tuples(st.floats(0, 100), st.floats(1e-3, 50)), min_size=1, max_size=30)


@given(intervals)
def test_the_window_never_leaves_the_load(some):
    """It begins no earlier than the first request and no later than the last."""
    requests = [request((sent + lasts,), sent=sent) for sent, lasts in some]
    window = steady_window(requests, OPEN)

    sent = [one.sent for one in requests]
    assert min(sent) == window.since <= window.begin <= window.end == max(sent)


def test_a_queue_that_starts_empty_is_seen_in_its_steady_state():
    """M/M/1 at 0.7 from empty: what the window shows is nearer to 7/3 in the system than what the whole round shows."""
    whole, windowed = [], []
    for seed in range(200):
        queue = poisson_queue(0.7, 60, seed)
        window = steady_window(queue, OPEN)
        for begin, found in ((0.0, whole), (window.begin, windowed)):
            inside = [min(one.finished, window.end) - max(one.sent, begin) for one in queue]
            found.append(sum(max(each, 0.0) for each in inside) / (window.end - begin))

    known = 0.7 / 0.3
    assert abs(np.mean(windowed) - known) < 0.7 * abs(np.mean(whole) - known)


def test_a_closed_loop_is_seen_once_its_batch_is_full():
    """Streams that never end: the window begins with the batch full, and shows the rate of a full batch exactly."""
    requests = [
        replace(one, max_new_tokens=200) for one in plan_of(ClosedLoop(requests=40, concurrency=8)).requests
    ]
    round_ = SERVER.play(RoundPlan(tuple(requests), 8))
    window = steady_window(round_.requests, CLOSED)
    values = served(round_, CLOSED)

    assert window.begin > window.since
    assert values["batch_size"] == pytest.approx(8, rel=0.04)
    assert values["output_throughput"] == pytest.approx(SERVER.decode_rate(8), rel=0.04)
    assert values["inter_token_latency"] == pytest.approx(8 / SERVER.decode_rate(8))


@given(st.integers(0, 10**6), st.sampled_from(["poisson", "ramp"]))
def test_a_load_well_below_saturation_passes_its_gates(seed, arrivals):
    """A third of what the server can do, in any pattern: nothing is amiss with a round of eight seconds."""
    plan = open_loop(80, 8, seed, arrivals)

    assert codes(plan, Service(OBJECTIVE, open=True, stationary=arrivals != "ramp")) in ([], ["not-steady"])


def test_gates_let_most_sound_rounds_pass_and_stop_most_overloaded_ones():
    """Forty seeds at a third of saturation, and at half more than it."""
    sound = sum(not codes(open_loop(80, 8, seed)) for seed in range(40))
    slow = replace(SERVER, limit=4)  # about 14 requests a second
    overloaded = sum(bool(codes(open_loop(170, 8, seed), server=slow)) for seed in range(40))

    assert sound >= 38
    assert overloaded >= 38


def test_a_server_that_cannot_keep_up_is_called_saturated():
    """Twice as much as it can serve: the backlog is named, and no latency is read from it."""
    plan = open_loop(240, 8)
    gate = service_gates(replace(SERVER, limit=4).play(plan), OPEN, plan.due, Limits())[0]

    assert gate.code == "saturated"
    assert gate.timing_only
    assert "did not keep up" in gate.sentence


def test_a_backlog_is_counted_in_requests():
    """Three of four that came in the window were left over at its end."""
    requests = [request((at + wait,), sent=at) for at, wait in ((0, 0.5), (1, 9), (2, 9), (3, 9))]

    assert unserved_share(requests, steady_window(requests, replace(OPEN, stationary=False))) == 0.75


def test_what_never_settles_is_said():
    """A closed loop whose batch is full only near its end has no steady state to be read."""
    late = [request((8 + i / 10, 12.0), sent=8 + i / 10) for i in range(25)]
    (gate, *_) = service_gates(observed(paced(0.1, [0.01] * 900, sent=0.0), *late), CLOSED, (), Limits())

    assert gate.code == "not-steady"


def test_too_few_requests_are_said():
    """Nineteen requests are no distribution."""
    found = service_gates(observed(*[paced(0.1, [0.01], sent=0.0)] * 19), CLOSED, (), Limits())

    assert [gate.code for gate in found] == ["window-too-short"]
    assert "19 requests" in found[0].sentence


def test_a_request_that_is_sent_late_makes_another_load():
    """Half of the time to first token is allowed, and no more."""
    plan = open_loop(80, 8)
    round_ = SERVER.play(plan)
    late = [replace(round_.requests[0], sent=round_.requests[0].sent + 0.4), *round_.requests[1:]]

    assert [gate.code for gate in service_gates(observed(*late), OPEN, plan.due, Limits())] == ["sent-late"]


def test_a_closed_loop_has_nothing_to_be_late_for():
    """Its requests are sent when others are answered."""
    plan = plan_of(ClosedLoop(requests=96, concurrency=8))

    assert codes(plan, CLOSED) == []


# Figures


def test_figures_of_a_round_by_hand():
    """Four requests a second apart, three tokens each, 0.1 s to the first and 0.2 s to each of the others."""
    round_ = observed(*[paced(at + 0.1, [0.2, 0.2], sent=at, server={"queue_time": 0.01}) for at in range(4)])
    values = served(round_, replace(OPEN, stationary=False))

    assert values == pytest.approx(
        {
            "prompt_tokens": 128,
            "completion_tokens": 12,
            "cached_tokens": 0,
            "time_to_first_token": 0.1,
            "inter_token_latency": 0.2,
            "request_throughput": 3 / 3,
            "output_throughput": 9 / 3,
            "batch_size": 0.4,
            "queue_time": 0.01,
        }
    )


def test_tokens_before_and_after_the_window_do_not_count():
    """A stream alone, faster at first; a second from 4 s on, when the window begins; the last request is sent at 8 s."""
    alone = paced(0.0, [0.04] * 100 + [0.1] * 40 + [3.0] * 99, sent=0.0)
    second, last = paced(4.0, [0.1] * 45, sent=3.9), request((9.0,), sent=8.0)
    values = served(observed(alone, second, last), CLOSED)

    assert values["inter_token_latency"] == pytest.approx(0.1)
    assert values["output_throughput"] == pytest.approx(20, rel=0.03)


def test_goodput_counts_requests_that_keep_both_objectives():
    """One waits too long for its first token, one for its others, one token of one stalls: two of four are good."""
    good = paced(0.5, [0.05, 0.04], sent=0.0)
    stalls_once = paced(0.5, [0.08, 0.01], sent=0.0)
    round_ = observed(good, stalls_once, paced(0.51, [0.05], sent=0.0), paced(0.1, [0.06], sent=2.0))

    assert served(round_, replace(OPEN, stationary=False))["goodput"] == pytest.approx(2 / 2)
    assert good_share(round_, OBJECTIVE) == 0
    assert OBJECTIVE.met(request((0.5,)))  # a single token has no further ones


@pytest.mark.parametrize(("requests", "given_"), [(49, []), (50, [90]), (499, [90]), (500, [90, 99])])
def test_a_percentile_needs_five_requests_beyond_it(requests, given_):
    """Else it would be the worst request of the round by another name."""
    round_ = observed(*[request((at + 0.1, at + 0.2), sent=at) for at in np.linspace(0, 10, requests)])
    values = served(round_, replace(OPEN, stationary=False))

    found = [percent for percent in (90, 99) if f"time_to_first_token_p{percent}" in values]
    assert found == given_


def test_queueing_of_a_retracted_request_is_left_out():
    """What it means for one differs between versions of SGLang."""
    waited, retracted = {"queue_time": 0.01}, {"queue_time": -3.0}
    round_ = observed(
        paced(0.1, [0.1], sent=0.0, server=waited, retractions=0),
        paced(1.1, [0.1], sent=1.0, server=retracted, retractions=1),
    )
    values = served(round_, replace(OPEN, stationary=False))

    assert values["queue_time"] == 0.01
    assert values["retractions"] == 1


@given(st.integers(0, 10**6), st.integers(5, 60))
def test_figures_are_those_of_the_catalogue_and_can_be_judged(seed, requests):
    """Whatever is sent, names are known, values finite, and those judged positive."""
    values = served(SERVER.play(open_loop(requests, 4, seed)), OPEN)

    assert set(values) <= set(METRICS)
    assert all(math.isfinite(value) for value in values.values())
    assert all(value > 0 for name, value in values.items() if METRICS[name].judged and "tokens" not in name and name != "retractions")  # fmt: skip


def test_what_a_batch_of_eight_costs_shows_under_load_and_not_in_a_single_stream():
    """A server that is slow from a batch of eight on: the same for one stream, much slower for sixteen."""
    slow = replace(SERVER, slow_from=8, slow=0.03)
    one, many = (
        plan_of(ClosedLoop(requests=20, concurrency=1)),
        plan_of(ClosedLoop(requests=96, concurrency=16)),
    )

    assert served(slow.play(one), CLOSED) == served(SERVER.play(one), CLOSED)
    before, after = (served(each.play(many), CLOSED)["output_throughput"] for each in (SERVER, slow))
    assert after < 0.6 * before


def test_the_batch_over_time_adds_up():
    """The mean of the series is the mean number of requests that decode, from the first sent to the last."""
    round_ = SERVER.play(open_loop(60, 6))
    series = batch_series(round_)
    end, begin = (f(one.sent for one in round_.requests) for f in (max, min))
    decoding = sum(max(0.0, min(one.finished, end) - one.arrivals[0]) for one in round_.requests)

    assert len(series) == 24
    assert np.mean(series) == pytest.approx(decoding / (end - begin))
    assert batch_series(observed(request((1.0, 2.0)))) == ()
