"""What the client is to send in one round. Pure: the same seed gives the same plan, and its hash is its identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestPlan:
    """One request.

    Attributes:
        input_ids: the prompt, token ids.
        max_new_tokens: exact number of tokens to generate (end of sequence is ignored), ≥ 1.
        at: seconds after the round's start at which it is sent, in an open loop; 0 in a closed one.
    """

    input_ids: tuple[int, ...]
    max_new_tokens: int
    at: float = 0.0


@dataclass(frozen=True)
class RoundPlan:
    """All requests of one round.

    Attributes:
        requests: in sending order.
        concurrency: closed loop with at most this many requests in flight (1: one after the other);
            None: open loop, every request is sent at its own time whatever is in flight.
    """

    requests: tuple[RequestPlan, ...]
    concurrency: int | None = None
