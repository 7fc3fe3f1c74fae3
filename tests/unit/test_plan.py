"""The plan is everything that the tests ask for, each thing once, refused early where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import SHAPE, TINY, ask, server

from sglperf.errors import UsageError
from sglperf.plan import Ask, Plan, check_ask, make_plan
from sglperf.workload.prefixes import ColdWarm
from sglperf.workload.shapes import Decode, Prefill, Repeat, TreeGrowth

OTHER = server("triton", page=1)


def plan(*asks: Ask) -> Plan:
    return make_plan(asks, launches=3, rounds=6, warmup_rounds=1, seed=5)


# Names


def test_a_case_is_named_by_what_it_measures():
    """Model, server, workload and metric, in this order."""
    one = ask("cached_tokens", config=server(tp_set=(2, 3)), workload=Repeat(300))

    assert one.point == "tiny/torch_native-page16-tp2.3/repeat-p300"
    assert one.name == f"{one.point}/cached_tokens"
    assert one.place == ("torch_native-page16-tp2.3", "decode")


@pytest.mark.parametrize(
    "other",
    [
        ask("decode_throughput"),
        ask(config=OTHER),
        ask(config=server(tp_set=(0, 1))),
        ask(config=server(tp_set=(1,))),
        ask(config=server(model=replace(TINY, name="other"))),
        ask(workload=replace(SHAPE, streams=2)),
    ],
)
def test_names_are_as_different_as_the_cases(other):
    """Metric, backend, page, GPU set, model and workload each tell two cases apart."""
    assert other.name != ask().name


# Plans


def test_a_case_asked_for_twice_is_measured_and_judged_once():
    """Two tests that expect the same metric share one case; the first one's place in the order is kept."""
    made = plan(ask(), ask("decode_throughput"), ask())

    assert [one.metric for one in made.asks] == ["inter_token_latency", "decode_throughput"]
    assert made.family_size == 2


def test_the_family_is_the_timings_that_carry_a_verdict():
    """Counts need no error rate, and a figure that is only shown is not judged."""
    metrics = ("inter_token_latency", "inter_token_latency_slope", "cached_tokens", "time_to_first_token")

    assert plan(*map(ask, metrics)).family_size == 2
    assert plan().family_size == 0


def test_servers_are_started_per_config_and_never_per_test():
    """Configs come once each, in the order of first use."""
    made = plan(ask(), ask(config=OTHER), ask("decode_throughput"), ask(workload=Repeat(9)))

    assert made.configs == (server(), OTHER)


def test_each_server_gets_the_workloads_asked_of_it():
    """A workload is sent once per round however many metrics it serves, and only where it was asked for."""
    made = plan(
        ask(), ask("decode_throughput"), ask(workload=Repeat(9)), ask(config=OTHER, workload=Repeat(9))
    )

    assert [load.workload for load in made.loads(server())] == [SHAPE, Repeat(9)]
    assert [load.workload for load in made.loads(OTHER)] == [Repeat(9)]
    assert made.loads(server("flashinfer")) == ()


def test_a_load_is_the_shape_with_the_runs_seed_and_the_models_vocabulary():
    """Seed and vocabulary, and nothing of the server, decide what is sent."""
    (load,) = plan(ask()).loads(server())
    (other,) = plan(ask(config=OTHER)).loads(OTHER)
    (seeded,) = replace(plan(ask()), seed=6).loads(server())

    assert load.round == SHAPE.plan(seed=5, vocab_size=TINY.vocab_size)
    assert load.hash == other.hash != seeded.hash


# What no server could do


def test_what_fits_is_accepted():
    """The longest sequence, the last stream and the last page that fit are no error."""
    check_ask(ask(workload=Decode(1, 1000, 24)))
    check_ask(ask(workload=Decode(16, 200, 24)))
    check_ask(ask(workload=Decode(4, 960, 32)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            ask("inter_token_latncy"),
            r"unknown metric 'inter_token_latncy': the suite knows time_to_first_token, ",
        ),
        (
            ask(workload=Decode(1, 1000, 25)),
            r"decode-p1000-n25-s1 needs 1025 tokens, tiny takes 1024: shorten the workload .* another --model",
        ),
        (ask(workload=Prefill(1024, 1)), r"prefill-p1024-r1 needs 1025 tokens, tiny takes 1024: shorten"),
        (ask(workload=Repeat(1024)), r"repeat-p1024 needs 1025 tokens, tiny takes 1024: shorten"),
        (
            ask(workload=Decode(17, 8, 8)),
            r"runs 17 streams, the server is limited to 16: raise max_running_requests",
        ),
        (
            ask(workload=Decode(4, 960, 33)),
            r"needs 4100 tokens of KV cache, the pool is pinned at 4096: raise max_total_tokens in the profile",
        ),
        (ask(config=server(page=2048)), r"needs 4132 tokens of KV cache, the pool is pinned at 4096"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_next_action(wrong, message):
    """Culprit, need, limit and remedy, before anything starts."""
    with pytest.raises(UsageError, match=message):
        check_ask(wrong)


def test_a_load_is_timed_where_a_timing_is_judged_on_it():
    """Counts alone, or a figure without a verdict, do not make a load worth repeating for its timings."""

    def timed(*metrics: str) -> bool:
        plan = make_plan(map(ask, metrics), launches=1, rounds=1, warmup_rounds=0, seed=0)
        (load,) = plan.loads(plan.configs[0])
        return load.timed

    assert timed("cached_tokens", "inter_token_latency")
    assert not timed("cached_tokens", "inter_token_latency_slope")


# What is only counted


def test_a_count_needs_one_launch_and_one_round():
    """A count has no noise: a config on which nothing is timed starts once, one with a timing as often as asked."""
    made = plan(ask("cached_tokens", config=OTHER), ask("cached_tokens"), ask())

    assert (made.launches_of(OTHER), made.launches_of(server())) == (1, 3)
    assert made.starts == 4
    assert (made.rounds_of(made.loads(OTHER)), made.rounds_of(made.loads(server()))) == (1, 6)


def test_workers_have_an_identity_of_their_own():
    """What a worker measures is no round of requests; it is identified by its label and seed."""
    one = ask("prefix_match_time", workload=TreeGrowth(1000))

    assert plan(one).loads(server())[0].hash == "tree-growth-1000-seed5"


def test_what_the_model_says_needs_no_baseline():
    """Cached and evicted tokens of a prefix workload are predicted; its timings, and other workloads' counts, are not."""
    assert ask("cached_tokens", workload=ColdWarm()).predicted
    assert ask("evicted_tokens", workload=ColdWarm()).predicted
    assert not ask("prompt_tokens", workload=ColdWarm()).predicted
    assert not ask("cached_tokens").predicted
