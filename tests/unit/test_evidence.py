"""From rounds and baselines to questions, and back to a baseline: nothing is mixed up or made up on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from samples import FINGERPRINT, SHAPE, ask, measured_round, server, started, stored

from sglperf.core.baseline import Baseline, dump_baseline, parse_baseline
from sglperf.core.gates import Gate
from sglperf.core.judgement import judge
from sglperf.core.prediction import Departure
from sglperf.core.verdict import Policy, Status
from sglperf.evidence import (
    CLIENT,
    Measured,
    context_changes,
    questions,
    stored_evidence,
    to_baseline,
)
from sglperf.measurements import Launch, Measurements, Round
from sglperf.plan import Ask, make_plan
from sglperf.workload.prefixes import ColdWarm
from sglperf.workload.shapes import Repeat, TreeGrowth

ITL, TTFT, CACHED, SLOPE = map(
    ask, ("inter_token_latency", "time_to_first_token", "cached_tokens", "inter_token_latency_slope")
)
ELSEWHERE = ask(config=server("triton"))
OTHER_LOAD = ask(workload=Repeat(40))
LATE = Gate("client-lag", "the client was late", timing_only=True)
VERSIONS = {"head": {"sglang": "0.5.23"}, "base": {"sglang": "0.5.22"}}
PLACE = ITL.place


def measured(
    *rounds: Round,
    asks: Sequence[Ask] = (ITL, TTFT, CACHED),
    failures: Mapping[tuple[str, str], Gate] | None = None,
) -> Measured:
    """These rounds, of launches that came up."""
    plan = make_plan(asks, launches=3, rounds=2, warmup_rounds=1, seed=0)
    launches = {(one.side, one.config, one.launch): None for one in rounds}
    came_up = [started(index, side=side, config=config) for side, config, index in launches]
    return Measured(plan, Measurements(came_up, list(rounds), dict(failures or {})), VERSIONS)


def ran(launch: int, itl: float, index: int = 0, **changes: object) -> Round:
    values = {"inter_token_latency": itl, "time_to_first_token": round(10 * itl, 6), "cached_tokens": 0.0}
    return measured_round(launch, values, index=index, **changes)


def recorded(found: Measured, *names: str, run: str = "this-run") -> Baseline:
    chosen = set(names) or {one.name for one in found.plan.asks}
    return to_baseline(found, PLACE, chosen, FINGERPRINT, run=run, recorded="2026-01-02T03:04:05Z")


# What a side has to show


def test_rounds_are_grouped_by_launch():
    """One tuple for each launch, in order, with its rounds in order."""
    found = measured(ran(0, 0.1), ran(0, 0.2, 1), ran(1, 0.3), ran(2, 0.4), ran(2, 0.5, 1))

    assert found.evidence("head", ITL).launches == ((0.1, 0.2), (0.3,), (0.4, 0.5))
    assert found.evidence("head", TTFT).launches == ((1.0, 2.0), (3.0,), (4.0, 5.0))


def test_only_its_own_rounds_count():
    """Another side, server or workload never lends a sample."""
    found = measured(
        ran(0, 0.1),
        ran(0, 9.0, side="base"),
        ran(0, 9.0, like=ELSEWHERE),
        ran(0, 9.0, like=OTHER_LOAD),
        asks=(ITL, ELSEWHERE, OTHER_LOAD),
    )

    assert found.evidence("head", ITL).launches == ((0.1,),)
    assert found.evidence("base", ITL).launches == ((9.0,),)


def test_a_round_that_failed_a_gate_yields_no_sample():
    """Its retry does, and then nothing is held against the case."""
    found = measured(measured_round(0, {}, gates=(LATE,)), ran(0, 0.1), ran(0, 0.2, 1))

    assert found.evidence("head", ITL).launches == ((0.1, 0.2),)
    assert found.evidence("head", ITL).failure is None


def test_a_round_that_no_retry_could_save_invalidates_its_case():
    """The gate of its last try is the reason, whatever the other rounds were like."""
    worse = Gate("wrong-length", "too short")
    found = measured(
        ran(0, 0.1),
        measured_round(0, {}, index=1, gates=(worse,)),
        measured_round(0, {}, index=1, gates=(LATE, worse)),
        ran(1, 0.1),
    )

    assert found.evidence("head", ITL).failure == LATE
    assert found.evidence("base", ITL).failure is None


def test_counts_outlive_a_gate_that_spoils_only_timings():
    """A busy machine makes a latency unbelievable, and what the cache served stays what it was."""
    found = measured(measured_round(0, {"cached_tokens": 16.0}, gates=(LATE,)))

    assert found.evidence("head", ITL).failure == LATE
    assert found.evidence("head", CACHED).failure is None
    assert found.evidence("head", CACHED).launches == ((16.0,),)


def test_a_server_that_died_outranks_a_gate():
    """The cause comes before what followed from it, for every case of that server and for no other."""
    died = Gate("server-died", "gone")
    found = measured(
        measured_round(0, {}, gates=(LATE,)),
        ran(0, 0.1, like=ELSEWHERE),
        asks=(ITL, ELSEWHERE),
        failures={("head", ITL.config.label): died},
    )

    assert found.evidence("head", ITL).failure == died
    assert found.evidence("head", ELSEWHERE).failure is None


def test_a_metric_that_did_not_occur_has_no_samples():
    """Rounds without the metric are no failure; without any there are no launches and no work."""
    found = measured(measured_round(0, {"time_to_first_token": 0.1}), ran(1, 0.2))

    assert found.evidence("head", ITL).launches == ((0.2,),)
    assert found.evidence("base", ITL).launches == ()
    assert found.evidence("base", ITL).work is None


def test_work_is_what_was_sent_and_what_came_of_it():
    """Hash of the plan's load, this client, finish reasons, cached tokens and the server's arguments."""
    work = measured(ran(0, 0.1, finish_reasons={"length": 1})).evidence("head", ITL).work

    assert work is not None
    assert (
        work.workload_hash
        == make_plan([ITL], launches=1, rounds=1, warmup_rounds=0, seed=0).loads(ITL.config)[0].hash
    )
    assert (work.client, work.finish_reasons, work.cached_tokens) == (CLIENT, {"length": 1}, 0)
    assert work.resolved == {"page_size": 16, "attention_backend": "torch_native"}


def test_cached_tokens_that_nobody_counted_are_unknown():
    """Not said is not zero."""
    work = measured(measured_round(0, {"inter_token_latency": 0.1})).evidence("head", ITL).work

    assert work is not None
    assert work.cached_tokens is None


def test_pairs_stay_pairs():
    """Launch i of base meets launch i of head, even where an earlier launch lacks the metric on one side."""
    rounds = [ran(launch, 0.1 * (launch + 1), side=side) for launch in range(3) for side in ("base", "head")]
    rounds[0] = measured_round(0, {"time_to_first_token": 0.1}, side="base")
    found = measured(*rounds)
    question = questions(found, {}, paired=True)[ITL.name]

    assert question.base is not None
    assert question.base.launches == question.head.launches == ((0.2,), (pytest.approx(0.3),))


# Questions


def test_every_judged_case_is_asked_in_the_plans_order():
    """A figure that is only shown raises no question."""
    found = questions(measured(ran(0, 0.1), asks=(CACHED, SLOPE, ITL)), {}, paired=False)

    assert list(found) == [CACHED.name, ITL.name]
    assert all(question.base is None and not question.paired for question in found.values())


def test_two_targets_are_compared_with_each_other():
    """With a base side, baselines are not looked at and launches count as pairs."""
    both = measured(ran(0, 0.1), ran(0, 0.2, side="base"))
    question = questions(both, {PLACE: stored()}, paired=True)[ITL.name]

    assert question.paired
    assert question.base is not None
    assert (question.base.launches, question.head.launches) == (((0.2,),), ((0.1,),))


def test_a_stored_case_is_the_base():
    """Samples, unit and work as they were recorded."""
    baseline = stored({"inter_token_latency": ((0.3, 0.4), (0.5,))}, client="0")
    base = questions(measured(ran(0, 0.1)), {PLACE: baseline}, paired=False)[ITL.name].base

    assert base is not None
    assert (base.launches, base.unit, base.failure) == (((0.3, 0.4), (0.5,)), "s", None)
    assert base.work == baseline.work(ITL.point, "inter_token_latency")


@pytest.mark.parametrize(
    "baseline",
    [None, stored(point="elsewhere"), stored({"decode_throughput": ((1.0,),)}), stored({})],
)
def test_what_the_baseline_does_not_hold_is_no_base(baseline):
    """No file, no such point, no such metric: nothing to compare with."""
    assert stored_evidence(baseline, ITL) is None


def test_each_place_has_its_own_baseline():
    """A server's file is not read for another server's cases, nor another area's."""
    found = measured(ran(0, 0.1), ran(0, 0.1, like=ELSEWHERE), asks=(ITL, ELSEWHERE))
    asked = questions(found, {ELSEWHERE.place: stored(), ("x", "decode"): stored()}, paired=False)

    assert [question.base for question in asked.values()] == [None, None]


