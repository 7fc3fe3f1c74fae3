"""What a module of a model must give, in float64: the formulas written out, on the module's own weights.

A difference is the root mean square of the differences, over that of the values. Attention over n tokens with random
weights is nearly their mean, so leaving m of them out changes it by about sqrt(m / n) in this measure: a page of 16
tokens of 32,768 by 2 %, where rounding to bf16 changes it by 0.2 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

Judge = Callable[[list[torch.Tensor]], list[tuple[torch.Tensor, torch.Tensor]]]
"""From what a call gave to pairs of what it gave and what it should have."""

# What sums of thousands of 32-bit products may be off by.
_FLOAT32 = 1e-5
# Scores of attention that are held at once: half a GiB.
_SCORES = 2**26


def difference(
    module: Any,
    forward: Callable[..., Any],
    runner: Any,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> dict[str, Any]:
    """``{"error", "tolerance"}`` of one call; no error where nobody has written its kind down here.

    Args:
        arguments: of the call; the module may write into their tensors.
    """
    kinds = {kind.__name__ for kind in type(module).__mro__}
    write = next((write for kind, write in REFERENCES.items() if kind in kinds), None)
    expected = None if write is None else write(module, runner, *arguments, **keywords)
    given = list(tensors(forward(*arguments, **keywords)))
    if expected is None:
        return {"error": None, "tolerance": None}
    # Some can tell only once the call is made.
    pairs = expected(given) if callable(expected) else list(zip(given, expected, strict=False))
    return {
        "error": max(float(_relative(got, want)) for got, want in pairs),
        # One step of the coarsest type on the way; rounding to the nearest is off by a fifth of that.
        "tolerance": max(_FLOAT32, *map(_step, (*(got for got, _ in pairs), *arguments))),
    }


def _relative(got: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    return (got.double().reshape(want.shape) - want).norm() / want.norm().clamp(min=1e-30)


def _step(value: Any) -> float:
    floating = isinstance(value, torch.Tensor) and value.dtype.is_floating_point
    return float(torch.finfo(value.dtype).eps) if floating else 0.0


def tensors(result: Any) -> Iterator[torch.Tensor]:
    """The tensors of a result."""
    for one in result if isinstance(result, tuple | list) else [result]:
        found = getattr(one, "next_token_logits", one)
        if isinstance(found, torch.Tensor):
            yield found


def rms_norm(
    module: Any, _: Any, x: torch.Tensor, residual: torch.Tensor | None = None, *__: Any, **___: Any
) -> list[torch.Tensor]:
    """Root mean square normalization, of the sum with the residual where there is one; and that sum."""
    total = x.double() if residual is None else x.double() + residual.double()
    # The sum is kept in the type of the model, and normalized as it is before that.
    scale = torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
    normal = total * scale * module.weight.double()
    return [normal] if residual is None else [normal, total]


def linear(module: Any, _: Any, x: torch.Tensor, *__: Any, **___: Any) -> list[torch.Tensor] | None:
    """A matrix product, plus the bias; None for weights that are not plain numbers."""
    weight = getattr(module, "weight", None)
    if weight is None or weight.dim() != 2 or weight.dtype.itemsize < 2 or weight.shape[1] != x.shape[-1]:
        return None
    product = x.double() @ weight.double().t()
    return [product if getattr(module, "bias", None) is None else product + module.bias.double()]


def embedding(module: Any, _: Any, ids: torch.Tensor, *__: Any, **___: Any) -> list[torch.Tensor]:
    """Rows of a table."""
    return [module.weight[ids].double()]


def rotary(
    module: Any, _: Any, positions: torch.Tensor, q: torch.Tensor, k: torch.Tensor, *__: Any, **___: Any
) -> list[torch.Tensor]:
    """Rotary position embedding; halves turned against each other, or neighbours."""
    cos, sin = module.cos_sin_cache[positions].double().chunk(2, dim=-1)

    def turned(x: torch.Tensor) -> torch.Tensor:
        heads = x.double().reshape(x.shape[0], -1, module.head_size)
        turning, rest = heads[..., : module.rotary_dim], heads[..., module.rotary_dim :]
        c, s = cos[:, None], sin[:, None]
        if module.is_neox_style:
            left, right = turning.chunk(2, dim=-1)
            both = torch.cat([left * c - right * s, right * c + left * s], dim=-1)
        else:
            left, right = turning[..., ::2], turning[..., 1::2]
            both = torch.stack([left * c - right * s, right * c + left * s], dim=-1).flatten(-2)
        return torch.cat([both, rest], dim=-1).reshape(x.shape)

    return [turned(q), turned(k)]


def silu_and_mul(_: Any, __: Any, x: torch.Tensor, *___: Any, **____: Any) -> list[torch.Tensor]:
    """The gated activation of Llama's feed-forward layer."""
    gate, up = x.double().chunk(2, dim=-1)
    return [torch.nn.functional.silu(gate) * up]


