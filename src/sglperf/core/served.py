"""What a round of continuous load comes to: latency, throughput and goodput while the server is in a steady state.

Definitions: docs/serving.md. Counts are of the whole round; all else is of its *window*, which is found by rule.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sglperf.core.derive import counts, token_gaps
from sglperf.core.gates import Gate, Limits
from sglperf.core.observation import RequestObservation, RoundObservation
from sglperf.core.service import Objective, Service

FloatArray = NDArray[np.float64]

LEAST_BEYOND = 5
"""Requests that must lie beyond a percentile for it to be given: fewer, and it is the worst case by another name."""
LEAST_REQUESTS = 20
"""Requests that a window must hold."""
LATEST_BEGIN = 1 / 3
"""Share of the load's time by which a steady state must have begun."""
UNSERVED_SHARE = 0.3
"""Share of the requests arriving in the window that may be left over at its end, without the server being saturated."""
SERIES_POINTS = 24
"""Of a quantity over time."""


@dataclass(frozen=True)
class Window:
    """A part of a round, seconds on its clock.

    Attributes:
        since: when the load began.
        begin, end: of the window.
    """

    since: float
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin

    def holds(self, time: float) -> bool:
        """Whether that moment is in it."""
        return self.begin <= time <= self.end


def steady_window(requests: Sequence[RequestObservation], service: Service) -> Window:
    """From the first moment at which as much is going on as on average, to the last request sent.

    A server starts empty, and what it shows while it fills is better than what it can sustain. Its filling is over once
    the quantity has first reached its own mean over the round (crossing of the mean: Fishman 1973; Wilson and Pritsker
    1978). In an open loop the quantity is the number in flight; in a closed one, where that is given, the number that
    decode. After the last request has been sent the server drains. MSER (White 1997) is the usual rule for longer
    series; on rounds of some seconds it leaves more of the error (docs/serving.md).
    """
    since, end = min(r.sent for r in requests), max(r.sent for r in requests)
    if not service.stationary or end <= since:
        return Window(since, since, end)
    starts, ends = in_flight(requests) if service.open else decoding(requests)
    return Window(since, first_at_mean(starts, ends, since, end), end)


def in_flight(requests: Sequence[RequestObservation]) -> tuple[FloatArray, FloatArray]:
    """When each request was sent, and when its last token came; shape (requests,) both."""
    return np.array([r.sent for r in requests]), np.array([r.arrivals[-1] for r in requests])


def decoding(requests: Sequence[RequestObservation]) -> tuple[FloatArray, FloatArray]:
    """When each request's first token came, and when its last; shape (requests,) both."""
    return np.array([r.arrivals[0] for r in requests]), np.array([r.arrivals[-1] for r in requests])


def first_at_mean(starts: FloatArray, ends: FloatArray, since: float, until: float) -> float:
    """The first moment at which as many intervals are open as on average between ``since`` and ``until``.

    Args:
        starts, ends: of each interval; shape (intervals,).
    """
    mean = mean_level(starts, ends, np.array([since, until]))[0]
    times = np.concatenate([starts, ends])
    order = np.argsort(times, kind="stable")
    level = np.cumsum(np.repeat([1, -1], len(starts))[order])
    times = times[order]
    # Of events at one moment only the last says how many are open.
    last = np.append(np.diff(times) > 0, True)
    reached = times[last & (level >= mean * (1 - 1e-9))]  # a constant level is its own mean, but for rounding
    return float(np.clip(reached[0] if reached.size else until, since, until))


def mean_level(starts: FloatArray, ends: FloatArray, edges: FloatArray) -> FloatArray:
    """Mean number of open intervals between each edge and the next; shape (edges - 1,)."""
    elapsed = np.clip(edges[:, None] - starts, 0, ends - starts).sum(axis=1)
    return np.asarray(np.diff(elapsed) / np.diff(edges))


def served(round_: RoundObservation, service: Service) -> dict[str, float]:
    """Every metric of a round of load.

    Args:
        round_: a round in which no request failed.

    Returns:
        Metric name → value. A percentile that too few requests support, or what the server did not say, is absent.
    """
    values = dict(counts(round_))
    window = steady_window(round_.requests, service)
    inside = [request for request in round_.requests if window.holds(request.sent)]
    if window.seconds <= 0:
        return values
    values |= _waits([request.arrivals[0] - request.sent for request in inside])
    values |= _gaps(round_.requests, window)
    values |= _rates(round_.requests, inside, window, service.objective)
    queued = [r.server["queue_time"] for r in inside if "queue_time" in r.server and not r.retractions]
    if queued:
        values["queue_time"] = float(np.median(queued))
    return values


def batch_series(round_: RoundObservation) -> tuple[float, ...]:
    """Requests that decode, on average, in each of equal parts of the time from the first sent to the last; as the client sees it."""
    sent = [request.sent for request in round_.requests]
    if max(sent) <= min(sent):
        return ()
    edges = np.linspace(min(sent), max(sent), SERIES_POINTS + 1)
    return tuple(float(level) for level in mean_level(*decoding(round_.requests), edges))


def _waits(waits: Sequence[float]) -> dict[str, float]:
    values = {"time_to_first_token": float(np.median(waits))}
    for percent in (90, 99):
        if len(waits) * (100 - percent) >= 100 * LEAST_BEYOND:
            values[f"time_to_first_token_p{percent}"] = float(np.percentile(waits, percent))
    return values


