"""All-reduce: how large a model's messages are, and the bandwidth that a time amounts to."""

from __future__ import annotations

from dataclasses import dataclass

from sglperf.core.server_config import Model

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Message:
    """The hidden states of a pass, of which each rank has a part of the sum.

    Attributes:
        elements: hidden size × tokens.
        type: torch's name of theirs.
    """

    elements: int
    type: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * _BYTES[self.type]


def message_of(model: Model, tokens: int) -> Message | None:
    """The message of a pass of so many tokens; None for a model whose hidden size or type is not known."""
    hidden, kind = model.config.get("hidden_size"), str(model.config.get("torch_dtype", "bfloat16"))
    return Message(int(str(hidden)) * tokens, kind) if hidden and kind in _BYTES else None


def allreduce_values(
    message: Message, ranks: int, seconds: float, streamed_seconds: float
) -> dict[str, float]:
    """Metric name → value.

    Args:
        seconds: of a call by itself, which is the latency.
        streamed_seconds: of one of many calls in a row, which is what bandwidth is taken from.

    Bus bandwidth is what each rank's link carries: of S bytes over N ranks, the best algorithm sends and receives
    2 (N - 1) / N · S at each (NCCL-tests, doc/PERFORMANCE.md). So it can be held against the link's own whatever N is.
    """
    bandwidth = message.size / streamed_seconds
    return {
        "allreduce_time": seconds,
        "allreduce_streamed_time": streamed_seconds,
        "allreduce_message": float(message.size),
        "allreduce_bandwidth": bandwidth,
        "allreduce_bus_bandwidth": bandwidth * 2 * (ranks - 1) / ranks,
    }
