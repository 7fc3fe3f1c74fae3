"""What a server is asked to be. Its resolved form is what the server says of itself after start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Model:
    """A model to serve: a shape with weights that nobody trained, or a checkpoint.

    Attributes:
        name: the label in tables and baselines, e.g. ``llama-3-8b``.
        config: the Hugging Face ``config.json`` to write out, for a shape; empty for a checkpoint.
        path: a checkpoint directory or hub name; None for a shape.
        written: whether the weights of a shape are written out, so that its answers depend on all of it.
        vocab_size: number of token ids a prompt may draw from.
        context_length: longest sequence, in tokens, that the model takes.
    """

    name: str
    vocab_size: int
    context_length: int
    config: Mapping[str, object] = field(default_factory=dict)
    path: str | None = None
    written: bool = False

    @property
    def dummy(self) -> bool:
        """Whether SGLang makes up the weights."""
        return self.path is None and not self.written


@dataclass(frozen=True)
class ServerConfig:
    """One point of attention backend × page size × TP set, with everything that is pinned around it.

    Attributes:
        model: what is served.
        device: ``cpu`` or ``cuda``.
        attention_backend: SGLang's name for it, e.g. ``torch_native``, ``flashinfer``.
        page_size: KV cache page, tokens.
        tp_set: GPU indices (on a CPU: rank numbers); tensor parallelism is its length.
        max_total_tokens: KV pool, tokens, pinned so that it does not follow free memory.
        max_running_requests: batch bound, pinned likewise.
        mem_fraction_static: share of device memory for weights and KV pool.
        random_seed: of the server's sampler and dummy weights.
        prefix_cache: whether prompts are served from what earlier requests computed.
        eviction_policy: which of the cache's contents goes first when the pool is full; None leaves it to the server.
        chunked_prefill_tokens: most prompt tokens computed in one pass; None leaves it to the server.
        variant: what sets it apart from the profile's plain server; empty for that one.
        comparison: name of the group in which servers are compared with one another, the first with each of the
            others; empty for a server that stands alone.
        member: what sets it apart there, as the name of its TP set; empty where its attention backend does.
        arguments: further server arguments, as on a command line.
        environment: further environment variables of the server process.
    """

    model: Model
    device: str
    attention_backend: str
    page_size: int
    tp_set: tuple[int, ...]
    max_total_tokens: int
    max_running_requests: int
    mem_fraction_static: float
    random_seed: int = 0
    prefix_cache: bool = True
    eviction_policy: str | None = None
    chunked_prefill_tokens: int | None = None
    variant: str = ""
    comparison: str = ""
    member: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def tp_size(self) -> int:
        """Number of tensor-parallel ranks."""
        return len(self.tp_set)

    @property
    def group(self) -> str:
        """Servers of one group are compared with one another, or one stands alone in its group."""
        return self.comparison or self.label

    @property
    def neighbourhood(self) -> str:
        """Servers of one neighbourhood may be up together, and then take their rounds in turn: those of one group.

        On GPUs they have one TP set too. Those of other sets take turns launch by launch: where sets overlap, few
        servers fit beside each other, and all pairs of launches shall be measured alike.
        """
        return self.group if self.device == "cpu" else f"{self.group} on {self.tp_set}"

    @property
    def name_in_group(self) -> str:
        """What it is called beside those that it is compared with."""
        return self.member or self.attention_backend

    @property
    def label(self) -> str:
        """Short, stable and unique within a profile: ``torch_native-page16-tp0``, ``torch_native-page16-tp0-radix``."""
        point = f"{self.attention_backend}-page{self.page_size}-tp{'.'.join(map(str, self.tp_set))}"
        return f"{point}-{self.variant}" if self.variant else point
