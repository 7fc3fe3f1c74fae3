"""Promises of early stopping: error rates over all looks, and that a decision stands."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.metric import Better, Kind, Metric
from sglperf.core.sequential import Looks, combine, open_cases
from sglperf.core.verdict import Case, Policy, Status, Verdict, judge_family

LATENCY = Metric("latency", "s", Better.LOWER, Kind.TIMING, "a time")
CACHED = Metric("cached_tokens", "tok", Better.HIGHER, Kind.EXACT, "a count")
POLICY = Policy()
STEADY = [[1.00, 1.01], [1.01, 1.00], [0.99, 1.00], [1.00, 1.00], [1.01, 1.01]]
SLOWER = [[v * 1.1 for v in rounds] for rounds in STEADY]
NOISY = [[1.0], [1.3], [0.8], [1.1], [0.9]]


def verdict(head, base=STEADY, metric=LATENCY) -> Verdict:
    return judge_family({"it": Case(base, head, metric)}, POLICY)["it"]


REGRESSED, UNCHANGED = verdict(SLOWER), verdict(STEADY)
OPEN, INVALID, NEW = verdict(NOISY), verdict([[math.nan]]), verdict(STEADY, base=None)
EXACT_SAME, EXACT_WORSE = verdict([[7]], [[7]], CACHED), verdict([[6]], [[7]], CACHED)


def family(seed: int, pairs: int, factor: float = 1.0) -> dict[str, Case]:
    """Twelve metrics that share half of their launch noise of 2 %; the first is slower by ``factor``."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((2, 12, pairs)) + random.standard_normal((2, 1, pairs))
    base, head = np.exp(0.02 * math.sqrt(0.5) * noise)[..., None]
    head[0] *= factor
    return {f"m{i}": Case(base[i].tolist(), head[i].tolist(), LATENCY, paired=True) for i in range(12)}


def look_by_look(cases: dict[str, Case], looks: Looks) -> tuple[dict[str, Verdict], int]:
    found: dict[str, Verdict] = {}
    for count in looks.counts:
        seen = {
            name: Case((case.base or ())[:count], case.head[:count], case.metric, case.paired)
            for name, case in cases.items()
        }
        found = combine(found, judge_family(seen, looks.policy(POLICY, count)))
        if not open_cases(found):
            break
    return found, count


def test_the_samples_of_this_file_are_what_they_are_called():
    """Each verdict that the tests below combine has the status that its name says."""
    assert (REGRESSED.status, UNCHANGED.status) == (Status.REGRESSED, Status.UNCHANGED)
    assert (OPEN.status, INVALID.status, NEW.status) == (Status.INCONCLUSIVE, Status.INVALID, Status.NEW)


@given(st.integers(1, 40), st.integers(0, 40))
def test_the_looks_spend_the_error_rate_once(fewest, more):
    """Whatever the range, the shares of all looks are positive and add up to one."""
    looks = Looks(fewest, fewest + more)
    shares = [looks.share(count) for count in looks.counts]

    assert min(shares) > 0
    assert math.fsum(shares) == pytest.approx(1, abs=1e-12)


def test_later_looks_spend_alike_and_the_first_for_all_launches_before_it():
    """Four to eight launches: half the rate at the first look, an eighth at each of the others."""
    looks = Looks(4, 8)

    assert [looks.share(count) for count in looks.counts] == [0.5, 0.125, 0.125, 0.125, 0.125]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_design_fixed_in_advance_is_judged_as_ever(count):
    """With fewest equal to most the only look has the whole rate, and its policy is the caller's."""
    policy = Policy(alpha=0.03, min_effect=0.01, family_size=7)

    assert Looks(count, count).policy(policy, count) == policy


def test_a_look_changes_nothing_but_the_level():
    """Smallest effect, planned size and alpha stay; the level is alpha times the share."""
    policy = Policy(alpha=0.04, min_effect=0.01, family_size=7)
    found = Looks(4, 8).policy(policy, 5)

    assert found == Policy(alpha=0.04, min_effect=0.01, family_size=7, share=0.125)
    assert found.level == pytest.approx(0.005)


