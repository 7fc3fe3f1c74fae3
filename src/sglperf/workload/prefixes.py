"""Workloads about what prompts have in common. What the prefix cache serves of them is predicted, not recorded.

Each is a script of a few lines (`sglperf.workload.script`); lengths are in tokens, and every round begins
with an empty cache.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product
from typing import ClassVar

from sglperf.errors import ConfigError
from sglperf.workload.plan import RoundPlan
from sglperf.workload.script import Script, Text
from sglperf.workload.shapes import Workload

# Larger than any vocabulary needs to be for lengths, which do not depend on it.
_ANY_VOCABULARY = 1 << 20


@dataclass(frozen=True)
class PrefixWorkload(Workload):
    """Requests written down one by one. Subclasses say what is asked, in `write`."""

    cold: ClassVar[bool] = False
    predicted: ClassVar[bool] = True

    def write(self, script: Script) -> None:
        """Write the round's requests down."""
        raise NotImplementedError

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        script = Script(seed=seed, vocab_size=vocab_size)
        self.write(script)
        return script.plan()

    @property
    def label(self) -> str:
        values = {item.name.removesuffix("_tokens"): getattr(self, item.name) for item in fields(self)}
        words = (value if isinstance(value, str) else f"{name}{value}" for name, value in values.items())
        return "-".join((self.kind, *words))

    @property
    def longest(self) -> int:
        plan = self.plan(seed=0, vocab_size=_ANY_VOCABULARY)
        answers = (request.max_new_tokens for request in plan.requests)
        return max(map(sum, zip(plan.prompt_tokens, answers, strict=True)))


@dataclass(frozen=True)
class ColdWarm(PrefixWorkload):
    """Two prompts, cold; then each again, and again."""

    prompt_tokens: int = 300
    kind: ClassVar[str] = "cold-warm"

    def write(self, script: Script) -> None:
        first, second = script.text(self.prompt_tokens), script.text(self.prompt_tokens)
        for prompt in (first, second) * 3:
            script.ask(prompt)


@dataclass(frozen=True)
class SharedPrefix(PrefixWorkload):
    """One system prompt, many users with a question of their own each."""

    prefix_tokens: int = 200
    users: int = 8
    kind: ClassVar[str] = "shared-prefix"

    def write(self, script: Script) -> None:
        system = script.text(self.prefix_tokens)
        for user in range(self.users):
            script.ask(system, script.text(20 + 7 * user), new_tokens=4)


@dataclass(frozen=True)
class Conversation(PrefixWorkload):
    """Two conversations in turn, each prompt holding all that was said before: the answers' tokens count."""

    turns: int = 5
    answer_tokens: int = 24
    kind: ClassVar[str] = "conversation"

    def write(self, script: Script) -> None:
        heads = [script.ask(script.text(length), new_tokens=self.answer_tokens) for length in (50, 33)]
        for turn, speaker in product(range(1, self.turns), (0, 1)):
            words = script.text(10 + 9 * turn + speaker)
            heads[speaker] = script.reply(heads[speaker], words, new_tokens=self.answer_tokens)


@dataclass(frozen=True)
class FewShot(PrefixWorkload):
    """Instructions with none to all of the worked examples, and a question: nested prefixes."""

    examples: int = 4
    example_tokens: int = 45
    kind: ClassVar[str] = "few-shot"

    def write(self, script: Script) -> None:
        instructions = script.text(70)
        examples = [script.text(self.example_tokens) for _ in range(self.examples)]
        for shots in (*range(self.examples + 1), *range(self.examples, -1, -1)):
            script.ask(instructions, *examples[:shots], script.text(12))


@dataclass(frozen=True)
class Branching(PrefixWorkload):
    """A tree of prompts: each text is followed by two others, down to the leaves, which are asked twice."""

    depth: int = 4
    branch_tokens: int = 37
    kind: ClassVar[str] = "branching"

    def write(self, script: Script) -> None:
        paths: list[tuple[Text, ...]] = [()]
        for _ in range(self.depth):
            paths = [(*path, script.text(self.branch_tokens)) for path in paths for _ in range(2)]
        for path in (*paths, *reversed(paths)):
            script.ask(*path)


@dataclass(frozen=True)
class OneTokenDifferent(PrefixWorkload):
    """A prompt, and copies of it that differ in one token: the first, the last, and on either side of page edges."""

    prompt_tokens: int = 300
    kind: ClassVar[str] = "one-token"

    def write(self, script: Script) -> None:
        prompt = script.text(self.prompt_tokens)
        script.ask(prompt)
        for at in (self.prompt_tokens - 1, 257, 256, 255, 129, 128, 127, 64, 63, 17, 16, 15, 1, 0):
            if at < self.prompt_tokens:
                script.ask(script.changed(prompt, at))


