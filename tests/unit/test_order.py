"""In which order the servers of two builds are started."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from samples import ask, server

from sglperf.core.server_config import ServerConfig
from sglperf.job import Job
from sglperf.measure import at_once, schedule, with_their_groups
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


class Pending:
    """A job as far as it matters who else is up."""

    def __init__(self, side: str, config: ServerConfig, *, timed: bool = True) -> None:
        self.side, self.config = side, config
        self.loads = (SimpleNamespace(timed=timed),)


def together(*jobs: Pending, beside: tuple[str, ...] = ()) -> list[list[str]]:
    groups = at_once(cast("list[Job]", list(jobs)), beside, processors=2)
    return [[f"{job.side} {job.config.page_size}" for job in group] for group in groups]


def test_whose_servers_are_up_together() -> None:
    """Both builds of a config on a CPU; on a GPU only where two fit; and where nothing is timed, one a processor."""
    cpu, other, third = server(page=16), server(page=64), server(page=1)
    gpu = replace(cpu, device="cuda")
    timed = [Pending(side, config) for config in (cpu, other) for side in ("base", "head")]
    assert together(*timed) == [["base 16", "head 16"], ["base 64", "head 64"]]
    assert together(Pending("base", gpu), Pending("head", gpu)) == [["base 16"], ["head 16"]]
    assert together(Pending("base", gpu), Pending("head", gpu), beside=(gpu.neighbourhood,)) == [
        ["base 16", "head 16"]
    ]
    counted = [Pending("head", config, timed=False) for config in (cpu, other, third)]
    assert together(*counted) == [["head 16", "head 64"], ["head 1"]]


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


def compared(backend: str, page: int = 16) -> ServerConfig:
    return replace(server(page=page), attention_backend=backend, comparison=f"backends-page{page}-tp0")


def test_servers_that_are_compared_are_up_together() -> None:
    """All backends of one comparison, of both builds, on a CPU; on a GPU only where all fit; others stay apart."""
    one, two, other = compared("a"), compared("b"), compared("a", page=64)
    jobs = [Pending(side, config) for config in (one, two) for side in ("base", "head")]
    assert together(*jobs, Pending("head", other)) == [["base 16", "head 16"] * 2, ["head 64"]]
    gpu = [replace(config, device="cuda") for config in (one, two)]
    assert together(*(Pending("head", config) for config in gpu)) == [["head 16"], ["head 16"]]
    assert together(*(Pending("head", config) for config in gpu), beside=(gpu[0].neighbourhood,)) == [
        ["head 16", "head 16"]
    ]


def test_servers_on_other_gpus_take_turns_launch_by_launch() -> None:
    """Of compared TP sets one is up at a time on GPUs, both builds beside each other where they fit; on a CPU all are.

    Launch i of one is paired with launch i of another, whichever of them came first.
    """
    sets = [(0,), (0, 1), (2, 3)]
    on_cpu = [replace(server(tp_set=gpus, page=len(gpus)), comparison="scaling-page1") for gpus in sets]
    on_gpus = [replace(config, device="cuda") for config in on_cpu]
    jobs = [Pending(side, config) for config in on_gpus for side in ("base", "head")]
    fitting = tuple(config.neighbourhood for config in on_gpus[1:])

    assert together(*jobs, beside=fitting) == [
        ["base 1"],
        ["head 1"],
        ["base 2", "head 2"],
        ["base 2", "head 2"],
    ]
    assert len(together(*(Pending("head", config) for config in on_cpu))) == 1
    plan = make_plan(
        [ask(config=config) for config in on_gpus], launches=2, rounds=1, warmup_rounds=1, seed=0
    )
    first, second = (
        [config.tp_set for config, _ in schedule(plan, ("head",), launch)] for launch in range(2)
    )
    assert first == second[::-1]


def test_servers_that_are_compared_begin_in_turn() -> None:
    """Of two launches in a row each backend is started first once; servers of one comparison follow one another."""
    configs = (compared("a"), server(page=1), compared("b"))
    plan = make_plan(
        [ask(config=config) for config in configs], launches=8, rounds=1, warmup_rounds=1, seed=0
    )
    assert [config.attention_backend for config in plan.configs] == ["a", "b", "torch_native"]
    first = [next(schedule(plan, ("head",), launch))[0].attention_backend for launch in range(8)]
    assert all({*first[begin : begin + 2]} == {"a", "b"} for begin in range(0, 8, 2))


def test_a_launch_more_takes_the_compared_ones_along() -> None:
    """A verdict that is open on one backend needs another pair, not another half of one."""
    one, two, alone = compared("a"), compared("b"), server(page=1)
    plan = make_plan(
        [ask(config=config) for config in (one, two, alone)], launches=8, rounds=1, warmup_rounds=1, seed=0
    )
    assert with_their_groups(plan, {two.label}) == {one.label, two.label}
    assert with_their_groups(plan, {alone.label}) == {alone.label}
    assert with_their_groups(plan, ()) == set()
