"""Gates, then equivalence, then numbers: what an earlier step settles, no later step overturns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import WORK

from sglperf.core.catalogue import METRICS
from sglperf.core.gates import Gate
from sglperf.core.judgement import Evidence, Question, by_run, judge, with_doubts
from sglperf.core.prediction import Departure
from sglperf.core.verdict import Policy, Status, Verdict

LATENCY, CACHED = METRICS["inter_token_latency"], METRICS["cached_tokens"]
POLICY = Policy()
STEADY = [[1.00, 1.01], [1.01, 1.00], [0.99, 1.00], [1.00, 1.00]]
SLOWER = [[value * 1.2 for value in launch] for launch in STEADY]
LATE = Gate("client-lag", "the client was late")
BASE = Evidence(STEADY, WORK)
HEAD = Evidence(SLOWER, WORK)


def one(head: Evidence, base: Evidence | None, metric=LATENCY, policy: Policy = POLICY) -> Verdict:
    return judge({"it": Question(metric, head, base)}, policy)["it"]


def test_equal_work_is_judged_by_its_numbers():
    """With no gate failed and the same work, a clear slowdown is a regression."""
    assert one(HEAD, BASE).status is Status.REGRESSED


@pytest.mark.parametrize(
    "base", [BASE, None, Evidence(STEADY, replace(WORK, client="2")), Evidence((), None)]
)
def test_a_failed_gate_comes_before_everything(base):
    """A head that cannot be believed is invalid, whatever there is to compare it with."""
    verdict = one(replace(HEAD, failure=LATE), base)

    assert (verdict.status, verdict.code, verdict.sentence) == (
        Status.INVALID,
        "client-lag",
        "the client was late",
    )
    assert verdict.comparison is None


def test_a_gate_that_the_base_failed_names_the_base():
    """The side whose measurement is at fault is said."""
    verdict = one(HEAD, replace(BASE, failure=LATE))

    assert (verdict.status, verdict.sentence) == (Status.INVALID, "base: the client was late")


def test_when_both_sides_failed_head_is_named():
    """One reason is enough, and head's comes first."""
    verdict = one(replace(HEAD, failure=LATE), replace(BASE, failure=Gate("server-died", "gone")))

    assert verdict.code == "client-lag"


@pytest.mark.parametrize("empty", [(), ((),), ((), ())])
def test_no_sample_is_never_a_pass(empty):
    """A side without a single value is invalid and named; a head without is so even where nothing was stored."""
    assert one(Evidence(empty, None), BASE).sentence == "no round of the head yielded inter_token_latency"
    assert one(HEAD, Evidence(empty, None)).sentence == "no round of the base yielded inter_token_latency"
    assert one(Evidence(empty, None), None).status is Status.INVALID


def test_a_count_of_zero_is_a_sample():
    """Nothing cached on either side is a fact to compare, not a missing measurement."""
    assert one(Evidence([[0.0]], WORK), Evidence([[0.0]], WORK), CACHED).status is Status.UNCHANGED


def test_other_work_forbids_the_ratio_and_is_named():
    """A slowdown measured on other work is incomparable and carries no figures."""
    verdict = one(replace(HEAD, work=replace(WORK, client="2", cached_tokens=16)), BASE)

    assert (verdict.status, verdict.code) == (Status.INCOMPARABLE, "work-differs")
    assert verdict.sentence == "not the same work: measured by another client (1 → 2); cached tokens 0 → 16"
    assert verdict.comparison is None


def test_for_a_count_only_the_workload_must_be_the_same():
    """Fewer cached tokens are what the count is there to show, and so is what another page size does to it."""
    changed = replace(
        WORK, client="2", cached_tokens=0, finish_reasons={"stop": 1}, resolved={"page_size": 1}
    )
    base = Evidence([[288.0]], replace(WORK, cached_tokens=288))

    assert one(Evidence([[0.0]], changed), base, CACHED).status is Status.REGRESSED
    other = replace(changed, workload_hash="f" * 16)
    assert (
        one(Evidence([[0.0]], other), base, CACHED).sentence
        == "not the same work: the workload itself differs"
    )


def test_a_count_that_is_off_by_one_is_seen_in_the_sentence():
    """However large the count, before and after do not look alike."""
    verdict = one(Evidence([[1_234_568.0]], WORK), Evidence([[1_234_567.0]], WORK), METRICS["prefill_tokens"])

    assert verdict.sentence.startswith("1234567 → 1234568 tok")