def _gaps(requests: Sequence[RequestObservation], window: Window) -> dict[str, float]:
    """Inter-token latencies of the tokens that came in the window."""
    gaps = np.concatenate([token_gaps(request)[_came_in(request, window)] for request in requests])
    values = {"inter_token_latency": float(np.median(gaps))} if gaps.size else {}
    if gaps.size >= 100 * LEAST_BEYOND:
        values["inter_token_latency_p99"] = float(np.percentile(gaps, 99))
    return values


def _came_in(request: RequestObservation, window: Window) -> NDArray[np.bool_]:
    """For each token after the first chunk, whether it came in the window."""
    at = np.repeat(request.arrivals[1:], np.diff(request.tokens))
    return np.asarray((at >= window.begin) & (at <= window.end))


def _rates(
    requests: Sequence[RequestObservation],
    inside: Sequence[RequestObservation],
    window: Window,
    objective: Objective,
) -> dict[str, float]:
    finished = sum(window.holds(request.arrivals[-1]) for request in requests)
    tokens = sum(_tokens_in(request, window) for request in requests)
    good = sum(map(objective.met, inside))
    level = mean_level(*decoding(requests), np.array([window.begin, window.end]))[0]
    rates = {
        "request_throughput": finished / window.seconds,
        "output_throughput": tokens / window.seconds,
        "goodput": good / window.seconds,
        "batch_size": float(level),
    }
    return {name: value for name, value in rates.items() if value > 0}


def _tokens_in(request: RequestObservation, window: Window) -> int:
    begin, end = (bisect_right(request.arrivals, time) for time in (window.begin, window.end))
    known = (0, *request.tokens)
    return known[end] - known[begin]


def service_gates(
    round_: RoundObservation, service: Service, due: Sequence[float], limits: Limits
) -> tuple[Gate, ...]:
    """Why the timings of a round of load cannot be believed.

    Args:
        round_: a round in which no request failed.
        due: when each request was to be sent, shape (requests,); empty for a closed loop.
    """
    window = steady_window(round_.requests, service)
    inside = [request for request in round_.requests if window.holds(request.sent)]
    return (
        *sent_late(round_.requests, due, limits),
        *_unsteady(round_.requests, window, service),
        *_too_short(len(inside)),
        *_never_good(inside, service.objective),
    )


def sent_late(
    requests: Sequence[RequestObservation], due: Sequence[float], limits: Limits
) -> tuple[Gate, ...]:
    """Whether an open loop was the one that was planned: another pattern of arrivals is another load.

    Args:
        due: when each request was to be sent; empty for a closed loop, where none has a time of its own.
    """
    if not due:
        return ()
    worst = max(request.sent - at for request, at in zip(requests, due, strict=True))
    wait = float(np.median([request.arrivals[0] - request.sent for request in requests]))
    bound = max(limits.client_lag_floor, limits.client_lag_share * wait)
    if worst <= bound:
        return ()
    late = Gate(
        "sent-late",
        f"the client sent a request {worst * 1e3:.1f} ms after its time, more than {bound * 1e3:.1f} ms: something else uses "
        "its processor",
        timing_only=True,
    )
    return (late,)


def _unsteady(requests: Sequence[RequestObservation], window: Window, service: Service) -> Iterator[Gate]:
    load = window.end - window.since
    unserved = unserved_share(requests, window) if service.open else 0.0
    if unserved > UNSERVED_SHARE:
        yield Gate(
            "saturated",
            f"the server did not keep up: of the requests that came in the window, {unserved:.0%} more were unanswered at its "
            "end than at its beginning, so what they waited is no latency but a backlog. Offer less (requests and seconds "
            "under workloads in the profile)",
            timing_only=True,
        )
    elif window.begin - window.since > LATEST_BEGIN * load:
        share = (window.begin - window.since) / load
        yield Gate(
            "not-steady",
            f"no steady state: as much was going on as on average only after {share:.0%} of the {load:.1f} s that the load "
            "lasted. Make the round longer or offer less (under workloads in the profile)",
            timing_only=True,
        )


def unserved_share(requests: Sequence[RequestObservation], window: Window) -> float:
    """By how much fewer requests were answered in the window than came, as a share of those that came."""
    came = sum(window.holds(request.sent) for request in requests)
    answered = sum(window.holds(request.arrivals[-1]) for request in requests)
    return 1 - answered / came if came else 0.0


def _too_short(inside: int) -> Iterator[Gate]:
    if inside < LEAST_REQUESTS:
        yield Gate(
            "window-too-short",
            f"{inside} requests were sent in the window, fewer than {LEAST_REQUESTS}: give the round more of them (under "
            "workloads in the profile)",
            timing_only=True,
        )


def _never_good(inside: Sequence[RequestObservation], objective: Objective) -> Iterator[Gate]:
    if inside and not any(map(objective.met, inside)):
        yield Gate(
            "objective-never-met",
            f"no request had its first token within {objective.time_to_first_token * 1e3:.0f} ms and its further ones within "
            f"{objective.time_per_output_token * 1e3:.0f} ms each: the server is too slow for this load, or the objective "
            "(under workloads in the profile) too strict",
            metrics=("goodput",),
        )


def good_share(round_: RoundObservation, objective: Objective) -> float:
    """Share of the later half of a round's requests, in the order of sending, that met the objective.

    While the first half is sent a server that was empty fills.
    """
    later = sorted(round_.requests, key=lambda request: request.sent)[len(round_.requests) // 2 :]
    return sum(map(objective.met, later)) / len(later)