# Back to a baseline


def test_what_is_recorded_is_what_the_next_run_compares_with():
    """Through the file and back: equal samples, equal work, so the same build is unchanged."""
    values = (0.1, 0.1001, 0.1002)
    found = measured(
        *(ran(launch, value, index) for launch, value in enumerate(values) for index in range(2))
    )
    baseline = recorded(found)
    read_back = parse_baseline(dump_baseline(baseline), "file", FINGERPRINT.id)
    verdicts = judge(questions(found, {PLACE: read_back}, paired=False), Policy(family_size=2))

    assert read_back == baseline
    assert {verdict.status for verdict in verdicts.values()} == {Status.UNCHANGED}
    for one in found.plan.asks:
        kept, fresh = stored_evidence(read_back, one), found.evidence("head", one)
        assert kept is not None
        assert (kept.launches, kept.work) == (fresh.launches, fresh.work)


def test_only_the_named_cases_are_recorded():
    """A case that was not accepted is not in the file, nor is its context."""
    found = measured(ran(0, 0.1))

    assert set(recorded(found, ITL.name).cases[ITL.point].metrics) == {"inter_token_latency"}
    assert recorded(found, "nothing").contexts == {}
    assert recorded(found, "nothing").cases == {}


def test_only_the_place_asked_for_is_recorded():
    """Servers with another fingerprint and other areas have files of their own."""
    prefill = ask("time_to_first_token", area="prefill", workload=OTHER_LOAD.workload)
    found = measured(
        ran(0, 0.1),
        ran(0, 0.2, like=ELSEWHERE),
        ran(0, 0.3, like=prefill),
        asks=(ITL, ELSEWHERE, prefill),
    )

    assert set(recorded(found).cases) == {ITL.point}


