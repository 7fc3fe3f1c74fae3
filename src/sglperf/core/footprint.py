"""How much GPU memory a server takes, from its model's shape and its pinned KV pool: enough to know how many fit."""

from __future__ import annotations

from collections.abc import Sequence

from sglperf.core.server_config import Model, ServerConfig
from sglperf.core.shape import shape_of

# CUDA context, graphs, activations and the attention backend's workspace: 2.4 GiB for an 8B model on an H100 (SGLang
# 0.5.17, Triton, after graph capture), with as much again for a prefill chunk in flight.
_BESIDES_BYTES = 5 * 2**30
_USABLE = 0.95


def fit_together(configs: Sequence[ServerConfig], memory_bytes: int) -> bool:
    """Whether servers of these configs run beside each other on GPUs of this size; False where nobody knows.

    Args:
        memory_bytes: of the smallest GPU of the TP set.
    """
    needed = [gpu_bytes(config) for config in configs]
    known = [some for some in needed if some is not None]
    return len(known) == len(needed) and sum(known) <= _USABLE * memory_bytes


def gpu_bytes(config: ServerConfig) -> int | None:
    """Bytes that a server takes on each GPU of its TP set; None for a model whose shape is not known."""
    held = held_bytes(config.model, config.max_total_tokens)
    return None if held is None else held // config.tp_size + _BESIDES_BYTES


def held_bytes(model: Model, tokens: int) -> int | None:
    """Bytes of weights and of a KV pool of so many tokens, on all GPUs together; None as of `gpu_bytes`."""
    shape = shape_of(model)
    return None if shape is None else shape.weight_bytes + shape.kv_token_bytes * tokens
