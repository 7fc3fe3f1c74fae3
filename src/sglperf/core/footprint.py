"""How much GPU memory a server takes, from its model's shape and its pinned KV pool: enough to know whether two fit."""

from __future__ import annotations

from sglperf.core.server_config import Model, ServerConfig

# CUDA context, graphs, activations and the attention backend's workspace: 2.4 GiB for an 8B model on an H100 (SGLang
# 0.5.17, Triton, after graph capture), with as much again for a prefill chunk in flight.
_BESIDES_BYTES = 5 * 2**30
_USABLE = 0.95
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


def fits_twice(config: ServerConfig, memory_bytes: int) -> bool:
    """Whether two servers of this config run beside each other on GPUs of this size; False where nobody knows.

    Args:
        memory_bytes: of the smallest GPU of the TP set.
    """
    needed = gpu_bytes(config)
    return needed is not None and 2 * needed <= _USABLE * memory_bytes


def gpu_bytes(config: ServerConfig) -> int | None:
    """Bytes that a server takes on each GPU of its TP set; None for a model whose shape is not known."""
    shape = _shape(config.model)
    if shape is None:
        return None
    weights, kv_token = shape
    return (weights + kv_token * config.max_total_tokens) // config.tp_size + _BESIDES_BYTES


def _shape(model: Model) -> tuple[int, int] | None:
    """Bytes of a dense Llama's weights, and of one token in its KV cache."""
    try:
        numbers = {
            name: int(str(model.config[name]))
            for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        }  # fmt: skip
    except (KeyError, ValueError):
        return None
    if any("expert" in name for name in model.config):
        return None
    size = _BYTES.get(str(model.config.get("torch_dtype", "bfloat16")), 4)
    hidden, heads = numbers["hidden_size"], numbers["num_attention_heads"]
    kv_heads = int(str(model.config.get("num_key_value_heads", heads)))
    head = int(str(model.config.get("head_dim", hidden // heads)))
    attention = hidden * head * (2 * heads + 2 * kv_heads)
    layer = attention + 3 * hidden * numbers["intermediate_size"]
    weights = numbers["num_hidden_layers"] * layer + 2 * numbers["vocab_size"] * hidden
    return weights * size, 2 * numbers["num_hidden_layers"] * kv_heads * head * size