@dataclass(frozen=True)
class PageEdges(PrefixWorkload):
    """Prefixes shorter than a page, as long as one, one token more; and the same around a second and third page."""

    page_tokens: int = 16
    kind: ClassVar[str] = "page-edges"

    def write(self, script: Script) -> None:
        edges = {pages * self.page_tokens + off for pages in (1, 2, 3) for off in (-1, 0, 1)}
        for length in sorted(edges - {0}):
            prefix = script.text(length)
            script.ask(prefix)
            script.ask(prefix)
            script.ask(prefix, script.text(5))


@dataclass(frozen=True)
class Eviction(PrefixWorkload):
    """More prompts than the pool holds, then each again: newest first finds what is left, oldest first chases it away.

    Attributes:
        order: in which they are asked again: ``newest-first``, ``oldest-first`` or ``every-other``.
        pool_tokens: of the server's KV pool; twice as much is asked for.
        answer_tokens: of each answer, which the pool must hold too.
    """

    order: str = "newest-first"
    pool_tokens: int = 4096
    answer_tokens: int = 1
    kind: ClassVar[str] = "eviction"

    def write(self, script: Script) -> None:
        length = self.pool_tokens // 8
        prompts = [script.text(length - 13 * (number % 3)) for number in range(16)]
        orders = {
            "newest-first": prompts[::-1],
            "oldest-first": prompts,
            "every-other": [*prompts[::2], *prompts[1::2]],
        }
        if self.order not in orders:
            raise ConfigError(
                f"workload Eviction has order = {self.order!r}: give one of {', '.join(orders)}"
            )
        for number, prompt in enumerate((*prompts, *orders[self.order])):
            script.ask(prompt, new_tokens=self.answer_tokens + number % 2)


@dataclass(frozen=True)
class UnequalUse(PrefixWorkload):
    """Prompts used twice, three times, often, and of unequal priority, until the pool runs full: each policy gives up others.

    Attributes:
        pool_tokens: of the server's KV pool.
        priorities: how many different priorities the prompts have; 1 sends none.
    """

    pool_tokens: int = 4096
    priorities: int = 1
    kind: ClassVar[str] = "unequal-use"

    def write(self, script: Script) -> None:
        prompts = [script.text(self.pool_tokens // 9 - 2) for _ in range(9)]
        for number, prompt in enumerate(prompts):
            for _ in range(2 + (2 * number + 1) % 3):  # the oldest is not the least used
                script.ask(prompt, new_tokens=2, priority=self._priority(number))
        for _ in range(3):
            script.ask(script.text(self.pool_tokens // 9 - 2), priority=self._priority(0))
        for number, prompt in enumerate(prompts):
            script.ask(prompt, priority=self._priority(number))

    def _priority(self, number: int) -> int | None:
        return None if self.priorities == 1 else (number + 2) % self.priorities


@dataclass(frozen=True)
class Flushed(PrefixWorkload):
    """Warm prompts, a flush, and the same prompts: nothing of them may be left."""

    prompt_tokens: int = 200
    kind: ClassVar[str] = "flushed"

    def write(self, script: Script) -> None:
        prompts = [script.text(self.prompt_tokens) for _ in range(3)]
        for prompt in prompts * 2:
            script.ask(prompt)
        script.flush()
        for prompt in prompts * 2:
            script.ask(prompt)


@dataclass(frozen=True)
class Together(PrefixWorkload):
    """Users who ask at once, after one whose prompt left the system prompt in the cache for all of them."""

    prefix_tokens: int = 200
    users: int = 8
    kind: ClassVar[str] = "together"

    def write(self, script: Script) -> None:
        system = script.text(self.prefix_tokens)
        script.ask(system, script.text(30))
        script.together(*(system + script.text(15 + 5 * user) for user in range(self.users)), new_tokens=8)
        script.ask(system, script.text(9))


@dataclass(frozen=True)
class Chunked(PrefixWorkload):
    """Prompts that end just before, at and just after a chunk of prefill, each again, and with its tail changed.

    Attributes:
        chunk_tokens: of the server's chunked prefill.
    """

    chunk_tokens: int = 512
    kind: ClassVar[str] = "chunked"

    def write(self, script: Script) -> None:
        for chunks, off in product((1, 2), (-1, 0, 1, 29)):
            prompt = script.text(chunks * self.chunk_tokens + off)
            script.ask(prompt)
            script.ask(prompt, new_tokens=2)
            script.ask(script.changed(prompt, self.chunk_tokens - 40))
            script.flush()


@dataclass(frozen=True)
class HitOrMiss(PrefixWorkload):
    """A long prompt, cold; then another question after the same prefix: time to first token with the cache and without.

    Attributes:
        prefix_tokens: what the two prompts share; None takes the profile's.
        pairs: of prompts in a round; their medians are the round's values.
    """

    prefix_tokens: int | None = None
    pairs: int = 3
    kind: ClassVar[str] = "hit-or-miss"

    def write(self, script: Script) -> None:
        assert self.prefix_tokens is not None
        for _ in range(self.pairs):
            prefix = script.text(self.prefix_tokens)
            script.ask(prefix, script.text(32))
            script.ask(prefix, script.text(32))
