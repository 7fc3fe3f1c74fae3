"""Whether a round may be believed. One that fails a gate yields no sample, or only exact ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sglperf.core.catalogue import METRICS
from sglperf.core.derive import token_gaps
from sglperf.core.gpu_watch import GpuWatched
from sglperf.core.metric import Kind
from sglperf.core.observation import RoundObservation
from sglperf.core.timeline import PHASES, TO_BATCH, disagreement, timelines

NO_TRACE = "no-trace"
"""Code of the gate that a round fails in which the server's profiler left nothing."""


@dataclass(frozen=True)
class Gate:
    """A gate that a round failed: a stable code for machines, a sentence for people.

    Attributes:
        timing_only: the round's timings cannot be believed; its exact counts can, since no neighbour moves them.
        metrics: those that cannot be believed; None for all.
    """

    code: str
    sentence: str
    timing_only: bool = False
    metrics: tuple[str, ...] | None = None

    def spoils(self, metric: str) -> bool:
        """Whether it leaves no value of this metric standing."""
        exact = metric in METRICS and METRICS[metric].kind is Kind.EXACT
        return (self.metrics is None or metric in self.metrics) and not (exact and self.timing_only)


@dataclass(frozen=True)
class Limits:
    """What the instrument is allowed.

    Attributes:
        client_lag_share: largest p99 lag of the client, as a share of the median latency that it times.
        client_lag_floor: lag in seconds below which the share does not matter.
        foreign_cpu_share: largest share of the processors that anything but the run may use. Threads of a CPU
            server wait for one another at each operation, so a neighbour that takes one core may cost it not half
            its speed but nine tenths.
        clock_seconds: by how much the server's times may contradict the client's. A token's way to the client, which
            is no part of the server's own time, takes a millisecond or two.
    """

    client_lag_share: float = 0.5
    client_lag_floor: float = 0.002
    foreign_cpu_share: float = 0.25
    clock_seconds: float = 0.005


@dataclass(frozen=True)
class Asked:
    """What a round was meant to be.

    Attributes:
        prompt_tokens, completion_tokens: per request, in plan order; shape (requests,).
        cold: no prompt token may come from the prefix cache.
        graphs: decode passes are meant to replay CUDA graphs.
        timeline: each request's life is to be told, phase by phase.
    """

    prompt_tokens: tuple[int, ...]
    completion_tokens: tuple[int, ...]
    cold: bool
    graphs: bool = False
    timeline: bool = False


# Decode passes that ran kernel by kernel, since no captured graph fitted.
_FALLBACK = "cuda_graph_passes_total{mode=decode_none}"

_COUNTED_TWICE = {
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "completion_tokens",
    "cached_tokens_total": "cached_tokens",
}


def failed_gates(round_: RoundObservation, asked: Asked, limits: Limits) -> tuple[Gate, ...]:
    """All gates that the round fails, in the order in which they should be looked into."""
    failed = (*_request_gates(round_, asked), *_broken_gpus(round_.gpus))
    return failed or tuple(_health_gates(round_, asked, limits))


def _request_gates(round_: RoundObservation, asked: Asked) -> Iterator[Gate]:
    if not round_.requests or len(round_.requests) != len(asked.completion_tokens):
        answered, sent = len(round_.requests), len(asked.completion_tokens)
        yield Gate("request-missing", f"{answered} of {sent} requests came back")
    for request in round_.requests:
        if request.error is not None:
            yield Gate("request-failed", f"request {request.index}: {request.error}")
            return
        if not request.arrivals:
            yield Gate("request-failed", f"request {request.index} got no token")
            return
    for request, prompt, completion in zip(
        round_.requests, asked.prompt_tokens, asked.completion_tokens, strict=False
    ):
        if (request.prompt_tokens, request.completion_tokens) != (prompt, completion):
            yield Gate(
                "wrong-length",
                f"request {request.index}: asked {prompt} → {completion} tokens, the server counted "
                f"{request.prompt_tokens} → {request.completion_tokens} ({request.finish_reason})",
            )
            return


def _health_gates(round_: RoundObservation, asked: Asked, limits: Limits) -> Iterator[Gate]:
    cached = [request.cached_tokens for request in round_.requests]
    if asked.cold and None in cached:
        yield Gate("cache-unknown", "the server did not say what came from the prefix cache")
    elif asked.cold and any(cached):
        tokens = sum(some or 0 for some in cached)
        yield Gate(
            "cache-not-cold", f"{tokens} prompt tokens came from the prefix cache, though it had been flushed"
        )
    yield from _counter_gates(round_)
    yield from _timeline_gates(round_, asked, limits)
    yield from _graph_gates(round_, asked)
    yield from host_gates(round_.foreign_cpu, limits)
    yield from _disturbed_gpus(round_.gpus)
    latency = _latency_timed(round_)
    bound = max(limits.client_lag_floor, limits.client_lag_share * latency)
    if not round_.client.lag_p99 <= bound:  # so that NaN fails it
        yield Gate(
            "client-lag",
            f"the client was late by {round_.client.lag_p99 * 1e3:.1f} ms (p99), more than {bound * 1e3:.1f} ms: "
            "something else uses its processor",
            timing_only=True,
        )


