"""Good, bad or unknown: a commit against what is known of the two ends."""

from __future__ import annotations

from typing import Any

import pytest

from sglperf.core.bisection import Judged, Side, Symptom, judge_alone, judge_commit, symptom


def case(
    status: str,
    ratio: float = 1.0,
    low: float | None = 0.95,
    high: float | None = 1.05,
    *,
    lower: bool = True,
    kind: str = "timing",
    seen: float = 0.1,
) -> dict[str, Any]:
    figures = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "lower_is_better": lower,
        "detectable_effect": seen,
    }
    return {
        "status": status,
        "sentence": f"said {status}",
        "comparison": figures,
        "metric": {"kind": kind},
    }


TIMING = Symptom("itl", 1.3, "")
COUNT = Symptom("cached", None, "")


def test_the_symptom_is_the_clearest_case():
    """Of two timings the one further beyond its noise; the others are kept."""
    cases = {
        "noisy": case("regressed", 1.5, seen=0.4),
        "itl": case("regressed", 1.3, seen=0.05),
        "throughput": case("unchanged"),
    }
    assert symptom(cases) == Symptom("itl", 1.3, "said regressed", ("noisy",))


def test_a_count_comes_first():
    """A count has no noise, so nothing tells two builds apart better."""
    cases = {"itl": case("regressed", 3.0), "cached": case("regressed", 0.9, kind="exact", seen=0.0)}
    found = symptom(cases)
    assert found is not None
    assert (found.case, found.effect, found.others) == ("cached", None, ("itl",))


def test_no_symptom():
    """Where nothing is worse there is nothing to look for; what could not be measured is not worse."""
    assert symptom({"a": case("improved", 0.5), "b": case("invalid"), "c": case("inconclusive", 1.4)}) is None


def test_the_effect_of_a_throughput_is_how_much_worse_it_is():
    """A throughput that fell to a half is worse by the factor two."""
    found = symptom({"throughput": case("regressed", 0.5, lower=False)})
    assert found is not None
    assert found.effect == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("found", "side"),
    [
        (case("regressed", 1.31, 1.2, 1.4), Side.BAD),
        (case("unchanged", 1.0, 0.97, 1.02), Side.GOOD),
        (case("improved", 0.8, 0.7, 0.9), Side.GOOD),
        (case("inconclusive", 1.1, 0.95, 1.25), Side.GOOD),
        (case("inconclusive", 1.1, 0.9, 1.35), Side.UNKNOWN),
        (case("inconclusive", 1.0, None, None), Side.UNKNOWN),
        (case("invalid"), Side.UNKNOWN),
        (case("incomparable"), Side.UNKNOWN),
        (case("new"), Side.UNKNOWN),
    ],
)
def test_a_commit_by_its_interval(found, side):
    """Bad where it regressed, good where the interval leaves no room for the ends' effect, else unknown."""
    assert judge_commit({"itl": found}, TIMING).side is side


def test_a_throughput_is_turned_round():
    """A throughput's interval excludes the effect at its lower end."""
    sought = Symptom("throughput", 1.5, "")
    assert (
        judge_commit({"throughput": case("inconclusive", 0.9, 0.7, 1.1, lower=False)}, sought).side
        is Side.GOOD
    )
    assert (
        judge_commit({"throughput": case("inconclusive", 0.9, 0.6, 1.1, lower=False)}, sought).side
        is Side.UNKNOWN
    )
    assert (
        judge_commit({"throughput": case("inconclusive", 0.9, None, 1.1, lower=False)}, sought).side
        is Side.UNKNOWN
    )


def test_a_count_needs_no_interval():
    """Not worse is good."""
    assert judge_commit({"cached": case("unchanged", kind="exact")}, COUNT).side is Side.GOOD
    assert judge_commit({"cached": case("regressed", kind="exact")}, COUNT).side is Side.BAD


def test_only_the_symptom_counts():
    """Another case that regressed is another commit's matter."""
    cases = {"itl": case("unchanged", 1.0), "other": case("regressed", 2.0)}
    assert judge_commit(cases, TIMING).side is Side.GOOD
    assert judge_commit({"other": case("regressed")}, TIMING) == Judged(Side.UNKNOWN, "itl was not measured")


def test_alone():
    """Without known ends: bad where anything regressed, good where everything excludes the effect asked about."""
    good, open_ = case("unchanged", 1.0, 0.98, 1.02), case("inconclusive", 1.1, 0.9, 1.3)
    count = case("unchanged", kind="exact")
    assert judge_alone({"a": good, "b": case("regressed", 1.4)}, 1.1).side is Side.BAD
    assert judge_alone({"a": good, "c": count}, 1.1) == Judged(Side.GOOD, "nothing regressed")
    assert judge_alone({"a": good, "b": open_}, 1.2).side is Side.UNKNOWN
    assert judge_alone({"a": good, "b": open_}, 1.4).side is Side.GOOD
    assert judge_alone({"a": good, "b": case("invalid")}, 1.4).side is Side.UNKNOWN
