"""A dense Llama's dimensions, from the ``config.json`` that describes it."""

from __future__ import annotations

from dataclasses import dataclass

from sglperf.core.server_config import Model

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Shape:
    """Dimensions of a dense Llama.

    Attributes:
        hidden, intermediate: width of the residual stream, and of the feed-forward layer.
        layers, heads, kv_heads: how many.
        head: width of a head.
        vocabulary: number of tokens.
        value_bytes: bytes of a weight or an activation.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    value_bytes: int

    @property
    def weight_bytes(self) -> int:
        """All weights, with an embedding and a head of their own."""
        attention = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate
        return (self.layers * layer + 2 * self.vocabulary * self.hidden) * self.value_bytes

    @property
    def kv_token_bytes(self) -> int:
        """One token's keys and values in all layers."""
        return 2 * self.layers * self.kv_heads * self.head * self.value_bytes


def shape_of(model: Model) -> Shape | None:
    """The model's dimensions; None for one whose config is not known, or that is no dense Llama."""
    config = model.config
    try:
        hidden, heads = _number(model, "hidden_size"), _number(model, "num_attention_heads")
        return (
            Shape(
                hidden=hidden,
                intermediate=_number(model, "intermediate_size"),
                layers=_number(model, "num_hidden_layers"),
                heads=heads,
                kv_heads=_number(model, "num_key_value_heads", heads),
                head=_number(model, "head_dim", hidden // heads),
                vocabulary=_number(model, "vocab_size"),
                value_bytes=_BYTES.get(str(config.get("torch_dtype", "bfloat16")), 4),
            )
            if not any("expert" in name for name in config)
            else None
        )
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def _number(model: Model, name: str, default: int | None = None) -> int:
    """An entry; some configs spell "the default" as null."""
    value = model.config.get(name)
    value = default if value is None else value
    if value is None:
        raise KeyError(name)
    return int(str(value))
