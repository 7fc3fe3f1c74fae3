"""Forward passes of the model, measured kernel by kernel in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sglperf.core.roofline import PassShape
from sglperf.errors import ConfigError
from sglperf.workload.plan import RoundPlan
from sglperf.workload.shapes import Workload


@dataclass(frozen=True)
class Pass(Workload):
    """One pass of a model of few layers, each kernel of it timed by itself."""

    worker: ClassVar[str | None] = "model_pass"
    phase: ClassVar[str]

    @property
    def load(self) -> PassShape:
        """How much it has to do."""
        raise NotImplementedError

    @property
    def request(self) -> dict[str, Any]:
        """What the worker needs to know of it."""
        load = self.load
        return {"phase": self.phase, "streams": load.streams, "context": load.context, "new": load.new}

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:  # noqa: ARG002 - no server is sent anything
        return RoundPlan(())

    @property
    def longest(self) -> int:
        return self.load.context


@dataclass(frozen=True)
class DecodePass(Pass):
    """A decode step of a batch.

    Attributes:
        streams: sequences in the batch.
        context_tokens: of each in the KV cache, the new one included; None takes the profile's.
    """

    streams: int = 1
    context_tokens: int | None = None
    kind: ClassVar[str] = "decode-pass"
    phase: ClassVar[str] = "decode"

    @property
    def load(self) -> PassShape:
        assert self.context_tokens is not None
        return PassShape(self.streams, self.context_tokens)

    @property
    def label(self) -> str:
        return f"{self.kind}-c{self.context_tokens}-s{self.streams}"


@dataclass(frozen=True)
class PrefillPass(Pass):
    """A prefill of one prompt, the beginning of which is in the KV cache already.

    Attributes:
        new_tokens: computed; None takes the profile's.
        context_tokens: of the whole prompt; None takes the profile's. As many as new ones: nothing is cached.
    """

    new_tokens: int | None = None
    context_tokens: int | None = None
    kind: ClassVar[str] = "prefill-pass"
    phase: ClassVar[str] = "prefill"

    def filled(self, defaults: Mapping[str, int]) -> Self:
        whole = super().filled(defaults)
        if whole.load.new > whole.load.context:
            raise ConfigError(
                f"workload {type(self).__name__} computes {whole.load.new} tokens of a prompt of {whole.load.context}: "
                f"give no more new_tokens than context_tokens, in the test or under workloads.{self.kind}"
            )
        return whole

    @property
    def load(self) -> PassShape:
        assert self.context_tokens is not None
        assert self.new_tokens is not None
        return PassShape(1, self.context_tokens, self.new_tokens)

    @property
    def label(self) -> str:
        return f"{self.kind}-c{self.context_tokens}-n{self.new_tokens}"
