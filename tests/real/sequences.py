"""Sequences of requests that Hypothesis makes up, and smaller ones where server and model disagree."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from sglperf.workload.plan import RequestPlan, RoundPlan, Wave

# Texts are runs of consecutive ids, each beginning where no other does; they end long before the vocabulary of 2048.
TEXTS = 8
TEXT_TOKENS = 200


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        texts: (number, length): the beginning of each numbered text, put together.
        new_tokens: of the answer.
        continues: number of the request that it continues, from 0; None for none. From the start, so that it stays the same
            one when those between are left out to find the smallest sequence.
        flush: whether the cache is emptied first.
        priority: where the policy looks at it.
    """

    texts: tuple[tuple[int, int], ...]
    new_tokens: int = 1
    continues: int | None = None
    flush: bool = False
    priority: int = 0


def steps(page: int, most: int = 14) -> st.SearchStrategy[list[Step]]:
    """Sequences with lengths about the page's edges, repeated and branching prefixes, turns and flushes."""
    edges = [length for pages in (1, 2, 3) for off in (-1, 0, 1) if (length := pages * page + off) > 0]
    lengths = st.integers(1, TEXT_TOKENS) | st.sampled_from(
        [length for length in edges if length <= TEXT_TOKENS]
    )
    text = st.tuples(st.integers(0, TEXTS - 1), lengths)
    step = st.builds(
        Step,
        texts=st.lists(text, min_size=1, max_size=3).map(tuple),
        new_tokens=st.sampled_from([1, 1, 2, 3, page, page + 1, 20]),
        continues=st.none() | st.integers(0, most // 2),
        flush=st.sampled_from([False] * 9 + [True]),
        priority=st.integers(0, 2),
    )
    return st.lists(step, min_size=2, max_size=most)


def round_plan(sequence: list[Step], *, longest: int, priorities: bool = False) -> RoundPlan:
    """The sequence as a round. A turn that would make a conversation longer than ``longest`` begins a new one."""
    requests: list[RequestPlan] = []
    waves: list[Wave] = []
    for position, step in enumerate(sequence):
        ids = tuple(token for number, length in step.texts for token in run(number, length))
        continues = step.continues if step.continues is not None and step.continues < position else None
        request = RequestPlan(ids, step.new_tokens, 0.0, continues, step.priority if priorities else None)
        length = RoundPlan((*requests, request)).prompt_tokens[-1] + step.new_tokens
        if length > longest:
            request = RequestPlan(
                ids[: longest - step.new_tokens], step.new_tokens, 0.0, None, request.priority
            )
        requests.append(request)
        waves.append(Wave(position, flush=step.flush and position > 0))
    return RoundPlan(tuple(requests), 1, tuple(waves))


def run(number: int, length: int) -> range:
    """The first tokens of a text."""
    return range(number * TEXT_TOKENS + 1, number * TEXT_TOKENS + 1 + length)