def test_the_interval_at_a_look_has_the_confidence_that_the_look_may_spend():
    """An interval at a look that spends an eighth of the rate is wider, and says its confidence."""
    case = {"it": Case(STEADY, NOISY, LATENCY)}
    fixed = judge_family(case, POLICY)["it"]
    look = judge_family(case, Looks(4, 8).policy(POLICY, 5))["it"]

    assert fixed.comparison is not None
    assert look.comparison is not None
    assert look.comparison.alpha == pytest.approx(0.05 / 8)
    assert look.comparison.low < fixed.comparison.low
    assert look.comparison.high > fixed.comparison.high
    assert "99.4 % interval" in look.sentence


@pytest.mark.parametrize(("fewest", "most"), [(0, 3), (4, 3), (-1, -1)])
def test_an_impossible_range_is_refused(fewest, most):
    """Fewest below one, or above most, raises."""
    with pytest.raises(ValueError, match="need 1 ≤ fewest ≤ most"):
        Looks(fewest, most)


@pytest.mark.parametrize("count", [3, 9])
def test_a_look_that_was_not_planned_is_refused(count):
    """Judging at another count than planned raises, since its rate was never set aside."""
    with pytest.raises(ValueError, match=f"no look at {count} launches"):
        Looks(4, 8).policy(POLICY, count)


@pytest.mark.parametrize(
    ("fewest", "most", "bases", "first"),
    [
        (1, 12, [None], 4),  # 4 pairs: 70 labellings for a third of 5 %
        (6, 12, [None], 6),
        (3, 3, [None], 3),
        (1, 2, [None], 1),  # no count is enough: left as asked for
        (1, 8, [8], 3),  # 8 and 3 launches: 165 labellings for three eighths of 5 %
        (1, 1, [8], 1),
        (1, 12, [None, 8], 3),  # the first that is enough for one of the servers
        (2, 6, [1], 2),  # one stored launch is never enough
        (2, 6, [], 2),
    ],
)
def test_no_look_is_planned_where_no_alarm_could_be_trusted(fewest, most, bases, first):
    """The first look is the smallest count at which a server's launches suffice at the level it may spend."""
    assert Looks.planned(fewest, most, bases) == Looks(first, most)


@pytest.mark.parametrize("first", [REGRESSED, UNCHANGED, verdict(STEADY, SLOWER)])
@pytest.mark.parametrize("later", [REGRESSED, UNCHANGED, OPEN])
def test_the_first_decision_on_a_timing_stands(first, later):
    """Later launches, made for another case's sake, revoke nothing."""
    assert combine({"it": first}, {"it": later}) == {"it": first}


@pytest.mark.parametrize("later", [REGRESSED, UNCHANGED, OPEN, INVALID])
def test_an_open_case_takes_the_latest_look(later):
    """What was open is whatever the next look says."""
    assert combine({"it": OPEN}, {"it": later}) == {"it": later}


def test_what_needs_no_statistics_is_as_the_latest_look_saw_it():
    """An exact metric that changes in a later launch, or a gate that fails there, is not hidden."""
    assert combine({"it": EXACT_SAME}, {"it": EXACT_WORSE}) == {"it": EXACT_WORSE}
    assert combine({"it": UNCHANGED}, {"it": INVALID}) == {"it": INVALID}


def test_a_case_that_one_look_does_not_know_keeps_its_verdict():
    """Servers that stopped need not be judged again, and the order is that of first sight."""
    found = combine({"a": UNCHANGED, "b": OPEN}, {"c": NEW, "b": REGRESSED})

    assert list(found.items()) == [("a", UNCHANGED), ("b", REGRESSED), ("c", NEW)]


def test_only_an_inconclusive_case_is_open():
    """Decided, exact, new and invalid cases ask for no launch."""
    found = {"r": REGRESSED, "u": UNCHANGED, "o": OPEN, "i": INVALID, "n": NEW, "e": EXACT_WORSE}

    assert open_cases(found) == {"o"}


def test_looking_often_does_not_alarm_more_often():
    """Of 100 same-build families looked at nine times, at most as many alarm as a 5 % rate allows (p > 0.01)."""
    alarms = sum(
        any(
            verdict.status is Status.REGRESSED
            for verdict in look_by_look(family(seed, 12), Looks(4, 12))[0].values()
        )
        for seed in range(100)
    )

    assert alarms <= 11


def test_a_plain_slowdown_is_found_with_few_launches():
    """A fifth slower is regressed at the first look, and a run that shows it does not go on for that case."""
    cases = {"m0": family(1, 12, factor=1.2)["m0"]}
    found, made = look_by_look(cases, Looks(4, 12))

    assert found["m0"].status is Status.REGRESSED
    assert made < 8
