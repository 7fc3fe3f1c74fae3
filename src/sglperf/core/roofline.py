"""What each part of a forward pass must move and compute at least, and how near a machine's limits it comes.

The roofline of Williams, Waterman and Patterson (CACM 52(4), 2009): a kernel takes at least as long as its bytes take
at the memory's bandwidth, and as its operations take at the processor's rate; the longer of the two binds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sglperf.core.shape import Shape

PARTS: Mapping[str, str] = {
    "embed_tokens": "embedding",
    "input_layernorm": "input_norm",
    "qkv_proj": "qkv_proj",
    "rotary_emb": "rope",
    "attn": "attention",
    "o_proj": "o_proj",
    "post_attention_layernorm": "rms_norm",
    "gate_up_proj": "gate_up_proj",
    "act_fn": "activation",
    "down_proj": "down_proj",
    "norm": "final_norm",
    "logits_processor": "lm_head",
    "sampler": "sampling",
}
"""Module of SGLang's Llama → what it is called here, in the order of a pass."""


GEMMS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""Parts of a layer that are matrix products."""
MOST_OF_LIMIT = 1.1
"""Share of a limit up to which a part may seem to reach: memory that is only read is a little faster than a copy."""

WHOLE_PASS = ("pass_kernel_time", "pass_coverage")
"""Metrics into which every part of a pass enters."""

WHOLE_LAYER = ("attention_share", "gemm_share")
"""Metrics into which every part of a layer enters."""


@dataclass(frozen=True)
class PassShape:
    """How much a pass has to do.

    Attributes:
        streams: sequences in it.
        context: tokens of each in the KV cache when it ends.
        new: tokens of each that it computes; 1 when it decodes.
    """

    streams: int
    context: int
    new: int = 1

    @property
    def tokens(self) -> int:
        """Tokens that it computes."""
        return self.streams * self.new


@dataclass(frozen=True)
class Cost:
    """What must be moved and computed at least.

    Attributes:
        bytes: to and from memory; each operand and each result once.
        flops: operations, a multiplication and an addition counted as two, any function as one.
    """

    bytes: int
    flops: int

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, as measured beside the kernels.

    Attributes:
        bandwidth: bytes per second, of a copy, read and written bytes both counted.
        rate: operations per second, of a product of bf16 matrices.
    """

    bandwidth: float
    rate: float

    def seconds(self, cost: Cost) -> float:
        """The shortest time in which it can be done."""
        return max(cost.bytes / self.bandwidth, cost.flops / self.rate)

    def binding(self, cost: Cost) -> str:
        """What keeps it from being faster: ``memory`` or ``compute``."""
        return "memory" if cost.bytes / self.bandwidth >= cost.flops / self.rate else "compute"


def cost(part: str, shape: Shape, load: PassShape) -> Cost | None:
    """One call's cost; None for a part that nobody has written down here."""
    hidden, tokens, size = shape.hidden, load.tokens, shape.value_bytes
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    match part:
        case "embedding":
            return Cost(2 * tokens * hidden * size, tokens * hidden)
        case "input_norm" | "rms_norm" | "final_norm":
            # The stream and what is added to it come in, their sum and what is normalized go out.
            return Cost((4 * tokens + 1) * hidden * size, 5 * tokens * hidden)
        case "qkv_proj":
            return product(tokens, hidden, queries + 2 * keys, size)
        case "rope":
            return Cost(2 * tokens * (queries + keys) * size, 3 * tokens * (queries + keys))
        case "attention":
            return _attention(shape, load)
        case "o_proj":
            return product(tokens, queries, hidden, size)
        case "gate_up_proj":
            return product(tokens, hidden, 2 * shape.intermediate, size)
        case "activation":
            return Cost(3 * tokens * shape.intermediate * size, 4 * tokens * shape.intermediate)
        case "down_proj":
            return product(tokens, shape.intermediate, hidden, size)
        case "lm_head":
            return product(load.streams, hidden, shape.vocabulary, size)
        case "sampling":
            return Cost(load.streams * shape.vocabulary * 4, load.streams * shape.vocabulary)
    return None


def product(rows: int, inner: int, columns: int, size: int) -> Cost:
    """A matrix product (rows, inner) × (inner, columns)."""
    values = rows * inner + inner * columns + rows * columns
    return Cost(values * size, 2 * rows * inner * columns)


