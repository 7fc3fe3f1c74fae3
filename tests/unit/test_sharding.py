"""A plan in parts: each server in one of them, those that are compared together, and the same parts everywhere."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import SHAPE, TINY, ask, server
from typer.testing import CliRunner

from sglperf.cli import app
from sglperf.core.sharding import Shard, split
from sglperf.errors import UsageError
from sglperf.plan import Ask, Plan, make_plan
from sglperf.settings import Settings
from sglperf.sharding import Piece, costs, digest, make_piece, work
from sglperf.workload.shapes import Decode, Repeat

COSTS = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0.5, 1e4), max_size=30)
SETTINGS = {
    "profile": "cpu", "device": "cpu", "model": "tiny", "attention_backends": ("torch_native",), "page_sizes": (16,),
    "tp_sets": ((0,),), "max_total_tokens": 4096, "max_running_requests": 16, "mem_fraction_static": 0.3,
    "launches": 2, "rounds": 2,
}  # fmt: skip


def plan(*asks: Ask, launches: int = 3) -> Plan:
    return make_plan(asks, launches=launches, rounds=6, warmup_rounds=1, seed=5)


def whole() -> Plan:
    """Five servers: two that are compared with each other, and three that stand alone."""
    compared = [server("triton", comparison="backends"), server("flashinfer", comparison="backends")]
    alone = [server(page=page) for page in (1, 16, 64)]
    asks = [
        ask(metric, config=config, workload=workload)
        for config in (*compared, *alone)
        for metric, workload in (("inter_token_latency", SHAPE), ("cached_tokens", Repeat(300)))
    ]
    return plan(*asks)


# Which part


def test_a_shard_is_written_as_one_of_so_many():
    """K/N, with or without blanks."""
    assert Shard.parse(" 2 / 4") == Shard(2, 4)
    assert str(Shard.parse("1/1")) == "1 of 1"


@pytest.mark.parametrize("wrong", ["", "2", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/2", "2/4x", "1.5/3"])
def test_no_other_part_is_there(wrong):
    """A message that says what is expected."""
    with pytest.raises(ValueError, match="expected K/N"):
        Shard.parse(wrong)


# Parts of anything


@given(COSTS, st.integers(1, 12))
def test_each_name_is_in_one_part(named, of):
    """Together the parts are the whole, and nothing is in two."""
    parts = split(named, of)

    assert len(parts) == of
    assert sorted(name for part in parts for name in part) == sorted(named)


@given(COSTS, st.integers(1, 12), st.randoms())
def test_the_order_of_collection_does_not_matter(named, of, draw: random.Random):
    """Whoever collects the same tests in another order measures the same part."""
    names = list(named)
    draw.shuffle(names)

    assert split({name: named[name] for name in names}, of) == split(named, of)


@given(COSTS, st.integers(1, 12))
def test_no_part_costs_much_more_than_its_share(named, of):
    """Whatever came last into the costliest part came when that had least: no more than a share without it."""
    parts = [[named[name] for name in part] for part in split(named, of)]
    heaviest = max(parts, key=sum)

    if len(heaviest) > 1:
        assert sum(heaviest) - min(heaviest) <= sum(named.values()) / of * (1 + 1e-9)
    assert sum(1 for part in parts if not part) == max(of - len(named), 0)


def test_the_costliest_come_first():
    """One server that takes as long as three others has a part to itself."""
    assert split({"a": 1, "b": 1, "c": 1, "d": 3}, 2) == (("d",), ("a", "b", "c"))


# Parts of a plan


@given(st.integers(1, 7))
def test_what_is_compared_stays_together(of):
    """Every server is in one shard, and both backends of a comparison are in the same."""
    made = whole()
    pieces = [Piece(Shard(index, of), "", made) for index in range(1, of + 1)]
    labels = [[config.label for config in piece.plan.configs] for piece in pieces]

    assert sorted(label for some in labels for label in some) == sorted(
        config.label for config in made.configs
    )
    assert {
        len([label for label in some if "page16" in label and "torch" not in label]) for some in labels
    } <= {0, 2}
    asks = [one.name for piece in pieces for one in piece.plan.asks]
    assert sorted(asks) == sorted(one.name for one in made.asks)


def test_a_part_is_judged_as_one_of_the_whole_family():
    """Its own cases are fewer, the error rate is kept over all."""
    made = whole()
    part = Piece(Shard(1, 4), "", made).plan

    assert len(part.asks) < len(made.asks)
    assert part.family_size == made.family_size == 5
    assert part.part([]).family_size == 5


def test_a_part_is_measured_as_it_would_be_in_the_whole():
    """Same requests, launches and rounds for each server, whatever else is in its part."""
    made = whole()
    for index in (1, 2, 3):
        part = Piece(Shard(index, 3), "", made).plan
        for config in part.configs:
            assert part.loads(config) == made.loads(config)
            assert part.launches_of(config) == made.launches_of(config)
            assert part.first_of(config) == made.first_of(config)


def test_a_server_costs_its_starts_and_its_rounds():
    """More launches, more tokens, more time; what is only counted is started once."""
    (short,) = costs(plan(ask())).values()
    (long,) = costs(plan(ask(workload=replace(SHAPE, new_tokens=400)))).values()
    (many,) = costs(plan(ask(), launches=6)).values()
    (counted,) = costs(plan(ask("cached_tokens"))).values()

    assert counted < short < long
    assert many == pytest.approx(2 * short)
    assert len(costs(whole())) == 4


# Whether two plans are the same


def test_a_plan_is_known_by_what_is_measured_and_not_by_its_order():
    """The digest of the same cases in another order is equal."""
    made = whole()

    assert digest(replace(made, asks=made.asks[::-1])) == digest(made)
    assert work(made).keys() == {one.name for one in made.asks}


@pytest.mark.parametrize(
    "other",
    [
        plan(ask(), launches=4),
        replace(plan(ask()), fewest_launches=2),
        replace(plan(ask()), rounds=5),
        replace(plan(ask()), warmup_rounds=2),
        replace(plan(ask()), seed=6),
        plan(ask(), ask("decode_throughput")),
        plan(ask(workload=Decode(1, 32, 5))),
        plan(ask(area="prefill")),
        plan(ask(config=server(max_total_tokens=8192))),
        plan(ask(config=server(arguments=("--disable-overlap-schedule",)))),
        plan(ask(config=server(model=replace(TINY, config={"hidden_size": 2})))),
    ],
)
def test_another_plan_has_another_digest(other):
    """Numbers, cases, what is sent, and to which server."""
    assert digest(other) != digest(plan(ask()))


def test_where_a_checkpoint_lies_is_the_hosts_own():
    """Its path may be another on each."""
    one, other = (plan(ask(config=server(model=replace(TINY, path=path)))) for path in ("/a/tiny", "/b/tiny"))

    assert digest(one) == digest(other)


# What a split is called


def piece(settings: dict | None = None, **variables: str) -> Piece:
    return make_piece(Settings(**{**SETTINGS, "shard": "2/4", **(settings or {})}), whole(), variables)


def test_a_split_is_called_as_it_is_told_or_after_githubs_run():
    """All attempts of a workflow's run are of one split, each profile of its own."""
    github = {"GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "2"}

    assert piece().name == ""
    assert piece({"split": "mine"}, **github).name == "mine"
    assert piece(**github).name == "github-77-cpu"


def test_a_split_that_meets_in_a_database_needs_a_name():
    """Else shards of two runs would be taken for one."""
    with pytest.raises(UsageError, match=r"--shard with a history .*needs --split=NAME"):
        piece({"history": "postgresql://me@host/runs"})
    assert piece({"history": "postgresql://me@host/runs", "split": "mine"}).name == "mine"
    assert piece({"history": "off"}).name == ""


@pytest.mark.parametrize("option", ["--shard=1/2", "--merge-shards=parts"])
def test_a_bisection_is_not_shared(option):
    """It decides after each commit what comes next."""
    done = CliRunner().invoke(app, ["bisect", "a", "b", option])

    assert isinstance(done.exception, UsageError)
    assert "leave --shard and --merge-shards out" in str(done.exception)
