"""One request's life on one clock: what the client saw, and between, what the server says of itself.

The server's times are wall-clock seconds since 1970 (``meta_info`` of the last chunk, with ``--enable-metrics``, under
the same names from 0.5.16 to 0.5.23); the client's are seconds after the round's start, of which it also knows the
wall-clock time. Both are processes of one machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from sglperf.core.observation import RequestObservation, RoundObservation

_SERVER = {
    "received": "request_received_ts",
    "dispatched": "api_server_dispatch_finish_ts",
    "scheduled": "forward_entry_time",
    "prefilled": "prefill_finished_time",
}
"""Moments that the server names, in their order."""

TO_BATCH = "time_to_batch"
"""The metric of preparation and queue together, whose two ends are in an order."""

PHASES = {
    "arrive": "from the client into the server, its connection, HTTP and JSON",
    "prepare": "the server's checks, and handing it to the scheduler",
    "queue": "to the scheduler's process, and until it is in a batch",
    "prefill": "until the pass over the prompt is done and its token known",
    "return": "the first token's way to the client, by way of the detokenizer and HTTP",
    "decode": "from the first token to the last",
    "finish": "from the last token to the response's end",
}
"""Phase of a request's life → what happens in it. They follow one another without a gap."""


@dataclass(frozen=True)
class Timeline:
    """When each phase of a request begins, and when the last one ends.

    Attributes:
        moments: seconds after the round's start; shape (phases + 1,).
        took: the server's own end-to-end latency, seconds; None where it does not say.
    """

    moments: tuple[float, ...]
    took: float | None

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of each phase. One that the two clocks disagree on by more than it lasts is negative, and a queue may be 0."""
        return {
            phase: after - before
            for phase, (before, after) in zip(PHASES, pairwise(self.moments), strict=True)
        }


def timelines(round_: RoundObservation) -> tuple[Timeline, ...]:
    """Of each request, in plan order; empty where the server or the client does not tell all moments."""
    began = round_.client.began
    if began is None or not all(set(_SERVER.values()) <= set(one.server) for one in round_.requests):
        return ()
    return tuple(_timeline(one, began) for one in round_.requests if one.arrivals)


def _timeline(request: RequestObservation, began: float) -> Timeline:
    received, dispatched, scheduled, prefilled = (request.server[name] - began for name in _SERVER.values())
    # Two processes, each on its own: the scheduler may have begun before the other notes that it has handed over.
    dispatched = min(dispatched, max(scheduled, received))
    seen = (request.arrivals[0], request.arrivals[-1], request.finished)
    return Timeline(
        (request.sent, received, dispatched, scheduled, prefilled, *seen), request.server.get("e2e_latency")
    )


def phase_values(round_: RoundObservation) -> dict[str, float]:
    """``phase_…`` metrics and `TO_BATCH`: the median over the round's requests, seconds."""
    found = timelines(round_)
    if not found:
        return {}
    phases = [one.phases for one in found]
    return {
        TO_BATCH: median(one["prepare"] + one["queue"] for one in phases),
        **{f"phase_{name}": median(one[name] for one in phases) for name in PHASES},
    }


def disagreement(found: Sequence[Timeline]) -> float:
    """Seconds by which the two clocks contradict one another the most; 0 where they do not.

    What comes later cannot have been earlier, and what the server calls its own time from end to end is within what
    the client saw, so that both begin and end as one.
    """
    return max((amount for one in found for amount in _contradictions(one)), default=0.0)


def _contradictions(one: Timeline) -> Iterator[float]:
    yield from (-seconds for seconds in one.phases.values())
    if one.took is not None:
        outside = max(0.0, one.phases["arrive"]) + one.phases["finish"]
        seen = one.moments[-1] - one.moments[0]
        yield abs(seen - outside - one.took)
