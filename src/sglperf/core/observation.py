"""What one round leaves behind: raw facts, before any metric is computed from them.

All times are seconds on the client's monotonic clock, counted from the round's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sglperf.core.gpu_watch import GpuWatched


@dataclass(frozen=True)
class RequestObservation:
    """One request as the client saw it.

    Attributes:
        index: position in the workload's plan, from 0.
        sent: when the request's last byte was handed to the socket.
        arrivals: when each streamed chunk that brought a new token arrived, ascending; shape (chunks,).
        tokens: completion tokens received up to and including each of them, strictly ascending; shape (chunks,).
        finished: when the response ended.
        prompt_tokens, completion_tokens, cached_tokens: as the server counted them
            (``meta_info`` of the last chunk); None where it did not say.
        finish_reason: the server's word for why it stopped (``length``, ``stop``, ``abort``).
        error: what went wrong, or None. A request with an error has no usable timing.
        server: the server's own timings in seconds (``queue_time``, ``e2e_latency``, …).
        output_ids: the tokens generated, where the server streamed ids; else empty.
        retractions: how often it was taken out of the batch again, by the server's count; None where it did not say.
    """

    index: int
    sent: float
    arrivals: tuple[float, ...]
    tokens: tuple[int, ...]
    finished: float
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    finish_reason: str | None
    error: str | None = None
    server: Mapping[str, float] = field(default_factory=dict)
    output_ids: tuple[int, ...] = ()
    retractions: int | None = None


@dataclass(frozen=True)
class ClientHealth:
    """Whether the instrument kept up during a round.

    Attributes:
        lag_p99, lag_max: how late the client's own heartbeat fired, seconds.
        beats: how many heartbeats the two figures rest on.
        cpu_seconds: processor time the client used.
        wall_seconds: length of the round.
        realtime: whether the operating system let the client run ahead of everything else in the round. Without
            that, and with the server on the same cores, milliseconds of lag are usual.
        began: when the round began by the machine's clock, seconds since 1970; None where it was not noted.
    """

    lag_p99: float
    lag_max: float
    beats: int
    cpu_seconds: float
    wall_seconds: float
    realtime: bool = False
    began: float | None = None


@dataclass(frozen=True)
class RoundObservation:
    """One execution of a workload on a launch.

    Attributes:
        requests: in plan order.
        client: the instrument's own health.
        counters: the server's Prometheus counters, after minus before, summed over labels.
        foreign_cpu: share of the processors that something other than the run used meanwhile, 0 to 1; None
            where the system does not tell.
        gpus: what the server's GPUs did meanwhile; empty on a CPU.
    """

    requests: tuple[RequestObservation, ...]
    client: ClientHealth
    counters: Mapping[str, float] = field(default_factory=dict)
    foreign_cpu: float | None = None
    gpus: tuple[GpuWatched, ...] = ()
