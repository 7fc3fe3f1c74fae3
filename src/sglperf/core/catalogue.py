"""Every metric the suite knows, in the order in which tables show them."""

from __future__ import annotations

from sglperf.core.metric import Better, Kind, Metric

_METRICS = (
    Metric(
        "time_to_first_token",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "from sending a request to its first token; median over the round's requests",
    ),
    Metric(
        "time_to_first_token_miss",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "time to first token; median over the round's requests of which the prefix cache served nothing",
    ),
    Metric(
        "time_to_first_token_hit",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "time to first token; median over the round's requests of which the prefix cache served a part",
    ),
    Metric(
        "prefix_cache_speedup",
        "ratio",
        Better.HIGHER,
        Kind.TIMING,
        "time to first token without the prefix cache over that with it",
    ),
    Metric(
        "inter_token_latency",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "time between successive tokens of a request; median over all of the round's gaps",
    ),
    Metric(
        "inter_token_latency_p99",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "99th percentile of the same gaps",
    ),
    Metric(
        "inter_token_latency_growth",
        "ratio",
        Better.LOWER,
        Kind.TIMING,
        "fitted inter-token latency at the end of the generation over that at its beginning",
    ),
    Metric(
        "inter_token_latency_slope",
        "s/tok",
        Better.LOWER,
        Kind.TIMING,
        "inter-token latency gained per token in the KV cache; judged through its growth, since a slope may be zero",
        judged=False,
    ),
    Metric(
        "decode_throughput",
        "tok/s",
        Better.HIGHER,
        Kind.TIMING,
        "tokens per second while every stream of the round is decoding",
    ),
    Metric(
        "prefill_throughput",
        "tok/s",
        Better.HIGHER,
        Kind.TIMING,
        "prompt tokens per second, from sending the first request to the last first token",
    ),
    Metric(
        "prompt_tokens",
        "tok",
        Better.SAME,
        Kind.EXACT,
        "prompt tokens of the round, as the server counts them",
    ),
    Metric(
        "completion_tokens",
        "tok",
        Better.SAME,
        Kind.EXACT,
        "tokens generated in the round, as the server counts them",
    ),
    Metric(
        "cached_tokens",
        "tok",
        Better.HIGHER,
        Kind.EXACT,
        "prompt tokens of the round that the prefix cache served",
    ),
    Metric(
        "evicted_tokens",
        "tok",
        Better.LOWER,
        Kind.EXACT,
        "tokens that the prefix cache gave up in the round to make room, from the scheduler's counter",
    ),
    Metric(
        "prefill_tokens",
        "tok",
        Better.LOWER,
        Kind.EXACT,
        "tokens computed by prefill passes, from the scheduler's counter",
    ),
    Metric(
        "decode_tokens",
        "tok",
        Better.LOWER,
        Kind.EXACT,
        "tokens computed by decode passes, from the scheduler's counter",
    ),
    Metric(
        "kv_capacity_tokens",
        "tok",
        Better.HIGHER,
        Kind.EXACT,
        "tokens that the KV cache holds",
    ),
)

METRICS = {metric.name: metric for metric in _METRICS}
