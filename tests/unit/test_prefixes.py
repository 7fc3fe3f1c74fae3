"""Prefix workloads: what they share is what they say, they are seeded, and the model can predict them all."""

from __future__ import annotations

from itertools import combinations

import pytest
from samples import server

import sglperf
from sglperf.core.cache_model import EVICTION_POLICIES, CacheShape
from sglperf.core.prediction import Prediction, predict
from sglperf.core.server_config import Model
from sglperf.errors import ConfigError, UsageError
from sglperf.predicting import cache_shape, check_predictable, sent_waves
from sglperf.target.adapter import adapter_for
from sglperf.workload.plan import RoundPlan, Wave, spoken
from sglperf.workload.prefixes import (
    Branching,
    Chunked,
    ColdWarm,
    Conversation,
    Eviction,
    FewShot,
    Flushed,
    HitOrMiss,
    OneTokenDifferent,
    PageEdges,
    PrefixWorkload,
    SharedPrefix,
    Together,
    UnequalUse,
)
from sglperf.workload.script import Script
from sglperf.workload.shapes import TreeGrowth, plan_hash

NEWEST = adapter_for("0.5.23")
ALL = [
    Branching(), Chunked(), ColdWarm(), Conversation(), Eviction(), Eviction("oldest-first"), Eviction("every-other"),
    Eviction(answer_tokens=70), FewShot(), Flushed(), HitOrMiss(256), OneTokenDifferent(), PageEdges(1), PageEdges(16),
    PageEdges(64), SharedPrefix(), Together(), UnequalUse(), UnequalUse(priorities=4),
]  # fmt: skip


def played(plan: RoundPlan) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Prompts and answers of a round whose answers say nothing that a prompt says."""
    prompts: list[tuple[int, ...]] = []
    answers = [(-1 - number,) * request.max_new_tokens for number, request in enumerate(plan.requests)]
    for request in plan.requests:
        prompts.append(spoken(request, prompts, answers).input_ids)
    return prompts, answers


def prediction(workload: PrefixWorkload, shape: CacheShape) -> Prediction:
    plan = workload.plan(seed=0, vocab_size=2048)
    return predict(shape, sent_waves(plan, *played(plan)))


def cached(workload: PrefixWorkload, page: int = 16, **shape: object) -> list[int]:
    whole = CacheShape(page, 4096, chunk=512, **shape)  # type: ignore[arg-type]
    return [request.cached_tokens for request in prediction(workload, whole).requests]


@pytest.mark.parametrize("workload", ALL, ids=lambda one: one.label)
@pytest.mark.parametrize("page", [1, 16, 64])
def test_every_workload_can_be_predicted(workload: PrefixWorkload, page: int) -> None:
    """On every page size, in every version, with no doubt about the order of requests; some reach the cache."""
    for version in ("0.5.16", "0.5.17", "0.5.20", "0.5.23"):
        config = server(
            page=page, model=Model("tiny", 2048, 4096), eviction_policy="lru", chunked_prefill_tokens=512
        )
        check_predictable(config, adapter_for(version), workload.plan(seed=0, vocab_size=2048))
    found = prediction(workload, CacheShape(page, 4096, chunk=512))
    if not isinstance(workload, PageEdges) or workload.page_tokens == page:
        assert any(request.shared_tokens for request in found.requests)


@pytest.mark.parametrize("workload", ALL, ids=lambda one: one.label)
def test_a_seed_decides_everything(workload: PrefixWorkload) -> None:
    """The same seed writes the same round; another seed another one of the same lengths; lengths fit ``longest``."""
    plan, again, other = (workload.plan(seed=seed, vocab_size=2048) for seed in (1, 1, 2))
    assert plan == again
    assert plan_hash(plan) != plan_hash(other)
    assert plan.prompt_tokens == other.prompt_tokens
    needed = (
        prompt + request.max_new_tokens
        for prompt, request in zip(plan.prompt_tokens, plan.requests, strict=True)
    )
    assert max(needed) == workload.longest


def test_labels_tell_workloads_apart() -> None:
    """Two different workloads never have one label."""
    labels = [workload.label for workload in ALL]
    assert len(set(labels)) == len(labels)
    assert Eviction("oldest-first").label == "eviction-oldest-first-pool4096-answer1"


def test_policies_are_told_apart() -> None:
    """Each policy keeps something else of unequally used prompts, on every page size, so none passes for another."""
    for page in (1, 16, 64):
        served = {
            policy: tuple(cached(UnequalUse(priorities=4), page, eviction=policy))
            for policy in EVICTION_POLICIES
        }
        for one, other in combinations(served, 2):
            assert served[one] != served[other], (page, one, other)


def test_what_a_few_workloads_share() -> None:
    """Worked by hand, on pages of 16 tokens."""
    assert cached(ColdWarm(300)) == [0, 0, 288, 288, 288, 288]
    assert cached(SharedPrefix(200, users=3)) == [0, 192, 192]
    assert cached(Flushed(200)) == [0, 0, 0, 192, 192, 192] * 2
    assert cached(Together(200, users=3)) == [0, 192, 192, 192, 192]
    # 50 + 24 tokens, the last of which was never computed; then 19 and 24 more, 28 and 24, 37 and 24.
    assert cached(Conversation(turns=4, answer_tokens=24))[::2] == [0, 64, 112, 160]


def test_without_a_cache_nothing_is_shared() -> None:
    """A server without a prefix cache is predicted to serve nothing."""
    assert set(cached(Conversation(), enabled=False)) == {0}


# The script


def test_texts_begin_unlike_each_other() -> None:
    """No two texts share a prefix, until the vocabulary has no first token left."""
    script = Script(seed=0, vocab_size=40)
    assert len({script.text(3)[0] for _ in range(40)}) == 40
    with pytest.raises(ConfigError, match="each of the vocabulary's 40 tokens already"):
        script.text(1)


def test_a_changed_token() -> None:
    """A changed text differs in one place only, whatever the token is changed to."""
    script = Script(seed=0, vocab_size=3)
    text = script.text(50)
    for at in range(50):
        changed = script.changed(text, at)
        assert [i for i, (a, b) in enumerate(zip(text, changed, strict=True)) if a != b] == [at]


def test_waves() -> None:
    """A turn waits for the one before it; requests together are one wave; a flush comes before what follows it."""
    script = Script(seed=0, vocab_size=100)
    first = script.ask(script.text(5))
    script.ask(script.text(5))
    script.reply(first, script.text(2), new_tokens=3)
    script.together(script.text(4), script.text(4))
    script.flush()
    script.ask(script.text(6))
    plan = script.plan()
    assert plan.waves == (Wave(0), Wave(2), Wave(3, 2), Wave(5, flush=True))
    assert plan.requests[2].continues == first
    assert plan.prompt_tokens == (5, 5, 5 + 1 + 2, 4, 4, 6)
    assert [len(requests) for _, requests in plan.parts()] == [2, 1, 2, 1]


def test_a_script_in_one_wave_is_a_plain_round() -> None:
    """Where nothing waits, the round is as any other."""
    assert ColdWarm().plan(seed=0, vocab_size=2048).waves == ()


# Bad input


@pytest.mark.parametrize(
    ("workload", "said"),
    [
        (ColdWarm(0), "workload ColdWarm has prompt_tokens = 0: give it at least 1"),
        (SharedPrefix(users=0), "workload SharedPrefix has users = 0: give it at least 1"),
        (PageEdges(0), "workload PageEdges has page_tokens = 0: give it at least 1"),
    ],
)
def test_lengths_from_one_on(workload: PrefixWorkload, said: str) -> None:
    """A prompt without tokens, a round without users or a page without tokens is refused by name."""
    with pytest.raises(ConfigError, match=said):
        workload.filled({})


def test_a_text_without_tokens() -> None:
    """A script of one's own that writes an empty text is told so."""
    with pytest.raises(ConfigError, match="a text of 0 tokens: a prompt needs at least one"):
        Script(seed=0, vocab_size=100).text(0)


