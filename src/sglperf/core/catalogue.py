"""Every metric the suite knows, in the order in which tables show them."""

from __future__ import annotations

from sglperf.core.metric import Better, Kind, Metric
from sglperf.core.timeline import PHASES, TO_BATCH

DIVERGING = "diverging_answers"
"""The metric that is found by comparing a server's answers with another's."""

STARTUP = "startup_seconds"
"""The metric of a launch rather than of a round."""

_METRICS = (
    Metric(
        "time_to_first_token",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "from sending a request to its first token; median over the round's requests",
    ),
    Metric(
        "time_to_first_token_p90",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "90th percentile over the requests sent in the window of a round of load",
    ),
    Metric(
        "time_to_first_token_p99",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "99th percentile of the same, where 500 requests support it; judged through the 90th",
        judged=False,
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
        "prefix_match_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "looking up a prompt that is in the prefix cache, by its tree's own operation; median",
    ),
    Metric(
        "prefix_match_growth",
        "ratio",
        Better.LOWER,
        Kind.TIMING,
        "that time over the time in a tree with a tenth of the nodes",
    ),
    Metric(
        "prefix_match_exponent",
        "ratio",
        Better.LOWER,
        Kind.TIMING,
        "x where that time grows as nodes to the power of x; judged through its growth, since an exponent may be zero",
        judged=False,
        signed=True,
    ),
    Metric(
        "prefix_eviction_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "making room for one page in the prefix cache, by its tree's own operation; median",
    ),
    Metric(
        "prefix_eviction_growth",
        "ratio",
        Better.LOWER,
        Kind.TIMING,
        "that time over the time in a tree with a tenth of the nodes",
    ),
    Metric(
        "prefix_eviction_exponent",
        "ratio",
        Better.LOWER,
        Kind.TIMING,
        "x where that time grows as nodes to the power of x; judged through its growth, since an exponent may be zero",
        judged=False,
        signed=True,
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
        signed=True,
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
        "output_throughput",
        "tok/s",
        Better.HIGHER,
        Kind.TIMING,
        "tokens that arrive in the window of a round of load, per second",
    ),
    Metric(
        "request_throughput",
        "req/s",
        Better.HIGHER,
        Kind.TIMING,
        "requests answered in the window, per second; judged through the tokens, since all requests are the same ones",
        judged=False,
    ),
    Metric(
        "goodput",
        "req/s",
        Better.HIGHER,
        Kind.TIMING,
        "requests sent in the window that met the objective, per second",
    ),
    Metric(
        "saturation_rate",
        "req/s",
        Better.HIGHER,
        Kind.TIMING,
        "highest rate of arrivals at which nine requests in ten meet the objective, by search",
    ),
    Metric(
        "queue_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "wait for the first pass, by the server's own account; median over the window's requests; part of the time to "
        "first token, and judged through it",
        judged=False,
    ),
    Metric(
        "batch_size",
        "req",
        Better.SAME,
        Kind.TIMING,
        "requests that decode at once, on average over the window, as the client sees it",
        judged=False,
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
        "retractions",
        "req",
        Better.LOWER,
        Kind.EXACT,
        "how often a request was taken out of the batch again to make room",
    ),
    Metric(
        "kv_capacity_tokens",
        "tok",
        Better.HIGHER,
        Kind.EXACT,
        "tokens that the KV cache holds",
    ),
)


def _kernel(name: str, what: str) -> tuple[Metric, Metric]:
    return (
        Metric(f"{name}_time", "s", Better.LOWER, Kind.TIMING, f"{what}: one call, with a cold cache"),
        Metric(
            f"{name}_limit_share",
            "ratio",
            Better.HIGHER,
            Kind.TIMING,
            f"{what}: the least time that its bytes and operations take at this machine's measured limits, over the time",
            judged=False,
        ),
    )


_KERNELS = {
    "attention": "attention of one layer over the paged KV cache, with storing new keys and values",
    "qkv_proj": "matrix product for queries, keys and values",
    "rope": "rotary position embedding of queries and keys",
    "o_proj": "matrix product after attention",
    "rms_norm": "root mean square normalization with the residual added, before the feed-forward layer",
    "gate_up_proj": "matrix product into the feed-forward layer",
    "activation": "gated activation of the feed-forward layer",
    "down_proj": "matrix product out of the feed-forward layer",
    "lm_head": "logits of each sequence's last token",
    "sampling": "choice of each sequence's next token",
}

_ANSWERS = Metric(
    DIVERGING,
    "answers",
    Better.LOWER,
    Kind.EXACT,
    "greedy answers that part from those of the first server of the comparison, or, from the cache, from its own cold "
    "ones, at a token that rounding does not explain",
)

_PASS_METRICS = (
    Metric(
        "pass_kernel_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "all kernels of a forward pass of the whole model: each one's time by its number of calls",
    ),
    Metric(
        "kernel_calls", "calls", Better.LOWER, Kind.EXACT, "module calls in a forward pass of the whole model"
    ),
    Metric(
        "pass_coverage",
        "ratio",
        Better.SAME,
        Kind.TIMING,
        "share of a measured pass (of two layers, without CUDA graphs) that its kernels, timed one by one, account for",
        judged=False,
    ),
    Metric(
        "attention_share",
        "ratio",
        Better.SAME,
        Kind.TIMING,
        "of the time of all kernels of one layer, that of attention over the KV cache",
        judged=False,
    ),
    Metric(
        "gemm_share",
        "ratio",
        Better.SAME,
        Kind.TIMING,
        "of the time of all kernels of one layer, that of its four matrix products",
        judged=False,
    ),
    Metric(
        "attention_bandwidth_share",
        "ratio",
        Better.HIGHER,
        Kind.TIMING,
        "bytes that attention must move, by its time, over the measured bandwidth of a copy",
        judged=False,
    ),
)

