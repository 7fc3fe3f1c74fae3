"""In which order the servers of two builds are started."""

from __future__ import annotations

from dataclasses import replace

from samples import ask, server

from sglperf.measure import schedule
from sglperf.plan import Plan, make_plan

PLAN = make_plan([ask()], launches=8, rounds=1, warmup_rounds=1, seed=0)


def order(plan: Plan) -> list[str]:
    return [
        side for launch in range(8) for _, sides in schedule(plan, ("base", "head"), launch) for side in sides
    ]


def test_pairs_are_turned_round_two_by_two() -> None:
    """Each launch has both sides, and of two launches in a row each side goes first once."""
    sides = order(PLAN)
    for begin in range(0, 16, 4):
        four = sides[begin : begin + 4]
        assert four == four[::-1]
        assert set(four[:2]) == {"base", "head"}


def test_the_order_is_drawn_by_the_seed() -> None:
    """The same seed gives the same order; over seeds either side begins about as often."""
    assert order(PLAN) == order(PLAN)
    first = [order(replace(PLAN, seed=seed))[0] for seed in range(200)]
    assert 70 < first.count("base") < 130


def test_one_build_has_no_order() -> None:
    """A single target's servers come in the plan's order; a config on which only counts are asked for comes once."""
    plan = make_plan(
        [ask(), ask("cached_tokens", config=server(page=64))], launches=3, rounds=1, warmup_rounds=1, seed=0
    )
    labels = [[config.label for config, _ in schedule(plan, ("head",), launch)] for launch in range(3)]
    assert labels == [
        ["torch_native-page16-tp0", "torch_native-page64-tp0"],
        *[["torch_native-page16-tp0"]] * 2,
    ]
