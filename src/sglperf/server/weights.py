"""Weights of a dense Llama that nobody trained, of the size that trained ones have.

SGLang's own dummy weights lie within a thousandth of zero, the norms' too. What a layer adds is then lost in the
rounding of the embedding that it is added to, and the next token depends on the last one alone. That does for timing,
but no answer would tell a wrong attention kernel from a right one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sglperf.core.shape import Shape

SEED = 0
_EMBEDDING = 0.1  # standard deviation of what a token begins with; a layer adds more than that
Weights = NDArray[np.float16]


def random_weights(shape: Shape) -> dict[str, Weights]:
    """Tensors by the names of a Hugging Face checkpoint; the same on every machine.

    A matrix keeps the variance of what it multiplies, and norms are the identity.
    """
    source = np.random.RandomState(SEED)  # whose stream numpy has frozen; its new generators' is not
    return {name: _values(name, size, source) for name, size in _sizes(shape)}


def _sizes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, queries, keys = shape.hidden, shape.heads * shape.head, shape.kv_heads * shape.head
    yield "model.embed_tokens.weight", (shape.vocabulary, hidden)
    for number in range(shape.layers):
        layer = f"model.layers.{number}"
        yield f"{layer}.input_layernorm.weight", (hidden,)
        for name, rows in {"q": queries, "k": keys, "v": keys}.items():
            yield f"{layer}.self_attn.{name}_proj.weight", (rows, hidden)
        yield f"{layer}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
        for name in ("gate", "up"):
            yield f"{layer}.mlp.{name}_proj.weight", (shape.intermediate, hidden)
        yield f"{layer}.mlp.down_proj.weight", (hidden, shape.intermediate)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (shape.vocabulary, hidden)


def _values(name: str, size: tuple[int, ...], source: np.random.RandomState) -> Weights:
    if len(size) == 1:
        return np.ones(size, dtype=np.float16)
    spread = _EMBEDDING if "embed" in name else 1 / math.sqrt(size[1])
    return (source.standard_normal(size) * spread).astype(np.float16)
