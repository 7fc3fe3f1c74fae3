"""A reference prefix cache: what a radix cache of given size must have served, to the token.

Written from the idea (Zheng et al., *SGLang: Efficient Execution of Structured Language Model Programs*,
section 3) with code of its own, so that the two are separate answers to one question. Token sequences are
kept in a radix tree whose edges are whole pages; a prompt is served from the longest path that it shares
with the tree; what was computed for a request stays in the tree when it is done; when the pool is full,
leaves that nobody uses go first, in the order of the eviction policy.

Where SGLang's choices decide a count (when it makes room, what it stores, which part of a split edge is
the younger), the rule, read in its source, is stated beside the line that follows it.
`tests/real/test_differential.py` holds both against each other.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Tokens = tuple[int, ...]

EVICTION_POLICIES = ("lru", "lfu", "slru", "priority")
PROTECTED_HITS = 2
"""Uses of an edge from which on SLRU counts it as protected."""


@dataclass(frozen=True)
class CacheRules:
    """Where SGLang's versions decide differently; the defaults are the newest one's.

    Attributes:
        splits_answers: a prompt is an edge of its own, and worth one priority more than its answer. Since 0.5.20.
        stores_last_token: the overlap scheduler runs one step more than is needed, which computes the keys and values
            of the answer's last token; they are kept with the others. Until 0.5.21.
        counts_stores: an edge is used once for each time that a request is stored, which is when its prompt is
            computed and again when it ends; else once for each request. Until 0.5.21.
        evicts_demand: where room is short, as much is evicted as is asked for, not as is missing. In 0.5.16.
    """

    splits_answers: bool = True
    stores_last_token: bool = False
    counts_stores: bool = False
    evicts_demand: bool = False


@dataclass(frozen=True)
class CacheShape:
    """What decides the behaviour of a cache.

    Attributes:
        page_size: tokens of a page, the unit that is shared and allocated.
        capacity: tokens that the KV pool holds; what is beyond whole pages is not used.
        eviction: which unused leaf goes first, one of `EVICTION_POLICIES`.
        chunk: most prompt tokens computed in one pass, a multiple of the page; None for any number.
        enabled: False for a server that keeps nothing from one request to the next.
        overlapped: whether the next step is prepared before the last one's result is stored, as the overlap
            scheduler does: the first decode step then makes room while the prompt is not yet in the tree.
        rules: of the version.

    Raises:
        ValueError: a value that no server could have, with the culprit's name.
    """

    page_size: int
    capacity: int
    eviction: str = "lru"
    chunk: int | None = None
    enabled: bool = True
    overlapped: bool = True
    rules: CacheRules = CacheRules()

    def __post_init__(self) -> None:
        if self.page_size < 1:
            raise ValueError(f"page_size is {self.page_size}: a page holds at least one token")
        if self.capacity < self.page_size:
            raise ValueError(
                f"capacity is {self.capacity} tokens, less than one page of {self.page_size}: give the pool at least one"
            )
        if self.eviction not in EVICTION_POLICIES:
            raise ValueError(
                f"unknown eviction policy {self.eviction!r}: the model has {', '.join(EVICTION_POLICIES)}"
            )
        if self.chunk is not None and (self.chunk < 1 or self.chunk % self.page_size):
            raise ValueError(
                f"chunk is {self.chunk} tokens, no multiple of the page of {self.page_size}: a chunk ends where a page does"
            )


@dataclass(frozen=True)
class Served:
    """What one request met.

    Attributes:
        cached_tokens: of its prompt, served from the cache.
        evicted_tokens: thrown out of the cache to make room for it.
    """

    cached_tokens: int
    evicted_tokens: int


@dataclass(eq=False)
class _Node:
    """An edge of the tree and the node at its end.

    Attributes:
        tokens: whole pages.
        used: when it was last on a request's path, on the cache's own clock.
        hits: requests whose tokens it became or was.
        locks: requests in flight that need it.
    """

    tokens: Tokens
    parent: _Node | None
    used: float
    hits: int = 0
    priority: int = 0
    locks: int = 0
    children: dict[Tokens, _Node] = field(default_factory=dict)


class CacheModel:
    """A radix cache over a pool of pages, one request at a time.

    Attributes:
        shape: what it was made with.
    """

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self._time = 0
        self.flush()

    def flush(self) -> None:
        """Forget everything."""
        self._root = _Node((), None, self._now())
        self._free = self.shape.capacity // self.shape.page_size

    @property
    def cached_tokens(self) -> int:
        """Tokens in the tree."""
        return sum(len(node.tokens) for node in self._nodes())

    @property
    def free_tokens(self) -> int:
        """Tokens of pages that nothing uses."""
        return self._free * self.shape.page_size

    def serve(self, prompt: Sequence[int], output: Sequence[int], priority: int = 0) -> Served:
        """Run one request from arrival to its last token.

        Args:
            prompt: its token ids, at least one.
            output: the token ids that the server generated, at least one.
            priority: as sent; only the policy ``priority`` looks at it.

        Raises:
            ValueError: an empty prompt or output, or a request that the whole pool cannot hold.
        """
        if not prompt or not output:
            empty = "prompt" if not prompt else "output"
            raise ValueError(f"the {empty} has no tokens: a request has at least one of each")
        request = _Request(self, tuple(prompt), tuple(output), priority)
        return request.run()

    # Looking up and storing

    def _now(self) -> int:
        self._time += 1
        return self._time

    def _match(self, tokens: Tokens) -> list[_Node]:
        """Edges of the longest path that ``tokens`` begins with, the last one cut to what is shared.

        That they are used counts once they are stored with the rest of the prompt; until then they are locked.
        """
        return list(self._walk(tokens))

    def _walk(self, tokens: Tokens, each: Callable[[_Node], None] = lambda _: None) -> Iterator[_Node]:
        page = self.shape.page_size
        node, done, whole = self._root, 0, len(tokens) // page * page
        while done < whole:
            child = node.children.get(tokens[done : done + page])
            if child is None:
                return
            each(child)
            shared = self._shared(child.tokens, tokens[done:whole])
            node = child if shared == len(child.tokens) else self._split(child, shared)
            yield node
            done += shared

    def _shared(self, edge: Tokens, tokens: Tokens) -> int:
        """Tokens of whole pages that both begin with."""
        page = self.shape.page_size
        pages = min(len(edge), len(tokens)) // page
        equal = (edge[i * page : (i + 1) * page] == tokens[i * page : (i + 1) * page] for i in range(pages))
        return page * next((i for i, same in enumerate(equal) if not same), pages)

    def _split(self, node: _Node, length: int) -> _Node:
        """Cut an edge in two and return the upper part. Both were used just now."""
        page, parent = self.shape.page_size, node.parent
        assert parent is not None
        upper = _Node(node.tokens[:length], parent, self._now(), node.hits, node.priority, node.locks)
        upper.children[node.tokens[length : length + page]] = node
        parent.children[node.tokens[:page]] = upper
        node.tokens, node.parent, node.used = node.tokens[length:], upper, self._now()
        return upper

    def _insert(self, tokens: Tokens, priority: int, counted: int) -> tuple[int, list[_Node]]:
        """Store whole pages of ``tokens``; return how many tokens were there already, and the path.

        Args:
            counted: leading tokens whose edges this request has hit before, and does not hit again.
        """
        page = self.shape.page_size
        tokens = tokens[: len(tokens) // page * page]

        def touch(node: _Node) -> None:
            node.used = self._now()

        path, known = [], 0
        for node in self._walk(tokens, touch):
            node.priority = max(node.priority, priority)
            known += len(node.tokens)
            node.hits += known > counted
            path.append(node)
        if known < len(tokens):
            parent = path[-1] if path else self._root
            hits = int(len(tokens) > counted)
            leaf = _Node(tokens[known:], parent, self._now(), hits, priority)
            parent.children[leaf.tokens[:page]] = leaf
            path.append(leaf)
        return known, path

    # Making room

    def _take(self, pages: int, room: int) -> int:
        """Take pages for a request; returns the tokens evicted so that ``room`` tokens are free.

        Raises:
            ValueError: all that is evictable was not enough.
        """
        evicted = self._make_room(room)
        if pages > self._free:
            raise ValueError(
                f"a request needs {pages * self.shape.page_size} more tokens and {self.free_tokens} are free with "
                f"everything evicted: the pool of {self.shape.capacity} tokens is too small for it"
            )
        self._free -= pages
        return evicted

    def _make_room(self, tokens: int) -> int:
        """Evict leaves, each whole, until this many tokens are free or nothing unused is left."""
        page, evicted = self.shape.page_size, 0
        if self.free_tokens >= tokens:
            return 0
        if self.shape.rules.evicts_demand:
            tokens += self.free_tokens
        leaves = [self._ranked(node) for node in self._nodes() if self._evictable(node)]
        heapq.heapify(leaves)
        while leaves and self.free_tokens < tokens:
            *_, node = heapq.heappop(leaves)
            assert node.parent is not None
            del node.parent.children[node.tokens[:page]]
            evicted += len(node.tokens)
            self._free += len(node.tokens) // page
            if self._evictable(node.parent):
                heapq.heappush(leaves, self._ranked(node.parent))
        return evicted

    def _ranked(self, node: _Node) -> tuple[float, float, int, _Node]:
        return (*_RANKS[self.shape.eviction](node), self._now(), node)

    def _evictable(self, node: _Node) -> bool:
        return node.parent is not None and not node.children and not node.locks

    def _nodes(self) -> Iterator[_Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.children.values()


# The smallest goes first; recency decides among equals.
_RANKS: Mapping[str, Callable[[_Node], tuple[float, float]]] = {
    "lru": lambda node: (0, node.used),
    "lfu": lambda node: (node.hits, node.used),
    "slru": lambda node: (node.hits >= PROTECTED_HITS, node.used),
    "priority": lambda node: (node.priority, node.used),
}


class _Request:
    """One request's way through the cache.

    Attributes:
        held: tokens whose keys and values exist for it, in the tree or on pages of its own.
        stored: leading tokens of these that are in the tree.
        counted: leading tokens whose edges it has been counted for.
    """

    def __init__(self, cache: CacheModel, prompt: Tokens, output: Tokens, priority: int) -> None:
        self.cache, self.prompt, self.output, self.priority = cache, prompt, output, priority
        self.page = cache.shape.page_size
        self.path: list[_Node] = []
        self.held = self.stored = self.counted = self.evicted = 0

    def run(self) -> Served:
        cached = self._look_up() if self.cache.shape.enabled else 0
        self._prefill()
        self._decode()
        self._finish()
        return Served(cached, self.evicted)

    def _look_up(self) -> int:
        # The last token is always computed: its output is the first token of the answer.
        self._lock(self.cache._match(self.prompt[:-1]))
        self.held = self.stored = sum(len(node.tokens) for node in self.path)
        return self.held

    def _prefill(self) -> None:
        chunk = self.cache.shape.chunk or len(self.prompt)
        while self.held < len(self.prompt):
            end = min(self.held + chunk, len(self.prompt))
            # With pages, room is made for one page more than is asked for, needed or not.
            slack = self.page if self.page > 1 else 0
            self._extend(end, room=end - self.held + slack)
            if end < len(self.prompt):
                self._store(self.prompt[:end], counts=not self.cache.shape.rules.counts_stores)

    def _decode(self) -> None:
        """A step for each token after the first, in which the keys and values of the one before it are computed."""
        shape, last = self.cache.shape, len(self.prompt) + len(self.output) - 1
        extra = shape.overlapped and shape.rules.stores_last_token
        for length in range(len(self.prompt) + 1, last + 1 + extra):
            # An answer of one token ends with its prompt, and both are stored at once.
            first = length == len(self.prompt) + 1 and len(self.output) > 1
            if first and not shape.overlapped:
                self._store(self.prompt)
            # Room is made for a whole page at every step, though only the first token of a page takes one.
            self._extend(length, room=self.page)
            if first and shape.overlapped:
                self._store(self.prompt)

    def _finish(self) -> None:
        whole = (self.prompt + self.output)[: self.held]
        self._store(whole)
        self._give_back()
        self._lock([])

    def _extend(self, end: int, room: int) -> None:
        pages = -(-end // self.page) - -(-self.held // self.page)
        self.evicted += self.cache._take(pages, room)
        self.held = end

    def _store(self, tokens: Tokens, *, counts: bool = True) -> None:
        """Hand over what was computed; pages that the tree has already go back to the pool."""
        if not self.cache.shape.enabled:
            return
        known, path = self.cache._insert(tokens, self.priority, self.counted if counts else len(tokens))
        self.cache._free += max(0, known - self.stored) // self.page
        self.stored = len(tokens) // self.page * self.page
        self.counted = 0 if self.cache.shape.rules.counts_stores else self.stored
        self._split_answer(tokens)
        self._lock(path)

    def _split_answer(self, tokens: Tokens) -> None:
        """Keep the prompt as an edge of its own, worth a little more than the answer."""
        whole = len(self.prompt) // self.page * self.page
        if self.cache.shape.rules.splits_answers and 0 < whole < len(tokens) // self.page * self.page:
            self.cache._insert(self.prompt[:whole], self.priority + 1, whole)

    def _lock(self, path: list[_Node]) -> None:
        for node in path:
            node.locks += 1
        for node in self.path:
            node.locks -= 1
        self.path = path

    def _give_back(self) -> None:
        self.cache._free += -(-self.held // self.page) - self.stored // self.page
