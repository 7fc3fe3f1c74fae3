"""Workloads by name: what a perf test asks to be measured.

A shape says what a round consists of; lengths left open are filled from the profile, so that the same
test is a fair load on a laptop and on an H100. Plans are seeded: the same shape, seed and vocabulary
give the same token ids on every machine, and their hash is the workload's identity.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

from sglperf.core.knee import Search
from sglperf.core.service import Service
from sglperf.errors import ConfigError
from sglperf.workload.plan import RequestPlan, RoundPlan


@dataclass(frozen=True)
class Workload:
    """A shape of load. Subclasses add lengths and say which requests a round sends.

    Class attributes:
        kind: the profile's section that fills open lengths, and the first word of the label.
        cold: whether the prefix cache must be empty of these prompts, so a hit is an error.
        predicted: whether what the prefix cache serves is compared with the cache model instead of a baseline.
        compares_answers: whether its answers are compared with those of another server.
        timeline: whether each request's life is told, phase by phase, from the server's times and the client's.
        traced: whether it is played under the server's profiler, and its figures are the trace's.
        worker: script of `sglperf.workers` that measures it without a server; None for what is sent to a server.
    """

    kind: ClassVar[str]
    cold: ClassVar[bool] = True
    predicted: ClassVar[bool] = False
    compares_answers: ClassVar[bool] = False
    timeline: ClassVar[bool] = False
    traced: ClassVar[bool] = False
    worker: ClassVar[str | None] = None

    def filled(self, defaults: Mapping[str, int]) -> Self:
        """The same shape with every open length taken from ``defaults``.

        Raises:
            ConfigError: a length is open and has no default, or is less than 1.
        """
        open_ = [item.name for item in fields(self) if getattr(self, item.name) is None]
        missing = [name for name in open_ if name not in defaults]
        if missing:
            raise ConfigError(
                f"workload {type(self).__name__} leaves {', '.join(missing)} open and the profile has no value for it: "
                f"give it in the test, or under workloads.{self.kind} of the profile"
            )
        whole = replace(self, **{name: defaults[name] for name in open_})
        for item in fields(whole):
            value = getattr(whole, item.name)
            if isinstance(value, int) and value < 1:
                name = f"workload {type(self).__name__}"
                raise ConfigError(f"{name} has {item.name} = {value}: give it at least 1")
        return whole

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        """The requests of one round."""
        raise NotImplementedError

    def warm_up(self, round_: RoundPlan) -> RoundPlan:
        """What is sent before the first round, and not kept; the round itself, or a part that is enough."""
        return round_

    @property
    def service(self) -> Service | None:
        """How a round of continuous load is read; None for one that is read as a whole."""
        return None

    @property
    def search(self) -> Search | None:
        """How the highest rate is looked for that the server can sustain; None where nothing is."""
        return None

    @property
    def label(self) -> str:
        """Short and unique among the shapes: ``decode-p512-n256-s8``."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt and completion together."""
        raise NotImplementedError


@dataclass(frozen=True)
class Decode(Workload):
    """Streams that start together, prefill, and decode as one batch.

    Attributes:
        streams: requests in flight at once, each with its own prompt.
        prompt_tokens, new_tokens: lengths of every stream; None takes the profile's.
    """

    streams: int = 1
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    kind: ClassVar[str] = "decode"

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.prompt_tokens is not None
        assert self.new_tokens is not None
        prompts = distinct_prompts([self.prompt_tokens] * self.streams, seed=seed, vocab_size=vocab_size)
        return RoundPlan(tuple(RequestPlan(prompt, self.new_tokens) for prompt in prompts), self.streams)

    @property
    def label(self) -> str:
        return f"{self.kind}-p{self.prompt_tokens}-n{self.new_tokens}-s{self.streams}"

    @property
    def longest(self) -> int:
        return (self.prompt_tokens or 0) + (self.new_tokens or 0)


@dataclass(frozen=True)
class Prefill(Workload):
    """One prompt after another, each cold, each asked for a single token: nothing but prefill.

    Attributes:
        prompt_tokens: length of every prompt; None takes the profile's.
        requests: prompts in a round; their median is the round's value, so one hiccup does not carry it.
    """

    prompt_tokens: int | None = None
    requests: int | None = None
    kind: ClassVar[str] = "prefill"

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.prompt_tokens is not None
        assert self.requests is not None
        prompts = distinct_prompts([self.prompt_tokens] * self.requests, seed=seed, vocab_size=vocab_size)
        return RoundPlan(tuple(RequestPlan(prompt, 1) for prompt in prompts), concurrency=1)

    @property
    def label(self) -> str:
        return f"{self.kind}-p{self.prompt_tokens}-r{self.requests}"

    @property
    def longest(self) -> int:
        return (self.prompt_tokens or 0) + 1


