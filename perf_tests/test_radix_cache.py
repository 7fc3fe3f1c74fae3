"""The prefix cache: what it serves and what it gives up, to the token, and the time that it saves.

Counts are compared with a model of the cache, so they need no baseline. docs/radix.md tells how.
"""

from __future__ import annotations

import pytest

from sglperf import (
    Branching,
    Chunked,
    ColdWarm,
    Conversation,
    Eviction,
    FewShot,
    Flushed,
    HitOrMiss,
    Measure,
    OneTokenDifferent,
    PageEdges,
    PrefixWorkload,
    Server,
    SharedPrefix,
    Together,
    TreeGrowth,
    UnequalUse,
)

pytestmark = pytest.mark.radix


@pytest.mark.server("radix")
def test_cold_and_warm(server: Server, measure: Measure) -> None:
    """A prompt that was asked before is served from the cache, all but what must be computed."""
    measure(ColdWarm()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_shared_prefix(server: Server, measure: Measure) -> None:
    """Many users share one system prompt."""
    measure(SharedPrefix()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_conversation(server: Server, measure: Measure) -> None:
    """Each turn of a conversation is served all that was said before, answers included."""
    measure(Conversation()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_few_shot(server: Server, measure: Measure) -> None:
    """Prompts with more and with fewer of the same examples share what they have in common."""
    measure(FewShot()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_branching(server: Server, measure: Measure) -> None:
    """A tree of prompts is served branch by branch."""
    measure(Branching()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_one_token_different(server: Server, measure: Measure) -> None:
    """A prompt that differs in one token is served up to the page before it, and no further."""
    measure(OneTokenDifferent()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_page_edges(server: Server, measure: Measure) -> None:
    """Prefixes shorter than a page, as long as one, and one token longer."""
    measure(PageEdges(page_tokens=server.page_size)).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
@pytest.mark.parametrize("order", ["newest-first", "oldest-first", "every-other"])
def test_eviction(server: Server, measure: Measure, order: str) -> None:
    """Twice as much as the pool holds: the least recently used goes first, and no more than is needed."""
    measure(Eviction(order=order, pool_tokens=server.max_total_tokens)).expect(
        "cached_tokens", "evicted_tokens"
    )


@pytest.mark.server("radix")
def test_eviction_of_answers(server: Server, measure: Measure) -> None:
    """Long answers take room too, and are given up before the prompts that they follow."""
    workload = Eviction(order="newest-first", pool_tokens=server.max_total_tokens, answer_tokens=70)
    measure(workload).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_flush(server: Server, measure: Measure) -> None:
    """After a flush nothing is left of what was asked before it."""
    measure(Flushed()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_together(server: Server, measure: Measure) -> None:
    """Users who ask at once are all served the system prompt that is there already."""
    measure(Together()).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix")
def test_chunked_prefill(server: Server, measure: Measure) -> None:
    """A prompt computed in chunks is as good a prefix as one computed at once."""
    measure(Chunked(chunk_tokens=server.chunked_prefill_tokens or 512)).expect(
        "cached_tokens", "evicted_tokens"
    )


@pytest.mark.server("radix")
def test_unequal_use(server: Server, measure: Measure) -> None:
    """When the pool is full, the least recently used goes, however often it was used."""
    measure(UnequalUse(pool_tokens=server.max_total_tokens)).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("policies", eviction_policy=["lfu", "slru"])
def test_eviction_policies(server: Server, measure: Measure) -> None:
    """When the pool is full, each other policy keeps what it is there to keep."""
    measure(UnequalUse(pool_tokens=server.max_total_tokens)).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("policies", eviction_policy="priority")
def test_eviction_by_priority(server: Server, measure: Measure) -> None:
    """When the pool is full, what requests of low priority left goes first."""
    workload = UnequalUse(pool_tokens=server.max_total_tokens, priorities=4)
    measure(workload).expect("cached_tokens", "evicted_tokens")


@pytest.mark.server("radix", prefix_cache=False)
@pytest.mark.parametrize("workload", [ColdWarm(), Conversation(), Eviction()], ids=lambda one: one.kind)
def test_cache_off(server: Server, measure: Measure, workload: PrefixWorkload) -> None:
    """A server without a prefix cache serves nothing from it."""
    measure(workload).expect("cached_tokens", "evicted_tokens")


@pytest.mark.sweep("prefix_tokens")
def test_speedup(server: Server, measure: Measure, prefix_tokens: int) -> None:
    """What the cache saves of the time to the first token, by the length of the prefix."""
    measure(HitOrMiss(prefix_tokens=prefix_tokens)).expect(
        "cached_tokens", "time_to_first_token_miss", "time_to_first_token_hit", "prefix_cache_speedup"
    )


@pytest.mark.sweep("nodes")
def test_growth(server: Server, measure: Measure, nodes: int) -> None:
    """Looking up and making room cost what they did in a tree of so many nodes, and grow no faster with it."""
    measure(TreeGrowth(nodes=nodes)).expect(
        "prefix_match_time",
        "prefix_match_growth",
        "prefix_match_exponent",
        "prefix_eviction_time",
        "prefix_eviction_growth",
        "prefix_eviction_exponent",
    )