def test_without_a_baseline_a_case_is_new():
    """Nothing to compare with is neither a pass nor a failure."""
    assert one(HEAD, None).status is Status.NEW


def test_bad_numbers_are_invalid_and_name_their_side():
    """Samples that passed the gates and are no durations are still refused."""
    assert one(Evidence([[1.0], [float("nan")]], WORK), BASE).code == "head-not-finite"
    assert one(HEAD, Evidence([[-1.0]], WORK)).code == "base-not-positive"


def test_a_baseline_in_another_unit_is_invalid():
    """Milliseconds are not compared with seconds."""
    assert one(HEAD, replace(BASE, unit="ms")).code == "mixed-units"
    assert one(HEAD, replace(BASE, unit="s")).status is Status.REGRESSED


def test_verdicts_come_in_the_order_of_the_questions():
    """Settled and judged cases keep the plan's order, one verdict each."""
    questions = {
        "slow": Question(LATENCY, HEAD, BASE),
        "late": Question(LATENCY, replace(HEAD, failure=LATE), BASE),
        "new": Question(LATENCY, HEAD, None),
        "other": Question(LATENCY, replace(HEAD, work=replace(WORK, client="2")), BASE),
        "same": Question(CACHED, Evidence([[5.0]], WORK), Evidence([[5.0]], WORK)),
    }
    verdicts = judge(questions, POLICY)

    assert {name: verdict.status.value for name, verdict in verdicts.items()} == {
        "slow": "regressed",
        "late": "invalid",
        "new": "new",
        "other": "incomparable",
        "same": "unchanged",
    }
    assert list(verdicts) == list(questions)


def test_what_was_settled_early_still_counts_in_the_family():
    """A case lost to a gate does not make the others easier to call: the planned size is what counts."""
    borderline = {
        "it": Question(LATENCY, Evidence([[v * 1.03 for v in launch] for launch in STEADY], WORK), BASE)
    }
    lost = {"lost": Question(LATENCY, replace(HEAD, failure=LATE), BASE)}
    alone = judge(borderline, Policy(family_size=1))["it"].comparison
    planned = judge(borderline | lost, Policy(family_size=50))["it"].comparison

    assert alone is not None
    assert planned is not None
    assert planned.p_family > 2 * alone.p_family


def test_nothing_asked_is_nothing_judged():
    """An empty plan has no verdicts."""
    assert judge({}, POLICY) == {}


# Baselines of several runs


def family_of(levels, head_level, count=6):
    """A family of timings whose runs have levels of their own; ten launches a run, alike to a thousandth."""
    random = np.random.default_rng(1)

    def launches(level):
        return (level * np.exp(0.001 * random.standard_normal((10, 3)))).tolist()

    questions = {}
    for number in range(count):
        base = [launch for level in levels for launch in launches(level)]
        evidence = Evidence(base, WORK, runs=(10,) * len(levels))
        questions[str(number)] = Question(LATENCY, Evidence(launches(head_level), WORK), evidence)
    return questions


@pytest.mark.parametrize(
    ("levels", "head", "status"),
    [
        ((1.0, 1.02, 0.98, 1.01, 0.99), 1.02, Status.INCONCLUSIVE),
        ((1.0, 1.02, 0.98, 1.01, 0.99), 1.3, Status.REGRESSED),
        ((1.0,), 1.05, Status.REGRESSED),
    ],
)
def test_the_run_is_the_unit_where_the_baseline_has_several(levels, head, status):
    """Ten launches of a slower evening are one evening: what evenings differ by is learnt from the baseline's runs.

    A baseline of one run knows nothing of other evenings, so there the launches are all there is to judge by.
    """
    verdicts = judge(family_of(levels, head), Policy())

    assert {verdict.status for verdict in verdicts.values()} == {status}
    assert {verdict.comparison.n_head for verdict in verdicts.values()} == {1 if len(levels) > 1 else 10}


def test_rounds_of_a_run_stay_together():
    """Launches are put into their runs in order, however many each has."""
    assert by_run([[1.0], [2.0, 3.0], [4.0]], (2, 1)) == [[1.0, 2.0, 3.0], [4.0]]


# What a model predicts

LESS = Departure(True, "cached-less", "request 2: 272 cached, 288 predicted")
MORE = Departure(False, "cached-more", "request 2: 304 cached, 288 predicted")
CACHED = METRICS["cached_tokens"]


def predicted(head: float, model: float, departure: Departure | None = None) -> Verdict:
    question = Question(
        CACHED,
        Evidence([[head]], WORK, departure=departure),
        Evidence([[model]]),
        agreement="as the model says",
    )
    return judge({"one": question}, POLICY)["one"]


