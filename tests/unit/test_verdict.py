"""Promises of the verdicts on a family of metrics."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglperf.core.design import Design, launches_missing
from sglperf.core.metric import Better, Kind, Metric
from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family

LATENCY = Metric("latency", "s", Better.LOWER, Kind.TIMING, "a time")
THROUGHPUT = Metric("throughput", "tok/s", Better.HIGHER, Kind.TIMING, "a rate")
PACE = Metric("pace", "s", Better.SAME, Kind.TIMING, "a time that says what was done")
CACHED = Metric("cached_tokens", "tok", Better.HIGHER, Kind.EXACT, "a count")
PASSES = Metric("forward_passes", "1", Better.LOWER, Kind.EXACT, "a count")
PROMPT = Metric("prompt_tokens", "tok", Better.SAME, Kind.EXACT, "a count")
POLICY = Policy()
STEADY = [[1.00, 1.01], [1.01, 1.00], [0.99, 1.00], [1.00, 1.00]]


def one(base, head, metric=LATENCY, policy=POLICY, **case) -> Verdict:
    return judge_family({"it": Case(base, head, metric, **case)}, policy)["it"]


def family(seed: int, launches: tuple[int, int], factors: list[float], spread: float, paired: bool = False):
    """Metrics that share half of their launch noise, head multiplied by ``factors``."""
    random = np.random.default_rng(seed)

    def side(count: int) -> np.ndarray:
        common = random.standard_normal(count)
        own = random.standard_normal((len(factors), count))
        centres = spread * math.sqrt(0.5) * (common + own)
        return np.exp(centres[:, :, None] + spread / 3 * random.standard_normal((len(factors), count, 5)))

    base, head = side(launches[0]), side(launches[1]) * np.array(factors)[:, None, None]
    return {
        f"m{i}": Case(base[i].tolist(), head[i].tolist(), LATENCY, paired=paired) for i in range(len(factors))
    }


def statuses(verdicts: dict[str, Verdict]) -> list[Status]:
    return [verdict.status for verdict in verdicts.values()]


# Timings


def test_a_clear_slowdown_is_regressed():
    """Ten per cent on launches that repeat within one per cent is a regression, and the sentence says so."""
    verdict = one(STEADY, [[v * 1.1 for v in rounds] for rounds in STEADY])

    assert (verdict.status, verdict.code) == (Status.REGRESSED, "significant-worse")
    assert verdict.sentence.startswith("10.0% worse: ×1.100, 95 % interval [1.0")


def test_direction_belongs_to_the_metric():
    """The same rise is a regression of a latency and an improvement of a throughput."""
    risen = [[v * 1.1 for v in rounds] for rounds in STEADY]

    assert one(STEADY, risen, LATENCY).status is Status.REGRESSED
    assert one(STEADY, risen, THROUGHPUT).status is Status.IMPROVED
    assert one(risen, STEADY, THROUGHPUT).status is Status.REGRESSED
    assert one(risen, STEADY, LATENCY).status is Status.IMPROVED


def test_a_timing_that_should_stay_the_same_says_the_work_differs():
    """A shift of a metric that has no better side is no verdict on speed."""
    risen = [[v * 1.1 for v in rounds] for rounds in STEADY]

    assert one(STEADY, risen, PACE).code == "work-differs"
    assert one(STEADY, risen, PACE).status is Status.INCOMPARABLE


def test_a_real_but_irrelevant_change_is_unchanged():
    """Half a per cent, measured to a tenth, is significant and yet unchanged when 3 % matter."""
    base = [[1.0], [1.0005], [0.9995], [1.0]]
    verdict = one(base, [[v[0] * 1.005] for v in base])

    assert verdict.status is Status.UNCHANGED
    assert verdict.comparison is not None
    assert verdict.comparison.low > 1


def test_the_metrics_own_smallest_effect_overrules_the_policys():
    """The same half per cent is a regression of a metric for which 0.2 % matters."""
    base = [[1.0], [1.0005], [0.9995], [1.0]]
    strict = Metric("kernel_time", "s", Better.LOWER, Kind.TIMING, "", min_effect=0.002)

    assert one(base, [[v[0] * 1.005] for v in base], strict).status is Status.REGRESSED


def test_noise_without_a_shift_is_inconclusive_and_names_what_could_have_been_seen():
    """A wide interval around no change is no pass; the sentence holds the detectable effect."""
    noisy = [[1.0], [1.3], [0.8], [1.1]]
    verdict = one(noisy, noisy[::-1])

    assert (verdict.status, verdict.code) == (Status.INCONCLUSIVE, "too-noisy")
    assert verdict.comparison is not None
    assert f"{verdict.comparison.detectable_effect:.1%} could have been seen" in verdict.sentence


@pytest.mark.parametrize(
    ("base", "head", "paired"),
    [(1, 1, False), (1, 9, False), (2, 2, False), (3, 1, False), (2, 2, True), (1, 1, True)],
)
def test_too_few_launches_ask_for_more(base, head, paired):
    """However large the shift, fewer launches than the method allows only ask for more."""
    verdict = one(([[1.0], [1.01]] * 5)[:base], ([[9.0], [9.1]] * 5)[:head], paired=paired)

    assert (verdict.status, verdict.code) == (Status.INCONCLUSIVE, "needs-launches")


def test_a_single_launch_alarms_when_the_baseline_is_steady():
    """One new launch far outside a baseline of several steady launches is a regression."""
    assert one(STEADY, [[1.2, 1.21]]).status is Status.REGRESSED


def test_a_single_launch_asks_for_more_when_the_baseline_is_not_steady():
    """The same launch against a baseline that scatters as widely asks for further launches."""
    verdict = one([[1.0], [1.15], [0.9], [1.1]], [[1.2]])

    assert (verdict.status, verdict.code) == (Status.INCONCLUSIVE, "needs-launches")


@pytest.mark.parametrize("seed", range(20))
def test_a_large_slowdown_of_most_metrics_shows_against_three_stored_launches(seed):
    """Three launches against three, spread 6 %: each metric slowed by 1.7 is regressed."""
    factors = [1.7] * 12 + [1.0] * 3
    found = statuses(judge_family(family(seed, (3, 3), factors, 0.06), POLICY))

    assert found[:12] == [Status.REGRESSED] * 12
    assert found[12:] != [Status.REGRESSED] * 3


def test_same_build_families_stay_quiet():
    """Of 200 families of 15 metrics of one build, at most as many alarm as a 5 % rate allows (p > 0.01)."""
    alarms = sum(
        Status.REGRESSED in statuses(judge_family(family(seed, (3, 3), [1.0] * 15, 0.06), POLICY))
        for seed in range(200)
    )

    assert alarms <= 18


def test_a_partial_run_is_judged_as_strictly_as_the_planned_one():
    """Planned metrics that never arrived make a borderline metric harder to call, never easier."""
    cases = family(3, (6, 6), [1.03, 1.0, 1.0], 0.01, paired=True)
    few = judge_family(cases, Policy())["m0"].comparison
    many = judge_family(cases, Policy(family_size=200))["m0"].comparison

    assert few is not None
    assert many is not None
    assert few.p_family is not None
    assert many.p_family is not None
    assert many.p_family > 2 * few.p_family
    assert many.ratio == few.ratio


def test_other_metrics_lend_their_degrees_of_freedom():
    """Within a family the interval rests on more degrees of freedom than the launches alone give."""
    verdict = judge_family(family(1, (3, 3), [1.0] * 20, 0.03), POLICY)["m0"]

    assert verdict.comparison is not None
    assert verdict.comparison.df > 4


def test_verdicts_come_in_the_order_of_the_cases_and_only_for_judged_metrics():
    """A figure that is kept but not judged gets no verdict and no say in the family."""
    shown = Metric("shown", "s", Better.LOWER, Kind.TIMING, "", judged=False)
    cases = {
        "b": Case(STEADY, STEADY, LATENCY),
        "shown": Case(STEADY, [[math.nan]], shown),
        "a": Case([[7]], [[7]], CACHED),
        "c": Case(None, STEADY, LATENCY),
    }

    assert list(judge_family(cases, POLICY)) == ["b", "a", "c"]


def test_an_empty_family_has_no_verdicts():
    """Nothing to judge is not an error here; that nothing was measured is for the caller to see."""
    assert judge_family({}, POLICY) == {}


# Exact metrics


@pytest.mark.parametrize(
    ("metric", "base", "head", "status", "code"),
    [
        (CACHED, 512, 512, Status.UNCHANGED, "exact-equal"),
        (CACHED, 512, 511, Status.REGRESSED, "exact-worse"),
        (CACHED, 512, 0, Status.REGRESSED, "exact-worse"),
        (CACHED, 0, 16, Status.IMPROVED, "exact-better"),
        (CACHED, 0, 0, Status.UNCHANGED, "exact-equal"),
        (PASSES, 10, 11, Status.REGRESSED, "exact-worse"),
        (PASSES, 11, 10, Status.IMPROVED, "exact-better"),
        (PROMPT, 11, 10, Status.INCOMPARABLE, "work-differs"),
    ],
)
def test_any_change_of_an_exact_metric_is_a_verdict(metric, base, head, status, code):
    """Exact metrics need neither repetition nor statistics, and zero is a legitimate count."""
    verdict = one([[base]], [[head]], metric)

    assert (verdict.status, verdict.code) == (status, code)


def test_an_exact_metric_that_disagrees_with_itself_is_invalid():
    """Rounds of one side that differ break the promise of exactness, on whichever side they are."""
    assert one([[5, 5]], [[5, 6]], CACHED).code == "head-not-exact"
    assert one([[5], [6]], [[5]], CACHED).code == "base-not-exact"
    assert one(None, [[5, 6]], CACHED).status is Status.INVALID


# What is never a pass


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        ([], "no-launches"),
        ([[]], "empty-launch"),
        ([[1.0], [math.nan]], "not-finite"),
        ([[1.0], [math.inf]], "not-finite"),
        ([[1.0], [0.0]], "not-positive"),
        ([[1.0], [-1.0]], "not-positive"),
        ([[1.0], ["x"]], "not-a-number"),
    ],
)
def test_bad_samples_are_invalid_with_their_side_and_reason(samples, code):
    """Bad samples of either side yield invalid, never a pass, and never a missing baseline."""
    assert one(STEADY, samples).status is Status.INVALID
    assert one(STEADY, samples).code == f"head-{code}"
    assert one(samples, STEADY).code == f"base-{code}"
    assert one(None, samples).status is Status.INVALID


def test_a_negative_count_is_invalid():
    """Zero is a count, minus one is not."""
    assert one([[1]], [[-1]], CACHED).code == "head-not-positive"


def test_without_a_baseline_a_case_is_new():
    """Good samples without a baseline are new."""
    assert (one(None, STEADY).status, one(None, STEADY).code) == (Status.NEW, "no-baseline")


def test_mixed_units_are_invalid():
    """A baseline stored in milliseconds is not compared with seconds."""
    verdict = one(STEADY, STEADY, base_unit="ms")

    assert (verdict.status, verdict.code) == (Status.INVALID, "mixed-units")
    assert one(STEADY, STEADY, base_unit="s").status is not Status.INVALID


def test_one_broken_metric_does_not_hide_the_others():
    """An invalid case leaves the verdicts on the other cases of its family in place."""
    slower = [[v * 1.1 for v in rounds] for rounds in STEADY]
    cases = {"broken": Case(STEADY, [[math.nan]], LATENCY), "slow": Case(STEADY, slower, LATENCY)}

    assert statuses(judge_family(cases, POLICY)) == [Status.INVALID, Status.REGRESSED]


LAUNCHES = st.lists(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4), min_size=1, max_size=5)
CASES = st.dictionaries(
    st.text(max_size=3),
    st.builds(Case, LAUNCHES, LAUNCHES, st.sampled_from([LATENCY, THROUGHPUT]), st.booleans()),
    max_size=6,
)


def swapped(case: Case) -> Case:
    return Case(case.head, case.base or (), case.metric, case.paired)


def allowed(case: Case) -> bool:
    """Whether the method may alarm with this case's launches."""
    return not launches_missing(Design(len(case.base or ()), len(case.head), case.paired))