def test_the_file_says_where_it_comes_from():
    """Machine, area, run, time, versions and resolved arguments."""
    baseline = recorded(measured(ran(0, 0.1)))
    record = baseline.cases[ITL.point].record("inter_token_latency")

    assert (baseline.fingerprint_id, baseline.area) == (FINGERPRINT.id, "decode")
    assert set(baseline.cases[ITL.point].metrics["inter_token_latency"].samples) == {"this-run"}
    assert record.recorded == "2026-01-02T03:04:05Z"
    assert baseline.contexts[record.context].versions == {"sglang": "0.5.23"}
    assert baseline.loose_ends() == []


def test_what_was_not_measured_is_not_recorded():
    """A server that never came up leaves no empty case behind."""
    assert recorded(measured(ran(0, 0.1, like=ELSEWHERE), asks=(ITL, ELSEWHERE))).cases == {}


def test_a_count_that_means_something_else_is_not_compared():
    """Whole pages of one version are no more of the other's tokens; both meanings are named."""
    prefill = ask("prefill_tokens")

    def side(name: str, value: float) -> Round:
        return measured_round(0, {"prefill_tokens": value}, side=name, like=prefill)

    found = measured(side("head", 63.0), side("base", 64.0), asks=(prefill,))
    found = replace(found, versions={"base": {"sglang": "0.5.19"}, "head": {"sglang": "0.5.20"}})
    (verdict,) = judge(questions(found, {}, paired=True), Policy()).values()
    assert verdict.status is Status.INCOMPARABLE
    assert "it counts something else (whole pages → tokens)" in verdict.sentence

    alike = replace(found, versions={"base": {"sglang": "0.5.22"}, "head": {"sglang": "0.5.23"}})
    (verdict,) = judge(questions(alike, {}, paired=True), Policy()).values()
    assert verdict.status is Status.IMPROVED