_MACHINE = (
    Metric(
        "copy_bandwidth",
        "B/s",
        Better.HIGHER,
        Kind.TIMING,
        "of a large copy on this device, bytes read and bytes written both counted",
    ),
    Metric(
        "matmul_rate",
        "FLOP/s",
        Better.HIGHER,
        Kind.TIMING,
        "of a product of large bf16 matrices on this device",
    ),
    Metric(
        "launch_overhead",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "one small operation of torch from call to result, most of it the host's work",
    ),
    Metric(
        "python_time", "s", Better.LOWER, Kind.TIMING, "a fixed piece of Python in the target's interpreter"
    ),
    Metric(
        "host_to_device_bandwidth",
        "B/s",
        Better.HIGHER,
        Kind.TIMING,
        "of a large copy from pinned memory to the GPU",
    ),
    Metric(
        "device_to_host_bandwidth",
        "B/s",
        Better.HIGHER,
        Kind.TIMING,
        "of a large copy from the GPU to pinned memory",
    ),
)
MACHINE = tuple(metric.name for metric in _MACHINE)
"""Metrics of the machine without SGLang: where they changed, so may all others."""

_START = Metric(
    STARTUP,
    "s",
    Better.LOWER,
    Kind.TIMING,
    "from the start of the server's process until it answers, with no other server coming up beside it",
    min_effect=0.10,
)

_GROUPS = {
    "attention": "attention",
    "gemm": "matrix products",
    "norm": "normalization",
    "collective": "collectives of tensor parallelism",
    "rest": "everything else",
}

_STEP_METRICS = (
    Metric(
        "step_operators",
        "calls",
        Better.LOWER,
        Kind.EXACT,
        "calls of torch's operators in a traced pass, with all that the scheduler does until the next one",
    ),
    Metric(
        "step_kernels",
        "calls",
        Better.LOWER,
        Kind.EXACT,
        "kernels, copies and fills that a traced pass has run on the device; none on a CPU",
    ),
    Metric(
        "step_syncs",
        "calls",
        Better.LOWER,
        Kind.EXACT,
        "how often the host waits for the device in a traced pass; on a CPU, how often it takes a value out of a tensor",
    ),
    Metric(
        "step_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "from one traced decode pass to the next, slowed down by the profiler",
        judged=False,
    ),
    Metric(
        "step_host_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "the part of that in which the scheduler's thread does not wait for the device",
        judged=False,
    ),
    Metric(
        "device_wait_share",
        "ratio",
        Better.LOWER,
        Kind.TIMING,
        "share of traced decoding in which the device has nothing to do, since the host has not come so far",
        judged=False,
    ),
    Metric(
        "hidden_host_share",
        "ratio",
        Better.HIGHER,
        Kind.TIMING,
        "share of the host's work in traced decoding that it does while the device computes",
        judged=False,
    ),
    *(
        Metric(
            f"step_{group}_share",
            "ratio",
            Better.SAME,
            Kind.TIMING,
            f"share of {what} in the time of a traced pass's kernels, on a CPU of its operators",
            judged=False,
        )
        for group, what in _GROUPS.items()
    ),
)

_PHASE_METRICS = (
    Metric(
        TO_BATCH,
        "s",
        Better.LOWER,
        Kind.TIMING,
        "from the server's receipt of a request until it is in a batch: preparation and queue; median over the round's requests",
    ),
    *(
        Metric(
            f"phase_{name}",
            "s",
            Better.LOWER,
            Kind.TIMING,
            f"of a request's life: {what}; median over the round's requests",
            judged=name in ("prefill", "return"),
        )
        for name, what in PHASES.items()
    ),
)

_ALLREDUCE = (
    Metric(
        "allreduce_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "an all-reduce by itself, through torch.distributed; mean over ranks, median over calls",
    ),
    Metric(
        "allreduce_streamed_time",
        "s",
        Better.LOWER,
        Kind.TIMING,
        "one of many all-reduces in a row; mean over ranks",
        judged=False,
    ),
    Metric(
        "allreduce_bandwidth",
        "B/s",
        Better.HIGHER,
        Kind.TIMING,
        "algorithm bandwidth: the message's bytes over the time of one of many in a row",
        judged=False,
    ),
    Metric(
        "allreduce_bus_bandwidth",
        "B/s",
        Better.HIGHER,
        Kind.TIMING,
        "that, by 2 (N - 1) / N: what the link of each of N ranks carries either way",
        judged=False,
    ),
    Metric(
        "allreduce_message",
        "B",
        Better.SAME,
        Kind.TIMING,
        "bytes of the message: hidden size by tokens by bytes of a value",
        judged=False,
    ),
)

METRICS = {
    metric.name: metric
    for metric in (
        *_METRICS,
        _ANSWERS,
        *(one for kernel in _KERNELS.items() for one in _kernel(*kernel)),
        *_PASS_METRICS,
        *_STEP_METRICS,
        *_PHASE_METRICS,
        *_MACHINE,
        _START,
        *_ALLREDUCE,
    )
}