def near(one: float | None, other: float) -> bool:
    """p values are counted among drawn rotations, about other axes once the sides are swapped: 0.05 is 0.05 ± 0.03."""
    return one is not None and abs(one - other) < 0.03


# Four stored launches can judge one new launch, but one stored launch judges nothing: such a case belongs to the
# family of one order and not of the other, so the other cases' p may differ, too.
@settings(max_examples=50)
@given(CASES.map(lambda cases: {n: c for n, c in cases.items() if allowed(c) == allowed(swapped(c))}))
def test_swapping_base_and_head_swaps_the_verdicts(cases):
    """What regressed one way improved the other way, and nothing else changes."""
    opposite = {Status.REGRESSED: Status.IMPROVED, Status.IMPROVED: Status.REGRESSED}
    there = judge_family(cases, POLICY)
    back = judge_family({name: swapped(case) for name, case in cases.items()}, POLICY)

    for name, verdict in there.items():
        figures = verdict.comparison
        assert figures is not None
        if not near(figures.p_family, POLICY.alpha):
            assert back[name].status == opposite.get(verdict.status, verdict.status)


@settings(max_examples=50)
@given(CASES, st.sampled_from([1e-3, 0.5, 60.0, 1e3]))
def test_the_unit_of_a_family_does_not_matter(cases, factor):
    """Seconds or milliseconds: p and interval are the same."""
    scaled = {
        name: replace(
            case,
            base=[[v * factor for v in rounds] for rounds in case.base or ()],
            head=[[v * factor for v in rounds] for rounds in case.head],
        )
        for name, case in cases.items()
    }
    one, other = judge_family(cases, POLICY), judge_family(scaled, POLICY)

    for name in cases:
        left, right = one[name].comparison, other[name].comparison
        assert left is not None
        assert right is not None
        assert (right.low, right.high) == pytest.approx((left.low, left.high), rel=1e-6)
        assert (left.p_family is None) == (right.p_family is None)
        assert left.p_family is None or right.p_family == pytest.approx(left.p_family, abs=0.01)