def host_gates(foreign: float | None, limits: Limits) -> Iterator[Gate]:
    """Whether the machine was the round's own, by the share of its processors that something else used."""
    if foreign is not None and not foreign <= limits.foreign_cpu_share:
        yield Gate(
            "host-busy",
            f"something else used {foreign:.0%} of the processors, more than {limits.foreign_cpu_share:.0%}: "
            "end it, or run again when the machine is quiet",
            timing_only=True,
        )


def _counter_gates(round_: RoundObservation) -> Iterator[Gate]:
    """The server counts tokens twice: for each response, and in all. Where the two differ, neither can be believed."""
    for counter, name in _COUNTED_TWICE.items():
        counted, said = round_.counters.get(counter), [getattr(request, name) for request in round_.requests]
        if counted is not None and None not in said and counted != sum(said):
            yield Gate(
                "counters-disagree",
                f"the responses add up to {sum(said)} {name.replace('_', ' ')}, the server's counter {counter} rose by "
                f"{counted:.0f}: one of the two is wrong",
            )


def _timeline_gates(round_: RoundObservation, asked: Asked, limits: Limits) -> Iterator[Gate]:
    """Whether client and server tell one story. What the client alone has timed stands without that."""
    if not asked.timeline:
        return
    found = timelines(round_)
    phases = (TO_BATCH, *(f"phase_{name}" for name in PHASES))
    if len(found) < len(round_.requests):
        yield Gate(
            "no-server-times",
            "the server does not say when it received, dispatched, scheduled and prefilled a request, so its life cannot "
            "be told: start it with --enable-metrics",
            metrics=phases,
        )
    elif not (apart := disagreement(found)) <= limits.clock_seconds:
        yield Gate(
            "clocks-disagree",
            f"the server's times contradict the client's by {apart * 1e3:.1f} ms, more than {limits.clock_seconds * 1e3:.0f} "
            "ms: something holds tokens back between the two, or the machine's clock was set",
            timing_only=True,
            metrics=phases,
        )


def _latency_timed(round_: RoundObservation) -> float:
    """The shortest latency that the round times, seconds: median gap, or time to first token where there is none."""
    gaps = sorted(float(gap) for request in round_.requests for gap in token_gaps(request))
    if gaps:
        return gaps[len(gaps) // 2]
    waits = sorted(request.arrivals[0] - request.sent for request in round_.requests)
    return waits[len(waits) // 2]


def _graph_gates(round_: RoundObservation, asked: Asked) -> Iterator[Gate]:
    passes = round_.counters.get(_FALLBACK, 0)
    if asked.graphs and passes:
        yield Gate(
            "graph-fallback",
            f"{_counted(round(passes), 'decode pass', 'es')} ran outside CUDA graphs: capture graphs for as many streams "
            "(--cuda-graph-max-bs-decode under server_arguments), or see the server's log for why they were not",
            timing_only=True,
        )


def gpu_gates(watched: Sequence[GpuWatched]) -> tuple[Gate, ...]:
    """What forbids to believe what was measured on these GPUs, the gravest first."""
    return (*_broken_gpus(watched), *_disturbed_gpus(watched))


def _broken_gpus(watched: Sequence[GpuWatched]) -> Iterator[Gate]:
    """A lost GPU or wrong memory spoils counts too."""
    for gpu in watched:
        if gpu.lost is not None:
            yield Gate(
                "gpu-lost",
                f"GPU {gpu.index} no longer answers ({gpu.lost}): see dmesg for its Xid, and reset it or choose another "
                "with --tp-gpus",
            )
        if gpu.new_ecc_errors:
            yield Gate(
                "gpu-ecc",
                f"GPU {gpu.index} had {_counted(gpu.new_ecc_errors, 'uncorrected memory error')}: what it computed may be wrong. "
                "Choose another with --tp-gpus",
            )


def _disturbed_gpus(watched: Sequence[GpuWatched]) -> Iterator[Gate]:
    for gpu in watched:
        if gpu.throttled:
            yield Gate(
                "gpu-throttled",
                f"GPU {gpu.index} was slowed down ({', '.join(gpu.throttled)}){_at(gpu)}: see to its cooling and power",
                timing_only=True,
            )
        if gpu.foreign:
            pids = ", ".join(map(str, gpu.foreign))
            yield Gate(
                "gpu-shared",
                f"another process computes on GPU {gpu.index} (pid {pids}): end it, or choose another with --tp-gpus",
                timing_only=True,
            )


def _at(gpu: GpuWatched) -> str:
    said = [f"{gpu.slowest_mhz} MHz"] if gpu.slowest_mhz is not None else []
    said += [f"{gpu.hottest_c} °C"] if gpu.hottest_c is not None else []
    return f" to {' at '.join(said)}" if said else ""


def _counted(number: int, what: str, ending: str = "s") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{ending}"
