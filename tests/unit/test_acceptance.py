"""What a run offers to the baselines is chosen by verdict and name, and differences are told apart."""

from __future__ import annotations

import pytest
from samples import FINGERPRINT, ask, stored

from sglperf.core.acceptance import accept, changes, chosen, matching, outdated
from sglperf.core.baseline import Baseline, dump_baseline, parse_baseline

KEY = (FINGERPRINT.id, "decode")
POINT = ask().point
LATENCY, FIRST, SLOPE = (
    f"{POINT}/{name}" for name in ("inter_token_latency", "time_to_first_token", "inter_token_latency_slope")
)
NEWER = "20260202-000000-1"


def offered(**changes: object) -> Baseline:
    """A later run's results: two that are judged and one figure beside them."""
    metrics = {
        "inter_token_latency": ((0.004,), (0.004,)),
        "time_to_first_token": ((0.1,), (0.1,)),
        "inter_token_latency_slope": ((1e-7,), (2e-7,)),
    }
    return stored(
        metrics, run=NEWER, versions={"sglang": "0.5.23"}, recorded="2026-02-02T00:00:00Z", **changes
    )


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        (LATENCY, True),
        ("inter_token_latency", True),
        ("inter_token_*", True),
        ("decode-p32-*", True),
        ("tiny/*", True),
        ("token", False),
        ("decode", False),
        ("INTER_TOKEN_LATENCY", False),
    ],
)
def test_a_pattern_fits_a_whole_name_or_a_part_of_it(pattern, fits):
    """A part is what stands between slashes, whole; letters count as they are written."""
    assert matching([LATENCY], [pattern]) == ((LATENCY,) if fits else ())


def test_no_pattern_fits_everything():
    assert matching([LATENCY, FIRST], []) == (LATENCY, FIRST)


def test_what_is_not_asked_for_is_new_or_better_only():
    """Neither what became worse, nor what nothing is known of, is taken by itself."""
    statuses = {LATENCY: "improved", FIRST: "regressed"}

    assert chosen({KEY: offered()}, statuses, []) == {LATENCY, SLOPE}
    assert chosen({KEY: offered()}, statuses, [], {"regressed"}) == {FIRST, SLOPE}
    assert chosen({KEY: offered()}, {LATENCY: "unchanged", FIRST: "inconclusive"}, []) == set()


def test_figures_without_a_verdict_go_with_their_workload():
    """They are never taken alone: their launches would be another day's than those of what is judged."""
    assert chosen({KEY: offered()}, {LATENCY: "new"}, ["inter_token_latency_slope"]) == set()
    assert chosen({KEY: offered()}, {LATENCY: "new"}, ["inter_token_latency"]) == {LATENCY, SLOPE}


def test_accepting_replaces_what_is_named_and_nothing_else():
    """The other metric keeps its own run and context."""
    known = stored({"inter_token_latency": ((0.005,),), "time_to_first_token": ((0.2,),)})
    after = accept({KEY: known}, {KEY: offered()}, {LATENCY})[KEY]
    case = after.cases[POINT]

    assert case.metrics["inter_token_latency"].samples == {NEWER: ((0.004,), (0.004,))}
    assert case.metrics["time_to_first_token"] == known.cases[POINT].metrics["time_to_first_token"]
    assert set(case.records) == {NEWER, "20260101-000000-1"}
    assert len(after.contexts) == 2
    assert parse_baseline(dump_baseline(after), "file", FINGERPRINT.id) == after


def test_a_file_that_nothing_is_taken_for_stays_away():
    assert accept({}, {KEY: offered()}, set()) == {}


def test_each_difference_has_its_kind():
    """Added, removed, replaced, and extended by another run; what is equal is not listed."""
    old = stored({"inter_token_latency": ((0.005,),), "time_to_first_token": ((0.2,),)})
    more = old.merged(stored({"inter_token_latency": ((0.006,),)}, run=NEWER), extend=True)
    new = accept({KEY: old}, {KEY: offered()}, {LATENCY, SLOPE})[KEY].only({LATENCY, SLOPE})

    assert [(one.name, one.kind) for one in changes({KEY: old}, {KEY: more})] == [(LATENCY, "extended")]
    found = {one.name: one for one in changes({KEY: old}, {KEY: new}, {LATENCY: "improved"})}
    assert {name: one.kind for name, one in found.items()} == {
        LATENCY: "replaced",
        FIRST: "removed",
        SLOPE: "added",
    }
    assert found[LATENCY].ratio == pytest.approx(0.8)
    assert (found[LATENCY].status, found[FIRST].ratio) == ("improved", None)
    assert changes({KEY: old}, {KEY: old}) == ()


def test_only_drops_what_others_need():
    """Records and contexts go with the last metric that names them."""
    both = accept({KEY: stored()}, {KEY: offered()}, {FIRST})[KEY]

    assert set(both.only({FIRST}).cases[POINT].records) == {NEWER}
    assert len(both.only({FIRST}).contexts) == 1
    assert both.only(set()).cases == {}
    assert both.only({LATENCY, FIRST}) == both


def test_what_was_recorded_since_is_not_outdated():
    """A metric counts by its latest acceptance."""
    both = accept({KEY: stored()}, {KEY: offered()}, {FIRST})[KEY]

    assert outdated(both, [], "2026-01-15T00:00:00Z") == {LATENCY}
    assert outdated(both, ["time_to_first_token"], "9") == {FIRST}
    assert outdated(both, [], "2025-12-31T00:00:00Z") == set()
