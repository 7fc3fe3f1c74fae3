"""What the cache model says of a round, and where a server departs from it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sglperf.core.cache_model import CacheModel, CacheShape, Served, Tokens

PREDICTED = ("cached_tokens", "evicted_tokens")
"""The metrics that are predicted."""


@dataclass(frozen=True)
class Sent:
    """One request, with what came back."""

    prompt: Tokens
    output: Tokens
    priority: int = 0


@dataclass(frozen=True)
class SentWave:
    """Requests that began when all before them had been answered.

    Attributes:
        together: whether they were in flight at once; else one after the other.
        flush: whether the cache was emptied first.
    """

    requests: tuple[Sent, ...]
    together: bool = False
    flush: bool = False


@dataclass(frozen=True)
class Expected:
    """What is predicted for one request.

    Attributes:
        prompt_tokens: length of its prompt.
        cached_tokens: what the cache serves.
        shared_tokens: what it could serve at most: whole pages shared with anything that was sent since the last
            flush, whatever has been evicted.
        shared_with: position of a request that it shares them with; None where nothing is shared.
    """

    prompt_tokens: int
    cached_tokens: int
    shared_tokens: int
    shared_with: int | None


@dataclass(frozen=True)
class Prediction:
    """What is predicted for a round."""

    requests: tuple[Expected, ...]
    evicted_tokens: int

    @property
    def cached_tokens(self) -> int:
        """Over all requests."""
        return sum(request.cached_tokens for request in self.requests)

    def total(self, metric: str) -> float:
        """The round's value of a predicted metric."""
        return float(getattr(self, metric))


@dataclass(frozen=True)
class Departure:
    """Where a server departs from the prediction.

    Attributes:
        worse: whether it is a change for the worse.
        code: stable, for machines.
        sentence: the first request that differs and by how much, for a person.
    """

    worse: bool
    code: str
    sentence: str


def predict(shape: CacheShape, waves: Sequence[SentWave]) -> Prediction:
    """Run the round on the model.

    Raises:
        ValueError: a request that the pool cannot hold, or a round whose outcome depends on the order in which
            the server takes up requests that are in flight together.
    """
    model, evicted, ordered = CacheModel(shape), 0, True
    expected: list[Expected] = []
    known: list[Tokens | None] = []
    for wave in waves:
        if wave.flush:
            model.flush()
            known, ordered = [None] * len(known), True
        ordered = ordered and not wave.together
        served = _together(model, wave.requests) if wave.together else _in_turn(model, wave.requests)
        evicted += sum(one.evicted_tokens for one in served)
        if evicted and not ordered:
            raise ValueError(
                "what is evicted depends on the order of requests in flight together: give the pool more tokens, "
                "or send them one by one"
            )
        written = [sent.prompt + sent.output[:-1] for sent in wave.requests]
        for position, (sent, one) in enumerate(zip(wave.requests, served, strict=True)):
            others = [*known, *(written if wave.together else written[:position])]
            if wave.together:
                others[len(known) + position] = None
            shared, partner = _most_shared(sent.prompt[:-1], others, shape.page_size)
            expected.append(Expected(len(sent.prompt), one.cached_tokens, shared, partner))
        known += written
    return Prediction(tuple(expected), evicted)


def _in_turn(model: CacheModel, requests: Sequence[Sent]) -> list[Served]:
    return [model.serve(sent.prompt, sent.output, sent.priority) for sent in requests]


def _together(model: CacheModel, requests: Sequence[Sent]) -> list[Served]:
    """Served in whatever order, or all looked up before any is stored: the same, or there is no prediction."""
    backwards = _in_turn(copy.deepcopy(model), requests[::-1])[::-1]
    at_once = [_in_turn(copy.deepcopy(model), [sent])[0] for sent in requests]
    served = _in_turn(model, requests)
    for position, answers in enumerate(zip(served, backwards, at_once, strict=True)):
        if len(set(answers)) > 1:
            raise ValueError(
                f"request {position + 1} of {len(requests)} in flight together finds more or less in the cache, "
                "depending on which of them the server takes up first: let one that they share with go before them"
            )
    return served


def _most_shared(prompt: Tokens, others: Sequence[Tokens | None], page: int) -> tuple[int, int | None]:
    shared = [0 if other is None else _common(prompt, other) // page * page for other in others]
    most = max(shared, default=0)
    return most, shared.index(most) if most else None


def _common(one: Tokens, other: Tokens) -> int:
    """Length of the longest common prefix, by bisection: comparing slices is quick, comparing tokens is not."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def departures(
    prediction: Prediction, cached_tokens: Sequence[int], evicted_tokens: float | None
) -> dict[str, Departure]:
    """Metric → how it departs; empty where all is as predicted.

    Args:
        cached_tokens: of each request, as the server says.
        evicted_tokens: of the round, as the server counts; None where it does not say.
    """
    return dict(_departures(prediction, cached_tokens, evicted_tokens))


def _departures(
    prediction: Prediction, cached_tokens: Sequence[int], evicted_tokens: float | None
) -> Iterator[tuple[str, Departure]]:
    differing = [
        position
        for position, (expected, cached) in enumerate(zip(prediction.requests, cached_tokens, strict=True))
        if expected.cached_tokens != cached
    ]
    if differing:
        yield "cached_tokens", _cache_departure(prediction, cached_tokens, differing)
    if evicted_tokens is not None and evicted_tokens != prediction.evicted_tokens:
        yield (
            "evicted_tokens",
            Departure(
                evicted_tokens > prediction.evicted_tokens,
                "evicted-more" if evicted_tokens > prediction.evicted_tokens else "evicted-less",
                f"{evicted_tokens:.0f} tokens evicted, the cache model evicts {prediction.evicted_tokens}",
            ),
        )


def _cache_departure(prediction: Prediction, cached: Sequence[int], differing: Sequence[int]) -> Departure:
    """Better only where some requests were served more and none less, whatever the sum.

    More than was ever sent is no hit but another prompt's keys and values.
    """
    never = [at for at in differing if cached[at] > prediction.requests[at].shared_tokens]
    lost = [at for at in differing if cached[at] < prediction.requests[at].cached_tokens]
    first = (never or lost or differing)[0]
    code = "served-what-was-never-sent" if never else "cached-less" if lost else "cached-more"
    some = f"{len(differing)} of {len(cached)} requests differ"
    total = f"{prediction.cached_tokens} → {sum(cached)} in all"
    said = _first(prediction.requests[first], first, cached[first])
    return Departure(bool(never or lost), code, f"{said}; {some}, {total}")


def _first(expected: Expected, position: int, cached: int) -> str:
    with_ = "" if expected.shared_with is None else f" with request {expected.shared_with}"
    return (
        f"request {position} ({expected.prompt_tokens} tokens, {expected.shared_tokens} shared{with_}): "
        f"{cached} cached, {expected.cached_tokens} predicted"
    )