def attention(
    module: Any, runner: Any, q: torch.Tensor, _k: Any, _v: Any, batch: Any, *_: Any, **__: Any
) -> Judge:
    """Softmax attention of each sequence's new tokens over all its tokens up to each of them, from the paged pool."""

    def expected(given: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        pool, rows = runner.token_to_kv_pool, runner.req_to_token_pool.req_to_token
        keys, values = pool.get_key_buffer(module.layer_id), pool.get_value_buffer(module.layer_id)
        lengths = batch.seq_lens.tolist()
        news = [1] * len(lengths) if batch.forward_mode.is_decode() else list(batch.extend_seq_lens_cpu)
        queries = q.double().reshape(-1, module.tp_q_head_num, module.qk_head_dim)
        results = []
        for row, length, new in zip(batch.req_pool_indices.tolist(), lengths, news, strict=True):
            slots = rows[row, :length].long()
            mine, queries = queries[:new], queries[new:]
            results.append(_attended(mine, keys[slots].double(), values[slots].double(), module.scaling))
        return [(given[0], torch.cat(results))]

    return expected


def _attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    """Shapes: q (new, heads, width), k and v (tokens, KV heads, width); the last of each are of one time.

    In blocks of query tokens: the scores of 32,000 tokens in 32 heads would take 262 GB at once.
    """
    new, heads, tokens = q.shape[0], q.shape[1], k.shape[0]
    rows = max(_SCORES // (heads * tokens), 1)
    blocks = [_block(q[at : at + rows], k, v, tokens - new + at, scaling) for at in range(0, new, rows)]
    return torch.cat(blocks)


def _block(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, first: int, scaling: float) -> torch.Tensor:
    """The same for some of the query tokens, of which the first is number ``first`` of all tokens."""
    group = q.shape[1] // k.shape[1]
    seen = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool, device=q.device).tril(first)
    queries = q.unflatten(1, (k.shape[1], group))
    scores = torch.einsum("qhgd,khd->hgqk", queries, k) * scaling
    weights = scores.masked_fill_(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hgqk,khd->qhgd", weights, v).reshape(q.shape[0], -1)


def logits(
    _: Any, __: Any, _ids: Any, hidden: torch.Tensor, head: Any, batch: Any, *___: Any, **____: Any
) -> list[torch.Tensor]:
    """The last token's hidden state of each sequence, times the head."""
    news = getattr(batch, "extend_seq_lens", None)
    last = hidden if news is None or batch.forward_mode.is_decode() else hidden[news.long().cumsum(0) - 1]
    return [last.double() @ head.weight.double().t()]


def greedy(_: Any, __: Any, output: Any, *___: Any, **____: Any) -> Judge:
    """The most likely token; of equal ones any."""
    values = output.next_token_logits.double()

    def expected(given: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        chosen = values.gather(-1, given[0].long()[:, None])[:, 0]
        return [(chosen, values.max(-1).values)]

    return expected


REFERENCES: dict[str, Callable[..., Any]] = {
    "RMSNorm": rms_norm,
    "LinearBase": linear,
    "VocabParallelEmbedding": embedding,
    "RotaryEmbedding": rotary,
    "SiluAndMul": silu_and_mul,
    "RadixAttention": attention,
    "LogitsProcessor": logits,
    "Sampler": greedy,
}
"""By the name of a class that a module's class is or comes from."""