def test_a_round_as_predicted_is_unchanged():
    """Nothing but the model is needed, and the sentence says so."""
    verdict = predicted(288.0, 288.0)

    assert (verdict.status, verdict.code) == (Status.UNCHANGED, "as-predicted")
    assert verdict.sentence == "as the model says"


@pytest.mark.parametrize(
    ("departure", "head", "status"), [(LESS, 272.0, Status.REGRESSED), (MORE, 304.0, Status.IMPROVED)]
)
def test_a_departure_says_which_request(departure, head, status):
    """A round that departs is judged by its requests, with the figures beside."""
    verdict = predicted(head, 288.0, departure)

    assert (verdict.status, verdict.code, verdict.sentence) == (status, departure.code, departure.sentence)
    assert verdict.comparison is not None
    assert verdict.comparison.ratio == head / 288


def test_requests_that_cancel_out_are_seen():
    """One request less and another more leave the sum as it was, and are a regression all the same."""
    assert predicted(288.0, 288.0, LESS).status is Status.REGRESSED


def test_two_builds_that_depart_alike_do_not_differ():
    """Between two builds the model's opinion matters only where they differ in it."""
    same = Question(
        CACHED,
        Evidence([[272.0]], WORK, departure=LESS),
        Evidence([[272.0]], WORK, departure=LESS),
        paired=True,
    )
    other = Question(
        CACHED, Evidence([[272.0]], WORK, departure=LESS), Evidence([[288.0]], WORK), paired=True
    )

    verdicts = judge({"same": same, "other": other}, POLICY)

    assert verdicts["same"].code == "exact-equal"
    assert (verdicts["other"].status, verdicts["other"].code) == (Status.REGRESSED, "cached-less")


A, B, C, D, E = (
    (f"GPU-{letter * 8}-0000-0000-0000-000000000000",) for letter in "abcde"
)  # sets of one GPU each
FIVE_PERCENT = [[value * 1.05 for value in launch] for launch in STEADY]


def on_gpus(head, *base, values=FIVE_PERCENT, metric=LATENCY) -> Verdict:
    """Of launches on one set of GPUs, judged by those on others."""
    question = Question(
        metric,
        Evidence(values, WORK, gpus=frozenset(head)),
        Evidence(STEADY, WORK, gpus=frozenset(base)),
    )
    asked = {"it": question}
    return with_doubts(asked, judge(asked, POLICY))["it"]


def test_another_gpu_is_not_another_build():
    """Five percent may be the GPU's, either way; that is said, with both, and what to do."""
    worse = on_gpus({A}, B)
    assert (worse.status, worse.code) == (Status.INCONCLUSIVE, "another-gpu")
    assert "5.0% worse" in worse.sentence
    assert "but on GPU-aaaaaaaa, its baseline on GPU-bbbbbbbb: one such GPU may differ" in worse.sentence
    better = on_gpus({A}, B, C, values=[[value / 1.05 for value in launch] for launch in STEADY])
    assert (better.status, better.code) == (Status.INCONCLUSIVE, "another-gpu")
    assert "its baseline on GPU-bbbbbbbb and GPU-cccccccc" in better.sentence


@pytest.mark.parametrize(
    ("head", "base"),
    [
        ({A}, [A]),
        ({A}, [A, B]),  # this one is among them
        ({A}, [B, C, D, E]),  # enough of them to see how far GPUs differ
        (set(), [B]),  # not known, or a CPU
        ({A}, []),
        ({A}, [B, ()]),  # of one run it is not known: it may have been this one
    ],
)
def test_the_same_gpu_or_nobody_knows(head, base):
    """Nothing is doubted without a reason."""
    assert on_gpus(head, *base).status is Status.REGRESSED


def test_more_than_a_gpu_makes():
    """Twenty percent are more than one GPU differs from another, for better or worse."""
    assert on_gpus({A}, B, values=SLOWER).status is Status.REGRESSED
    faster = [[value / 1.2 for value in launch] for launch in STEADY]
    assert on_gpus({A}, B, values=faster).status is Status.IMPROVED


def test_counts_do_not_hang_on_a_gpu():
    """A count that changed is regressed wherever it was taken."""
    question = Question(
        CACHED,
        Evidence([[90.0]], WORK, gpus=frozenset({A})),
        Evidence([[100.0]], WORK, gpus=frozenset({B})),
    )
    asked = {"it": question}
    assert with_doubts(asked, judge(asked, POLICY))["it"].status is Status.REGRESSED