# Context


def every_change(*args: Any, **keywords: Any) -> dict[str, tuple[str, ...]]:
    """All that changed of each server, versions and arguments alike."""
    return {label: change.every for label, change in context_changes(*args, **keywords).items()}


def test_context_differs_by_server():
    """Each server's label with what differs between its base and its head; nothing where nothing does."""
    found = measured(
        ran(0, 0.1),
        ran(0, 0.1, side="base"),
        ran(0, 0.1, like=ELSEWHERE),
        ran(0, 0.1, like=ELSEWHERE, side="base"),
        asks=(ITL, ELSEWHERE),
    )
    same = replace(found, versions=dict.fromkeys(("head", "base"), VERSIONS["head"]))

    assert every_change(found, {}, paired=True) == dict.fromkeys(
        (ITL.config.label, ELSEWHERE.config.label), ("sglang 0.5.22 → 0.5.23",)
    )
    assert every_change(same, {}, paired=True) == {}


def test_context_is_compared_with_the_record_of_the_case():
    """Against a baseline the versions and arguments are those that its samples were measured with."""
    baseline = stored(
        resolved={"page_size": 16, "attention_backend": "torch_native", "chunked_prefill_size": 2048}
    )
    found = measured(ran(0, 0.1), asks=(ITL,))

    assert every_change(found, {PLACE: baseline}, paired=False) == {
        ITL.config.label: ("chunked_prefill_size 2048 → absent", "sglang 0.5.22 → 0.5.23")
    }
    assert every_change(found, {PLACE: stored(point="elsewhere")}, paired=False) == {}
    assert every_change(found, {}, paired=False) == {}


def test_a_difference_is_not_hidden_by_a_case_recorded_later():
    """Where a server's cases were accepted at different times, what changed since any of them is named."""
    older = stored({"inter_token_latency": ((0.1,),)}, run="older", versions=VERSIONS["base"])
    newer = stored({"time_to_first_token": ((1.0,),)}, run="newer", versions=VERSIONS["head"])
    found = measured(ran(0, 0.2), asks=(ITL, TTFT))

    differences = every_change(found, {PLACE: older.merged(newer)}, paired=False)
    assert differences == {ITL.config.label: ("sglang 0.5.22 → 0.5.23",)}


def test_a_shape_that_changed_is_another_point():
    """Lengths are part of a case's name, so a profile that changed them finds no base instead of a wrong one."""
    longer = ask(workload=replace(SHAPE, new_tokens=8))

    assert stored_evidence(stored(), longer) is None


# What a model predicts


def test_the_model_takes_the_place_of_a_baseline():
    """A predicted case is compared with the model, whatever a baseline holds, and carries where it departs."""
    one = ask("cached_tokens", workload=ColdWarm())
    less = Departure(True, "cached-less", "request 2: 272 cached, 288 predicted")
    round_ = measured_round(
        0,
        {"cached_tokens": 272.0},
        like=one,
        predicted={"cached_tokens": 288.0},
        departures={"cached_tokens": less},
    )
    plan = make_plan([one], launches=1, rounds=1, warmup_rounds=1, seed=0)
    found = Measured(plan, Measurements([started(0)], [round_]), {"head": {}})

    question = questions(found, {}, paired=False)[one.name]

    assert question.agreement == "every request as the cache model predicts"
    assert question.base is not None
    assert (question.base.launches, question.head.launches) == (((288.0,),), ((272.0,),))
    assert question.head.departure == less
    assert not questions(found, {}, paired=True)[one.name].agreement


def test_a_worker_has_a_context_of_its_own():
    """What a worker measured does not depend on how the server beside it was resolved."""
    one, other = ask(), ask("prefix_match_time", workload=TreeGrowth(1000))
    plan = make_plan([one, other], launches=1, rounds=1, warmup_rounds=1, seed=0)
    worker = Launch("head", server().label, 0, 8.0, "0.5.23", {}, None, "radix_tree")
    found = Measured(plan, Measurements([started(0), worker]), {"head": {"sglang": "0.5.23"}})

    assert found.context("head", one).resolved["page_size"] == 16
    assert found.context("head", other).resolved == {}
