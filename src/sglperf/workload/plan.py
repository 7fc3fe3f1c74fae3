"""What the client is to send in one round. Pure: the same seed gives the same plan, and its hash is its identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class RequestPlan:
    """One request.

    Attributes:
        input_ids: the prompt, token ids.
        max_new_tokens: exact number of tokens to generate (end of sequence is ignored), ≥ 1.
        at: seconds after the round's start at which it is sent, in an open loop; 0 in a closed one.
        continues: position of an earlier request of an earlier wave, whose prompt and answer come before
            ``input_ids``: the next turn of its conversation. None for a prompt that is known beforehand.
        priority: sent with it; None for a server that does not schedule by priority.
    """

    input_ids: tuple[int, ...]
    max_new_tokens: int
    at: float = 0.0
    continues: int | None = None
    priority: int | None = None


@dataclass(frozen=True)
class Wave:
    """A part of a round that begins when everything before it has been answered.

    Attributes:
        start: position of its first request; it ends where the next wave starts.
        concurrency: as of `RoundPlan`, for this part.
        flush: whether the prefix cache is emptied first.
    """

    start: int
    concurrency: int | None = 1
    flush: bool = False


@dataclass(frozen=True)
class RoundPlan:
    """All requests of one round.

    Attributes:
        requests: in sending order.
        concurrency: closed loop with at most this many requests in flight (1: one after the other);
            None: open loop, every request is sent at its own time whatever is in flight.
        waves: the parts that it is played in, the first from 0; empty for one part.
    """

    requests: tuple[RequestPlan, ...]
    concurrency: int | None = None
    waves: tuple[Wave, ...] = ()

    def parts(self) -> Iterator[tuple[Wave, tuple[RequestPlan, ...]]]:
        """Each wave with its requests, in order."""
        waves = self.waves or (Wave(0, self.concurrency),)
        ends = (*(wave.start for wave in waves[1:]), len(self.requests))
        for wave, end in zip(waves, ends, strict=True):
            yield wave, self.requests[wave.start : end]

    @property
    def due(self) -> tuple[float, ...]:
        """When each request is to be sent, seconds after the start, shape (requests,); empty for a closed loop."""
        return tuple(request.at for request in self.requests) if self.concurrency is None else ()

    @property
    def prompt_tokens(self) -> tuple[int, ...]:
        """Length of each request's prompt, shape (requests,), answers of earlier turns included."""
        lengths: list[int] = []
        for request in self.requests:
            before = request.continues
            earlier = 0 if before is None else lengths[before] + self.requests[before].max_new_tokens
            lengths.append(earlier + len(request.input_ids))
        return tuple(lengths)


def spoken(
    request: RequestPlan, prompts: Sequence[tuple[int, ...]], answers: Sequence[tuple[int, ...]]
) -> RequestPlan:
    """The request with its whole prompt, once the turns that it continues are known.

    Args:
        prompts, answers: token ids of the requests before it, by position.
    """
    if request.continues is None:
        return request
    earlier = prompts[request.continues] + answers[request.continues]
    return replace(request, input_ids=earlier + request.input_ids, continues=None)
