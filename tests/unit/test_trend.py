"""Steps are found where they are, creep is told from a step, and releases are what one is judged against."""

from __future__ import annotations

import random
import sys
from importlib.util import find_spec

import pytest

from sglperf.core.catalogue import METRICS
from sglperf.core.trend import (
    Build,
    Judged,
    Point,
    Step,
    creeps,
    judge_all,
    reference,
    steps,
    tell,
    worse,
)
from sglperf.core.verdict import Policy, Status, Verdict
from sglperf.errors import UsageError

needs_otava = pytest.mark.skipif(
    find_spec("otava") is None, reason="Apache Otava pins NumPy, so it is not beside SGLang: tox run -e trend"
)
LATENCY, TOKENS, THROUGHPUT = (
    METRICS[name] for name in ("inter_token_latency", "prefill_tokens", "decode_throughput")
)
OLD, NEW = Build("0.5.22"), Build("0.5.23", "a" * 40)


def noisy(factors: list[float], spread: float = 0.02, seed: int = 0) -> list[float]:
    """Latencies of 5 ms times these factors."""
    generator = random.Random(seed)
    return [0.005 * factor * generator.lognormvariate(0, spread) for factor in factors]


def night(number: int, build: Build = NEW, tag: str = "") -> Point:
    return Point(f"2026-01-{number + 1:02d}T03:00:00Z", f"run-{number}", 1.0, build, tag)


@needs_otava
@pytest.mark.parametrize("at", [8, 30, 52])
def test_a_step_is_found_at_its_night(at):
    """8 % over a spread of 2 %, early, in the middle and late, to within a night."""
    values = noisy([1.0] * at + [1.08] * (60 - at))
    (found,) = steps(LATENCY, values, 0.03)

    assert abs(found.at - at) <= 1
    assert found.ratio == pytest.approx(1.08, abs=0.02)
    assert found.p_value < 0.001


@needs_otava
def test_a_quiet_course_has_no_steps():
    """Twenty courses of 60 nights without a change: at one in four hundred, none is expected."""
    assert [steps(LATENCY, noisy([1.0] * 60, seed=seed), 0.03) for seed in range(20)] == [()] * 20


@needs_otava
def test_a_step_below_what_matters_is_not_told():
    """1 % is significant over so many nights, and nobody's concern."""
    values = noisy([1.0] * 50 + [1.01] * 50, spread=0.002)

    assert steps(LATENCY, values, 0.03) == ()
    assert len(steps(LATENCY, values, 0.005)) == 1


def test_an_exact_metric_changes_where_its_value_does():
    """No statistics: each change is one, also back and on the last night."""
    assert steps(TOKENS, [512.0, 512.0, 0.0, 512.0, 513.0], 0.03) == (
        Step(2, 512.0, 0.0, 0.0),
        Step(3, 0.0, 512.0, 0.0),
        Step(4, 512.0, 513.0, 0.0),
    )
    assert Step(2, 512.0, 0.0, 0.0).ratio is None


@pytest.mark.parametrize("values", [[], [0.005], [0.005] * 3, [0.005] * 30])
def test_what_cannot_be_split_is_not(values):
    assert steps(LATENCY, values, 0.03) == ()


@needs_otava
def test_points_without_any_spread_are_split():
    """A clock that repeats itself leaves nothing to estimate a variance from."""
    (found,) = steps(LATENCY, [0.005] * 10 + [0.006] * 10, 0.03)

    assert (found.at, found.before, found.after) == (10, pytest.approx(0.005), pytest.approx(0.006))


def test_without_otava_the_message_says_what_to_install(monkeypatch):
    """Exact metrics need none of it."""
    monkeypatch.setitem(sys.modules, "otava", None)
    with pytest.raises(UsageError, match=r"sglperf\[trend\]"):
        steps(LATENCY, noisy([1.0] * 10), 0.03)

    assert len(steps(TOKENS, [1.0, 2.0], 0.03)) == 1


def test_worse_knows_the_direction():
    assert worse(LATENCY, 1.0, 1.1)
    assert not worse(LATENCY, 1.1, 1.0)
    assert worse(THROUGHPUT, 1.1, 1.0)
    assert not worse(THROUGHPUT, 1.0, 1.1)


# Against a release


def test_the_last_release_is_all_its_tagged_runs():
    """Not an older release's, nor nights of the same build that nobody tagged."""
    older = [night(0, OLD, "release")]
    released = [night(1, NEW, "release"), night(2, NEW), night(3, NEW, "release")]

    assert reference([*older, *released, night(4)]) == (1, 3)
    assert reference([*older, night(1)]) == (0,)
    assert reference([night(0), night(1)]) == ()
    assert reference([]) == ()


def test_a_release_is_judged_against_the_one_before():
    points = [night(0, OLD, "release"), night(1), night(2, NEW, "release"), night(3, NEW, "release")]

    assert reference(points) == (0,)


def judged(factor: float) -> Verdict:
    launches = [noisy([1.0] * 5, 0.005, seed) for seed in range(10)]
    head = [[value * factor for value in launch] for launch in launches[5:]]
    return judge_all({"x": Judged(LATENCY, head, [launches[:5]])}, Policy())["x"]


def test_the_verdict_is_the_suites_own():
    """10 % is called, nothing is not."""
    assert judged(1.1).status is Status.REGRESSED
    assert judged(1.0).status is Status.UNCHANGED
    assert judged(0.9).status is Status.IMPROVED


def test_releases_in_another_number_of_launches_are_compared_as_runs():
    """From four runs of a release on, a run is the unit."""
    runs = [noisy([1.0] * 4, 0.002, seed) for seed in range(5)]
    found = judge_all({"x": Judged(LATENCY, [runs[4]], [[run] for run in runs[:4]])}, Policy())["x"]

    assert found.comparison is not None
    assert (found.comparison.n_base, found.comparison.n_head) == (4, 1)


def test_creep_is_a_change_that_no_moment_shows():
    """A step that makes up most of it, or one overnight, is not creep; small ones that add up are."""
    grown, same = judged(1.1), judged(1.0)
    half, small = Step(9, 1.0, 1.08, 1e-9), Step(9, 1.0, 1.03, 1e-9)

    assert creeps(LATENCY, grown, same, [], 3)
    assert creeps(LATENCY, grown, same, [small], 3)
    assert not creeps(LATENCY, grown, same, [half], 3)
    assert not creeps(LATENCY, grown, grown, [], 3)
    assert not creeps(LATENCY, same, same, [], 3)


def test_a_step_before_the_release_explains_nothing():
    """Nor does one for the better."""
    grown, same = judged(1.1), judged(1.0)

    assert creeps(LATENCY, grown, same, [Step(3, 1.0, 1.1, 1e-9)], 3)
    assert creeps(LATENCY, grown, same, [Step(9, 1.1, 1.0, 1e-9)], 3)


def test_a_change_point_is_told_with_both_neighbours():
    """Builds where they differ, and the range of commits where both are commits."""
    points = [night(0, OLD), night(1, NEW), night(2, Build("0.5.23", "b" * 40))]
    first = tell(LATENCY, points, Step(1, 1.0, 2.0, 0.0), ["torch 1 → 2"])
    second = tell(LATENCY, points, Step(2, 2.0, 1.0, 0.0), [])

    assert (first.builds, first.commits, first.worse) == ("0.5.22 → 0.5.23 at aaaaaaaaa", None, True)
    assert first.differences == ("torch 1 → 2",)
    assert (second.commits, second.worse) == (("a" * 40, "b" * 40), False)
