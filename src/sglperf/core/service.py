"""How a round of continuous load is to be read, and what is asked of each of its requests."""

from __future__ import annotations

from dataclasses import dataclass

from sglperf.core.observation import RequestObservation


@dataclass(frozen=True)
class Objective:
    """What a request must keep to count for the goodput.

    Attributes:
        time_to_first_token: at most, seconds.
        time_per_output_token: at most, seconds; the mean over the tokens after the first.
    """

    time_to_first_token: float
    time_per_output_token: float

    def met(self, request: RequestObservation) -> bool:
        """Whether it did."""
        further = request.tokens[-1] - request.tokens[0]
        decoding = request.arrivals[-1] - request.arrivals[0]
        return (
            request.arrivals[0] - request.sent <= self.time_to_first_token
            and decoding <= self.time_per_output_token * further
        )


@dataclass(frozen=True)
class Service:
    """How a round of load is to be read.

    Attributes:
        objective: for the goodput.
        open: whether requests were sent at times of their own; else so many were kept in flight.
        stationary: whether the load is even enough for a steady state to be found; else all of it is looked at.
    """

    objective: Objective
    open: bool = False
    stationary: bool = True