@settings(max_examples=50)
@given(CASES, st.randoms(use_true_random=False))
def test_the_order_of_rounds_within_launches_does_not_matter(cases, random):
    """Shuffled rounds give the very same verdicts."""

    def shuffled(launches):
        return [random.sample(list(rounds), len(rounds)) for rounds in launches]

    other = {
        name: replace(case, base=shuffled(case.base or ()), head=shuffled(case.head))
        for name, case in cases.items()
    }

    assert judge_family(other, POLICY) == judge_family(cases, POLICY)


@settings(max_examples=50)
@given(CASES.map(lambda cases: {n: c for n, c in cases.items() if not allowed(c)}), st.floats(1.5, 1e3))
def test_fewer_launches_than_the_method_allows_never_alarm(cases, factor):
    """Whatever the values and however large the shift, too few launches call no change."""
    moved = {
        n: replace(c, head=[[v * factor for v in rounds] for rounds in c.head]) for n, c in cases.items()
    }

    assert not {Status.REGRESSED, Status.IMPROVED} & set(statuses(judge_family(moved, POLICY)))


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([(3, 3), (6, 6), (8, 3)]), st.floats(1.001, 1.2))
def test_evidence_grows_with_the_effect(seed, launches, factor):
    """A metric that is slower by more has a smaller own p, in a family as alone."""
    near = judge_family(family(seed, launches, [1.2] + [1.0] * 5, 0.01), POLICY)["m0"].comparison
    far = judge_family(family(seed, launches, [1.2 * factor] + [1.0] * 5, 0.01), POLICY)["m0"].comparison

    assert near is not None
    assert far is not None
    assert far.p_value <= near.p_value
    assert far.ratio > near.ratio


@settings(max_examples=50)
@given(CASES)
def test_every_sentence_fits_a_line(cases):
    """A verdict's sentence fits a terminal line."""
    assert all(0 < len(verdict.sentence) <= 110 for verdict in judge_family(cases, POLICY).values())