def test_an_unknown_order() -> None:
    """An order that does not exist is refused with those that do."""
    with pytest.raises(
        ConfigError, match="order = 'random': give one of newest-first, oldest-first, every-other"
    ):
        Eviction("random").plan(seed=0, vocab_size=2048)


@pytest.mark.parametrize(
    ("changes", "workload", "said"),
    [
        ({"max_total_tokens": 256}, ColdWarm(300), "the pool of 256 tokens is too small for it"),
        (
            {"chunked_prefill_tokens": 100},
            ColdWarm(300),
            "chunk is 100 tokens, no multiple of the page of 16",
        ),
        (
            {"eviction_policy": "tlru"},
            ColdWarm(300),
            "unknown eviction policy 'tlru': the model has lru, lfu, slru, priority",
        ),
        ({"eviction_policy": None}, Eviction(), "what goes first is left to the server"),
    ],
)
def test_what_cannot_be_predicted(changes: dict[str, object], workload: PrefixWorkload, said: str) -> None:
    """A capacity below one prompt, a chunk that is no whole number of pages, an unknown policy: before anything starts."""
    config = server(**{"eviction_policy": "lru", "chunked_prefill_tokens": 512} | changes)
    with pytest.raises(UsageError, match=said):
        check_predictable(config, NEWEST, workload.plan(seed=0, vocab_size=2048))


def test_the_model_is_asked_about_what_was_asked_for() -> None:
    """The cache that is predicted is the config's, with the version's rules."""
    config = server(page=64, prefix_cache=False, eviction_policy="lfu", chunked_prefill_tokens=128)
    shape = cache_shape(config, adapter_for("0.5.17"))
    assert (shape.page_size, shape.capacity, shape.eviction, shape.chunk, shape.enabled) == (
        64,
        4096,
        "lfu",
        128,
        False,
    )
    assert shape.rules.stores_last_token
    assert not cache_shape(config, NEWEST).rules.stores_last_token
    assert shape.overlapped
    assert not cache_shape(server(arguments=("--disable-overlap-schedule",)), NEWEST).overlapped


def test_tree_sizes() -> None:
    """A tree's growth is fitted over a decade of sizes that ends at the one asked for."""
    assert TreeGrowth(1000).sizes == (100, 316, 1000)


def test_every_workload_is_public() -> None:
    """What a perf test may need is exported."""
    for workload in ALL:
        assert getattr(sglperf, type(workload).__name__) is type(workload)
