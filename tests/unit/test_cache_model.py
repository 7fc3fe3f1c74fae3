"""The cache model: worked examples, and what must hold for any cache."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglperf.core.cache_model import EVICTION_POLICIES, CacheModel, CacheRules, CacheShape, Served
from sglperf.core.prediction import Sent, SentWave, predict


def text(seed: int, tokens: int) -> tuple[int, ...]:
    """Tokens that no other text has."""
    return tuple(range(seed * 10_000, seed * 10_000 + tokens))


def served(cache: CacheModel, prompt: tuple[int, ...], output: tuple[int, ...] = (-1,)) -> tuple[int, int]:
    one = cache.serve(prompt, output)
    return one.cached_tokens, one.evicted_tokens


# Worked examples; the first three were seen on SGLang 0.5.23 before there was a model.


def test_repeated_prompt() -> None:
    """300 tokens on pages of 16: cold nothing, again 288, since the last token is always computed."""
    cache = CacheModel(CacheShape(16, 4096))
    assert served(cache, text(1, 300)) == (0, 0)
    assert served(cache, text(1, 300)) == (288, 0)
    assert served(cache, text(1, 150) + text(2, 100)) == (144, 0)


def test_single_token_pages() -> None:
    """On pages of one token all but the last are served."""
    cache = CacheModel(CacheShape(1, 4096))
    served(cache, text(1, 290))
    assert served(cache, text(1, 290)) == (289, 0)


def test_newest_first_and_oldest_first() -> None:
    """Twelve prompts of 500 in 4096: newest first eight are left; oldest first each chases the next away."""
    for order, hits in ((1, [0] * 12), (-1, [496] * 8 + [0] * 4)):
        cache = CacheModel(CacheShape(16, 4096))
        for number in range(12):
            served(cache, text(number, 500))
        again = [served(cache, text(number, 500))[0] for number in range(12)[::order]]
        assert again == hits


def test_answers_count() -> None:
    """The next turn is served prompt and answer, without the answer's last token, which was never computed."""
    cache = CacheModel(CacheShape(1, 4096))
    served(cache, text(1, 50), text(2, 10))
    assert served(cache, text(1, 50) + text(2, 10) + text(3, 5)) == (59, 0)


def test_a_page_is_shared_whole_or_not_at_all() -> None:
    """A prefix one token short of a page shares nothing; of exactly a page, it."""
    for prefix, shared in ((15, 0), (16, 16), (17, 16), (31, 16), (32, 32)):
        cache = CacheModel(CacheShape(16, 4096))
        served(cache, text(1, prefix) + text(2, 20))
        assert served(cache, text(1, prefix) + text(3, 20)) == (shared, 0)


def test_prompts_outlive_answers() -> None:
    """A prompt is worth a little more than its answer: by priority, it outlives another that has none."""
    for splits, left in ((True, 96), (False, 0)):
        rules = CacheRules(splits_answers=splits)
        cache = CacheModel(CacheShape(16, 320, "priority", rules=rules))
        served(cache, text(1, 97), text(2, 33))
        served(cache, text(3, 97))
        assert served(cache, text(4, 160)) == (0, 32 + 96)
        assert served(cache, text(1, 97))[0] == left


def test_least_used_goes_first_under_lfu() -> None:
    """A prompt that was used often outlives a younger one that was used once."""
    for policy, left in (("lru", 0), ("lfu", 96), ("slru", 96)):
        cache = CacheModel(CacheShape(16, 336, policy))
        for _ in range(3):
            served(cache, text(1, 100))
        served(cache, text(2, 100))
        served(cache, text(3, 150))
        assert served(cache, text(1, 100))[0] == left


def test_low_priority_goes_first() -> None:
    """What a request of high priority left outlives younger things of low priority."""
    cache = CacheModel(CacheShape(16, 336, "priority"))
    cache.serve(text(1, 100), (-1,), priority=5)
    cache.serve(text(2, 100), (-1,), priority=1)
    cache.serve(text(3, 150), (-1,), priority=1)
    assert cache.serve(text(1, 100), (-1,), priority=1).cached_tokens == 96


# SGLang's choices, each where it decides a count


def test_room_for_a_page_more() -> None:
    """With pages, a prompt that would just fit makes room for one page more; page by page it would not."""
    for page, evicted in ((16, 96), (1, 0)):
        cache = CacheModel(CacheShape(page, 320))
        served(cache, text(1, 96))
        assert served(cache, text(2, 224)) == (0, evicted)


