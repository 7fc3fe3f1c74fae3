"""From a round's raw observations to one value per metric.

Every figure is computed here and nowhere else, by one formula for all SGLang versions, so that
two targets are never compared through two definitions. Definitions: docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sglperf.core.observation import RequestObservation, RoundObservation
from sglperf.core.timeline import phase_values

FloatArray = NDArray[np.float64]

CURVE_POINTS = 16
"""Points to which the inter-token latencies of a round are reduced, evenly along the generation."""


def derive(round_: RoundObservation) -> dict[str, float]:
    """Compute every metric that the round's observations support.

    Args:
        round_: a round in which no request failed.

    Returns:
        Metric name → value in the metric's own unit (core.catalogue). A metric whose quantity did not
        occur, such as inter-token latency where one token was generated, is absent.
    """
    values = dict(counts(round_))
    values["time_to_first_token"] = float(np.median([r.arrivals[0] - r.sent for r in round_.requests]))
    values |= _hit_and_miss(round_)
    values |= phase_values(round_)
    if "prompt_tokens" in values:
        values["prefill_throughput"] = values["prompt_tokens"] / _prefill_seconds(round_)
    gaps = np.concatenate([token_gaps(request) for request in round_.requests])
    if gaps.size:
        values["inter_token_latency"] = float(np.median(gaps))
        values["inter_token_latency_p99"] = float(np.percentile(gaps, 99))
        values |= _growth(round_)
    throughput = _decode_throughput(round_.requests)
    if throughput is not None:
        values["decode_throughput"] = throughput
    return values


def _hit_and_miss(round_: RoundObservation) -> dict[str, float]:
    """Time to first token with and without the prefix cache, where a round has both."""
    waits: dict[bool, list[float]] = {False: [], True: []}
    for request in round_.requests:
        waits[bool(request.cached_tokens)].append(request.arrivals[0] - request.sent)
    if not all(waits.values()):
        return {}
    miss, hit = float(np.median(waits[False])), float(np.median(waits[True]))
    return {
        "time_to_first_token_miss": miss,
        "time_to_first_token_hit": hit,
        "prefix_cache_speedup": miss / hit,
    }


def growth(nodes: Sequence[int], match: Sequence[float], evict: Sequence[float]) -> dict[str, float]:
    """Cost of the prefix cache's operations in its largest tree, and how it grew from the smallest.

    Args:
        nodes: of each tree, ascending; shape (trees,).
        match, evict: seconds of a lookup and of an eviction in each; shape (trees,).

    Returns:
        Metric name → value. The exponent is the slope of log time over log nodes, by least squares.
    """
    values = {}
    for name, seconds in (("match", match), ("eviction", evict)):
        values[f"prefix_{name}_time"] = float(seconds[-1])
        values[f"prefix_{name}_growth"] = float(seconds[-1] / seconds[0])
        values[f"prefix_{name}_exponent"] = float(np.polyfit(np.log(nodes), np.log(seconds), 1)[0])
    return values


def token_gaps(request: RequestObservation) -> FloatArray:
    """Inter-token latencies of one request, seconds; shape (completion tokens - tokens of the first chunk,).

    A chunk that carries k tokens says only when the last of them had come, so its gap is shared evenly.
    One that carries none is left out: its time belongs to the wait for the next token.
    """
    tokens = np.asarray(request.tokens, dtype=int)
    carrying = np.diff(tokens, prepend=0) > 0
    counts = np.diff(tokens[carrying])
    return np.repeat(np.diff(np.asarray(request.arrivals, dtype=float)[carrying]) / counts, counts)


def counts(round_: RoundObservation) -> Iterator[tuple[str, float]]:
    """The round's exact metrics, as far as the server says them."""
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "retractions"):
        said = [getattr(request, name) for request in round_.requests]
        if None not in said:
            yield name, float(sum(said))
    for name in ("prefill_tokens", "decode_tokens", "evicted_tokens"):
        if name in round_.counters:
            yield name, float(round_.counters[name])


def _prefill_seconds(round_: RoundObservation) -> float:
    """From sending the first request to the last first token."""
    begin = min(request.sent for request in round_.requests)
    return max(request.arrivals[0] for request in round_.requests) - begin


def _decode_throughput(requests: tuple[RequestObservation, ...]) -> float | None:
    """Tokens per second over the window in which all streams decode: the last first token to the first last one.

    Outside that window the batch is filling or draining, which is prefill's matter or the tail's.
    """
    begin = max(request.arrivals[0] for request in requests)
    end = min(request.arrivals[-1] for request in requests)
    if end <= begin:
        return None
    return sum(_tokens_between(request, begin, end) for request in requests) / (end - begin)


def _tokens_between(request: RequestObservation, begin: float, end: float) -> float:
    """Tokens that arrived in (begin, end], counting a chunk that straddles an edge by its share of time."""
    at = np.interp([begin, end], request.arrivals, request.tokens)
    return float(at[1] - at[0])


def latency_curve(round_: RoundObservation) -> tuple[tuple[float, float], ...]:
    """Inter-token latency against the tokens in a stream's KV cache, which its step reads: shape (points, 2), seconds.

    Of streams with equal prompts, the median at each position, and of that the median in each of `CURVE_POINTS`
    stretches; empty where prompts differ.
    """
    prompts = {request.prompt_tokens for request in round_.requests}
    latency = _by_position(round_)
    (prompt,) = prompts if len(prompts) == 1 else (None,)
    if prompt is None or not latency.size:
        return ()
    cached = prompt + 1 + np.arange(latency.size)
    stretches = np.array_split(np.arange(latency.size), min(CURVE_POINTS, latency.size))
    return tuple((float(np.mean(cached[one])), float(np.median(latency[one]))) for one in stretches)


def _by_position(round_: RoundObservation) -> FloatArray:
    """Inter-token latency at each position of the generation: the median over streams, since they share one batch."""
    curves = [token_gaps(request) for request in round_.requests]
    length = min(curve.size for curve in curves)
    return np.median([curve[:length] for curve in curves], axis=0) if length else np.empty(0)


def _growth(round_: RoundObservation) -> dict[str, float]:
    """Slope of inter-token latency over KV length, and the growth it amounts to over the generation.

    Theil–Sen (Sen 1968): the median of all pairwise slopes, which up to 29 % of spiked gaps cannot move,
    through the median residual; the line through the medians would be lifted by spikes that all go up.
    Streams are first reduced to their median at each position, since they share one batch.
    """
    curve = _by_position(round_)
    length = curve.size
    if length < 8:  # a line through fewer points says nothing about growth
        return {}
    from scipy.stats import theilslopes  # half a second to import: only where it is used

    slope, start, _, _ = theilslopes(curve, np.arange(length), method="joint")
    end = start + slope * (length - 1)
    if start <= 0 or end <= 0:  # noise larger than the latency itself: no growth can be read
        return {"inter_token_latency_slope": float(slope)}
    return {"inter_token_latency_slope": float(slope), "inter_token_latency_growth": float(end / start)}