@dataclass(frozen=True)
class Lifecycle(Workload):
    """Cold requests one after another, each alone on the server from arrival to its last token.

    Attributes:
        prompt_tokens, new_tokens: lengths of each; None takes the profile's.
        requests: in a round; their median is the round's value.
    """

    prompt_tokens: int | None = None
    new_tokens: int | None = None
    requests: int | None = None
    kind: ClassVar[str] = "lifecycle"
    timeline: ClassVar[bool] = True

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.prompt_tokens is not None
        assert self.new_tokens is not None
        assert self.requests is not None
        prompts = distinct_prompts([self.prompt_tokens] * self.requests, seed=seed, vocab_size=vocab_size)
        return RoundPlan(tuple(RequestPlan(prompt, self.new_tokens) for prompt in prompts), concurrency=1)

    @property
    def label(self) -> str:
        return f"{self.kind}-p{self.prompt_tokens}-n{self.new_tokens}-r{self.requests}"

    @property
    def longest(self) -> int:
        return (self.prompt_tokens or 0) + (self.new_tokens or 0)


@dataclass(frozen=True)
class Repeat(Workload):
    """One prompt asked twice, the second time from the prefix cache: its cached tokens are exact.

    Attributes:
        prompt_tokens: length of the prompt; None takes the profile's.
    """

    prompt_tokens: int | None = None
    kind: ClassVar[str] = "repeat"
    cold: ClassVar[bool] = False

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.prompt_tokens is not None
        (prompt,) = distinct_prompts([self.prompt_tokens], seed=seed, vocab_size=vocab_size)
        return RoundPlan((RequestPlan(prompt, 1), RequestPlan(prompt, 1)), concurrency=1)

    @property
    def label(self) -> str:
        return f"{self.kind}-p{self.prompt_tokens}"

    @property
    def longest(self) -> int:
        return (self.prompt_tokens or 0) + 1


@dataclass(frozen=True)
class TreeGrowth(Workload):
    """The prefix cache's own lookup and eviction, in a tree of so many nodes and in smaller ones.

    Attributes:
        nodes: of the largest tree; None takes the profile's. The smallest has a tenth of them.
    """

    nodes: int | None = None
    kind: ClassVar[str] = "tree-growth"
    worker: ClassVar[str | None] = "radix_tree"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of each tree, ascending: three sizes, evenly apart on a logarithmic scale."""
        assert self.nodes is not None
        return tuple(round(self.nodes * 10**power) for power in (-1, -0.5, 0))

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:  # noqa: ARG002 - no server, no vocabulary
        return RoundPlan(())

    @property
    def label(self) -> str:
        return f"{self.kind}-{self.nodes}"

    @property
    def longest(self) -> int:
        return 0


def distinct_prompts(lengths: list[int], *, seed: int, vocab_size: int) -> list[tuple[int, ...]]:
    """Random prompts of which no two share even their first token, so that none can hit another's prefix.

    Raises:
        ConfigError: more prompts than the vocabulary has tokens, or a prompt without tokens.
    """
    if len(lengths) > vocab_size:
        raise ConfigError(
            f"{len(lengths)} distinct prompts need as many first tokens; the vocabulary has {vocab_size}"
        )
    if any(length < 1 for length in lengths):
        raise ConfigError(f"a prompt needs at least one token, got lengths {sorted(set(lengths))}")
    source = random.Random(seed)
    firsts = source.sample(range(vocab_size), len(lengths))
    return [
        (first, *source.choices(range(vocab_size), k=length - 1))
        for first, length in zip(firsts, lengths, strict=True)
    ]


def plan_hash(plan: RoundPlan, *reading: Service | Search | None) -> str:
    """Identity of what is sent, and how it is read: 16 hex digits over ids, lengths, send times, concurrency and waves."""
    digest = hashlib.sha256(repr(plan.concurrency).encode())
    for request in plan.requests:
        digest.update(repr((request.input_ids, request.max_new_tokens, request.at)).encode())
        if request.continues is not None or request.priority is not None:
            digest.update(repr((request.continues, request.priority)).encode())
    if plan.waves:
        digest.update(repr([(wave.start, wave.concurrency, wave.flush) for wave in plan.waves]).encode())
    for how in reading:
        digest.update(repr(how).encode() if how is not None else b"")
    return digest.hexdigest()[:16]