def test_room_for_a_page_at_each_step() -> None:
    """A decode step makes room for a whole page, though its token has a place on the last one."""
    cache = CacheModel(CacheShape(16, 320))
    served(cache, text(1, 96))
    assert served(cache, text(2, 210)) == (0, 96)  # 14 pages, and one more
    cache = CacheModel(CacheShape(16, 336))
    served(cache, text(1, 96))
    assert served(cache, text(2, 209), text(3, 2)) == (0, 0)
    cache = CacheModel(CacheShape(16, 336))
    served(cache, text(1, 111))
    assert served(cache, text(2, 225), text(3, 2)) == (0, 96)


def test_what_is_in_use_stays() -> None:
    """The prefix that a request is served from is not given up for that request."""
    cache = CacheModel(CacheShape(16, 320))
    served(cache, text(1, 97))
    assert served(cache, text(1, 96) + text(2, 215)) == (96, 0)


def test_leaves_go_whole_and_then_their_parents() -> None:
    """Of two prompts that share a half, the older tail goes, all of it; then the other, and only then what they shared."""
    cache = CacheModel(CacheShape(16, 320))
    served(cache, text(1, 96) + text(2, 48))
    served(cache, text(1, 96) + text(3, 48))
    assert served(cache, text(4, 128)) == (0, 48)
    assert served(cache, text(5, 160)) == (0, 48 + 96)


def test_the_first_step_before_the_prompt_is_stored() -> None:
    """The overlap scheduler makes room for the first decode step before pages that the tree has already come back."""
    for overlapped, evicted in ((True, 5), (False, 0)):
        cache = CacheModel(CacheShape(1, 16, overlapped=overlapped))
        served(cache, text(1, 5))
        served(cache, text(2, 10))
        assert served(cache, text(2, 10), text(3, 2)) == (9, evicted)


# What older versions do otherwise


def test_the_last_token_was_stored() -> None:
    """Until 0.5.21 the next turn is served the answer's last token too; without overlap it never was."""
    for overlapped, tokens in ((True, 60), (False, 59)):
        rules = CacheRules(stores_last_token=True)
        cache = CacheModel(CacheShape(1, 4096, overlapped=overlapped, rules=rules))
        served(cache, text(1, 50), text(2, 10))
        assert served(cache, text(1, 50) + text(2, 10) + text(3, 5))[0] == tokens
        served(cache, text(4, 50), text(5, 1))
        assert served(cache, text(4, 50) + text(5, 1) + text(6, 5))[0] == (51 if overlapped else 50)


def test_demand_was_evicted() -> None:
    """In 0.5.16 as much was given up as was asked for, not as was missing."""
    for demand, evicted in ((True, 192), (False, 96)):
        cache = CacheModel(CacheShape(16, 320, rules=CacheRules(evicts_demand=demand)))
        served(cache, text(1, 97))
        served(cache, text(2, 97))
        assert served(cache, text(3, 160)) == (0, evicted)


def test_each_store_was_a_use() -> None:
    """Until 0.5.21 a prompt with an answer of two tokens was used twice, so under lfu it outlived a younger one."""
    for counts, left in ((True, 96), (False, 0)):
        cache = CacheModel(CacheShape(16, 320, "lfu", rules=CacheRules(counts_stores=counts)))
        served(cache, text(1, 97), text(9, 2))
        served(cache, text(2, 97))
        served(cache, text(3, 160))
        assert served(cache, text(1, 97))[0] == left


def test_a_chunk_was_no_use() -> None:
    """Until 0.5.21 a chunk of a prompt did not count until the prompt was done: it is used once, like an equal one."""
    rules = CacheRules(counts_stores=True)
    cache = CacheModel(CacheShape(16, 320, "lfu", chunk=48, rules=rules))
    served(cache, text(1, 96))
    served(cache, text(2, 48))
    served(cache, text(3, 240))
    assert served(cache, text(2, 48))[0] == 32
    assert served(cache, text(1, 96))[0] == 0


# Switched off, emptied


def test_cache_off() -> None:
    """Without a cache nothing is served and nothing evicted, however full the pool is."""
    cache = CacheModel(CacheShape(16, 640, enabled=False))
    for _ in range(5):
        assert served(cache, text(1, 500), text(2, 20)) == (0, 0)
    assert cache.free_tokens == 640


def test_flush() -> None:
    """After a flush nothing is left."""
    cache = CacheModel(CacheShape(16, 640))
    served(cache, text(1, 500))
    cache.flush()
    assert served(cache, text(1, 500)) == (0, 0)