def _attention(shape: Shape, load: PassShape) -> Cost:
    """Each new token looks at all tokens up to itself; every key and value is read once, new ones are stored."""
    queries, keys = shape.heads * shape.head, shape.kv_heads * shape.head
    pool = 2 * load.streams * load.context * keys
    streams = 2 * load.tokens * queries + 2 * load.tokens * keys
    looks = load.streams * (load.new * (load.context - load.new) + load.new * (load.new + 1) // 2)
    return Cost((pool + streams) * shape.value_bytes, 4 * looks * queries)


@dataclass(frozen=True)
class PassTimes:
    """A pass as it was measured on a model of few layers, each part in its last layer.

    Attributes:
        layers: of the model that it was measured on.
        seconds: part → time of one call.
        calls, calls_in_layer: part → calls in that pass, and in its last layer.
        whole: seconds of that pass as a whole.
        ceilings: of the machine, beside it.
    """

    layers: int
    seconds: Mapping[str, float]
    calls: Mapping[str, int]
    calls_in_layer: Mapping[str, int]
    whole: float
    ceilings: Ceilings

    def calls_at(self, layers: int) -> dict[str, int]:
        """Part → calls in a pass of the same model with so many layers."""
        more = layers - self.layers
        return {part: count + more * self.calls_in_layer.get(part, 0) for part, count in self.calls.items()}

    def sum_at(self, layers: int) -> float:
        """Seconds of all parts of a pass with so many layers."""
        return sum(count * self.seconds.get(part, 0.0) for part, count in self.calls_at(layers).items())

    @property
    def coverage(self) -> float:
        """Share of the whole pass that its parts account for."""
        return self.sum_at(self.layers) / self.whole


def pass_values(times: PassTimes, shape: Shape, load: PassShape) -> dict[str, float]:
    """A measured pass as values of metrics, by name."""
    values = {f"{part}_time": seconds for part, seconds in times.seconds.items()}
    for part, seconds in times.seconds.items():
        least = cost(part, shape, load)
        if least is not None:
            values[f"{part}_limit_share"] = times.ceilings.seconds(least) / seconds
    attention = cost("attention", shape, load)
    if attention is not None and "attention" in times.seconds:
        moved = attention.bytes / times.seconds["attention"]
        values["attention_bandwidth_share"] = moved / times.ceilings.bandwidth
    calls = times.calls_at(shape.layers)
    return values | {
        **{f"{part}_calls": float(count) for part, count in calls.items()},
        "kernel_calls": float(sum(calls.values())),
        "pass_kernel_time": times.sum_at(shape.layers),
        "pass_coverage": times.coverage,
        "copy_bandwidth": times.ceilings.bandwidth,
        "matmul_rate": times.ceilings.rate,
        **_layer_shares(times),
    }


def _layer_shares(times: PassTimes) -> dict[str, float]:
    """How a layer's time is divided; nothing where a part of it was not timed, or it has no attention."""
    calls = {part: count for part, count in times.calls_in_layer.items() if count}
    if "attention" not in calls or not calls.keys() <= times.seconds.keys():
        return {}
    layer = {part: count * times.seconds[part] for part, count in calls.items()}
    whole = sum(layer.values())
    return {
        "attention_share": layer["attention"] / whole,
        "gemm_share": sum(layer.get(part, 0.0) for part in GEMMS) / whole,
    }


def beyond_limits(values: Mapping[str, float]) -> dict[str, float]:
    """Part → its share of what bounds it, of those that exceed any such limit; values as of `pass_values`."""
    shares = {
        name.removesuffix("_limit_share"): value for name, value in values.items() if "_limit_share" in name
    }
    return {part: share for part, share in shares.items() if share > MOST_OF_LIMIT}


@dataclass(frozen=True)
class PassPart:
    """One row of a pass.

    Attributes:
        calls: in a pass of the whole model.
        seconds: of one call.
        share: of all kernels' time.
        cost, limit_share, binding: None for a part whose work nobody has written down here.
    """

    name: str
    calls: int
    seconds: float
    share: float
    cost: Cost | None
    limit_share: float | None
    binding: str | None


def pass_parts(values: Mapping[str, float], shape: Shape, load: PassShape) -> list[PassPart]:
    """The rows of a pass, in its order, from its `pass_values` or from means of them."""
    ceilings = Ceilings(values["copy_bandwidth"], values["matmul_rate"])
    names = [name.removesuffix("_calls") for name in values if name.endswith("_calls")]
    known = [name for name in (*PARTS.values(), *names) if f"{name}_time" in values and name in names]
    whole = sum(values[f"{name}_calls"] * values[f"{name}_time"] for name in dict.fromkeys(known))
    return [_part(name, values, cost(name, shape, load), ceilings, whole) for name in dict.fromkeys(known)]


def _part(
    name: str, values: Mapping[str, float], least: Cost | None, ceilings: Ceilings, whole: float
) -> PassPart:
    calls, seconds = round(values[f"{name}_calls"]), values[f"{name}_time"]
    return PassPart(
        name=name,
        calls=calls,
        seconds=seconds,
        share=calls * seconds / whole,
        cost=least,
        limit_share=None if least is None else ceilings.seconds(least) / seconds,
        binding=None if least is None else ceilings.binding(least),
    )


def pass_times(said: Mapping[str, Any]) -> PassTimes:
    """From what the worker answers; modules that are not known by a name here keep their own."""
    parts = {PARTS.get(name, name): part for name, part in said["parts"].items()}
    return PassTimes(
        layers=said["layers"],
        seconds={name: part["seconds"] for name, part in parts.items()},
        calls={name: part["calls"] for name, part in parts.items()},
        calls_in_layer={name: part["calls_in_layer"] for name, part in parts.items()},
        whole=said["pass_seconds"],
        ceilings=Ceilings(said["copy_bytes_per_second"], said["matmul_flops_per_second"]),
    )
