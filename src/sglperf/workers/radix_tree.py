"""Times the prefix cache's own operations as its tree grows: the target's class, without a server around it.

    python radix_tree.py SOCKET

Request ``{"page_size", "nodes": [N, ...], "unified", "seed"}``: a tree of each size is grown once and kept;
answer: for each size the median seconds of a lookup and of an eviction, ``{"match": [...], "evict": [...]}``.
"""

from __future__ import annotations

import random
from array import array
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import torch
from link import serve
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams, MatchPrefixParams
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
from sglang.srt.mem_cache.radix_cache import RadixKey

PREFIXES, PREFIX_PAGES = 16, 16
LOOKUPS, EVICTIONS = 200, 20


class Tree:
    """A cache whose tree has so many nodes: a few shared prefixes, and below them one leaf for each user."""

    def __init__(self, page: int, nodes: int, unified: bool, seed: int) -> None:
        self.page, self.source, self.grown = page, random.Random(seed), 0
        self.allocator, self.cache = make_cache(
            page, (nodes + PREFIXES * PREFIX_PAGES + EVICTIONS) * page, unified
        )
        self.prefixes = [self.text(PREFIX_PAGES * page) for _ in range(PREFIXES)]
        self.stored = torch.zeros(PREFIX_PAGES * page, dtype=torch.int64)
        self.keys: dict[int, array[int]] = {}  # the leaves that are there, the least recently used first
        for prefix in self.prefixes:
            self.cache.insert(InsertParams(key=RadixKey(prefix), value=self.allocator.alloc(len(prefix))))
        while self.grown < nodes - PREFIXES:
            self.grow()

    def text(self, tokens: int) -> array[int]:
        return array("q", (self.source.randrange(1 << 30) for _ in range(tokens)))

    def grow(self) -> None:
        """One more leaf, below a prefix that is there already: what stands for the prefix's slots is not looked at."""
        prefix = self.prefixes[self.grown % PREFIXES]
        key = prefix + self.text(self.page)
        value = torch.cat([self.stored, self.allocator.alloc(self.page)])
        self.cache.insert(InsertParams(key=RadixKey(key), value=value, prev_prefix_len=len(prefix)))
        self.keys[self.grown] = key
        self.grown += 1

    def match_seconds(self) -> float:
        """Median time to look up a prompt that is there."""
        seconds = []
        for number in self.source.choices(list(self.keys), k=LOOKUPS):
            key = self.keys.pop(number)
            seconds.append(self._timed(partial(self.match, key)))
            self.keys[number] = key
        return median(seconds)

    def evict_seconds(self) -> float:
        """Median time to make room for one page; afterwards the tree is as large as before."""
        seconds = [
            self._timed(lambda: self.cache.evict(EvictParams(num_tokens=self.page))) for _ in range(EVICTIONS)
        ]
        for number in list(self.keys)[:EVICTIONS]:  # each took one leaf
            del self.keys[number]
            self.grow()
        return median(seconds)

    def match(self, key: array[int]) -> None:
        self.cache.match_prefix(MatchPrefixParams(key=RadixKey(key)))

    @staticmethod
    def _timed(work: Any) -> float:
        begin = perf_counter()
        work()
        return perf_counter() - begin


def make_cache(page: int, tokens: int, unified: bool) -> tuple[Any, Any]:
    """An allocator without a KV buffer behind it, and the cache class that a server of this version has."""
    if page == 1:
        allocator = TokenToKVPoolAllocator(tokens, torch.float16, "cpu", None, False)
    else:
        allocator = PagedTokenToKVPoolAllocator(tokens, page, torch.float16, "cpu", None, False)
    requests = ReqToTokenPool(size=2, max_context_len=8, device="cpu", enable_memory_saver=False)
    settings: dict[str, Any] = {
        "disable": False,
        "req_to_token_pool": requests,
        "token_to_kv_pool_allocator": allocator,
        "page_size": page,
    }
    if not unified:
        from sglang.srt.mem_cache.radix_cache import RadixCache

        return allocator, RadixCache(CacheInitParams(**settings))
    from sglang.srt.mem_cache.unified_cache.component_type import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    return allocator, UnifiedRadixCache(CacheInitParams(**settings, tree_components=(ComponentType.FULL,)))


trees: dict[tuple[int, ...], Tree] = {}


def measure(request: dict[str, Any]) -> dict[str, list[float]]:
    """One round over all sizes, each measured beside the others."""
    kept = []
    for nodes in request["nodes"]:
        key = (request["page_size"], nodes, request["seed"])
        if key not in trees:
            trees[key] = Tree(request["page_size"], nodes, request["unified"], request["seed"])
        kept.append(trees[key])
    return {
        "match": [tree.match_seconds() for tree in kept],
        "evict": [tree.evict_seconds() for tree in kept],
    }


if __name__ == "__main__":
    serve(measure)