# Bad input


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"page_size": 0}, "page_size is 0: a page holds at least one token"),
        ({"capacity": 15}, "capacity is 15 tokens, less than one page of 16"),
        ({"eviction": "fifo"}, "unknown eviction policy 'fifo': the model has lru, lfu, slru, priority"),
        ({"chunk": 100}, "chunk is 100 tokens, no multiple of the page of 16"),
    ],
)
def test_impossible_shapes(values: dict[str, object], said: str) -> None:
    """A shape that no server has is refused with its culprit."""
    with pytest.raises(ValueError, match=re.escape(said)):
        CacheShape(**{"page_size": 16, "capacity": 4096, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(("prompt", "output", "empty"), [((), (1,), "prompt"), ((1,), (), "output")])
def test_empty_requests(prompt: tuple[int, ...], output: tuple[int, ...], empty: str) -> None:
    """A request without a prompt or without an answer is refused."""
    with pytest.raises(ValueError, match=f"the {empty} has no tokens"):
        CacheModel(CacheShape(16, 4096)).serve(prompt, output)


def test_request_larger_than_the_pool() -> None:
    """A request that the whole pool cannot hold is refused, with both sizes."""
    with pytest.raises(ValueError, match="the pool of 320 tokens is too small for it"):
        CacheModel(CacheShape(16, 320)).serve(text(1, 400), (-1,))


# What holds for any cache

TOKENS = st.integers(0, 2)
PROMPTS = st.lists(TOKENS, min_size=1, max_size=40).map(tuple)
REQUESTS = st.lists(
    st.tuples(PROMPTS, st.lists(TOKENS, min_size=1, max_size=9).map(tuple)), min_size=1, max_size=25
)
SHAPES = st.builds(
    CacheShape,
    page_size=st.sampled_from([1, 2, 4]),
    capacity=st.integers(64, 200),
    eviction=st.sampled_from(EVICTION_POLICIES),
    chunk=st.sampled_from([None, 4, 8]),
    overlapped=st.booleans(),
    rules=st.builds(CacheRules),
)
# Of a version that computes and keeps an answer's last token, what is shared differs by that token.
OLD_SHAPES = st.builds(replace, SHAPES, rules=st.builds(CacheRules, *[st.booleans()] * 4))


def longest_shared(prompt: tuple[int, ...], others: list[tuple[int, ...]], page: int) -> int:
    """What an endless cache serves, by comparing with everything before."""

    def common(other: tuple[int, ...]) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(prompt[:-1], other, strict=False)) if a != b),
            min(len(prompt) - 1, len(other)),
        )

    return max((common(other) // page * page for other in others), default=0)


@given(OLD_SHAPES, REQUESTS)
@settings(max_examples=300, deadline=None)
def test_pool_is_never_lost(
    shape: CacheShape, requests: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    """Between requests every page is free or in the tree, and no edge is locked."""
    cache = CacheModel(shape)
    for prompt, output in requests:
        cache.serve(prompt, output)
        assert cache.free_tokens + cache.cached_tokens == shape.capacity // shape.page_size * shape.page_size
        assert not any(node.locks for node in cache._nodes())


@given(SHAPES, REQUESTS)
@settings(max_examples=200, deadline=None)
def test_never_more_than_was_shared(
    shape: CacheShape, requests: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    """No request is served more than it shares with an earlier one, in whole pages, its last token excluded."""
    cache, before = CacheModel(shape), []
    for prompt, output in requests:
        assert cache.serve(prompt, output).cached_tokens <= longest_shared(prompt, before, shape.page_size)
        before.append(prompt + output[:-1])


@given(SHAPES, REQUESTS)
@settings(max_examples=200, deadline=None)
def test_endless_pool(shape: CacheShape, requests: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """A pool that never fills serves exactly what is shared, and evicts nothing."""
    cache, before = CacheModel(replace(shape, capacity=10_000)), []
    for prompt, output in requests:
        assert cache.serve(prompt, output) == Served(longest_shared(prompt, before, shape.page_size), 0)
        before.append(prompt + output[:-1])


@given(SHAPES, REQUESTS)
@settings(max_examples=100, deadline=None)
def test_chunks_change_no_hit_while_there_is_room(
    shape: CacheShape, requests: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    """Computed in chunks or at once, a prompt is as good a prefix."""
    chunked, whole = (CacheModel(replace(shape, capacity=10_000, chunk=chunk)) for chunk in (4, None))
    assert [chunked.serve(*one) for one in requests] == [whole.serve(*one) for one in requests]


@given(SHAPES, REQUESTS)
@settings(max_examples=100, deadline=None)
def test_prediction_is_the_model(
    shape: CacheShape, requests: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    """A round's prediction is the model run request by request, with the bound of each beside it."""
    cache = CacheModel(shape)
    expected = [cache.serve(*one) for one in requests]
    found = predict(shape, [SentWave(tuple(Sent(*one) for one in requests))])
    assert [one.cached_tokens for one in found.requests] == [one.cached_tokens for one in expected]
    assert found.evicted_tokens == sum(one.evicted_tokens for one in expected)
    before: list[tuple[int, ...]] = []
    for (prompt, output), one in zip(requests, found.requests, strict=True):
        assert one.shared_tokens == longest_shared(prompt, before, shape.page_size)
        before.append(prompt + output[:-1])
