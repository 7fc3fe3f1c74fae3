"""Prompts whose answers are compared, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sglperf.workload.plan import RequestPlan, RoundPlan, Wave
from sglperf.workload.shapes import Workload, distinct_prompts


@dataclass(frozen=True)
class Answers(Workload):
    """Prompts asked together, and once more when their beginnings are in the prefix cache.

    Attributes:
        prompts: how many.
        prompt_tokens, new_tokens: lengths of each; None takes the profile's.
    """

    prompts: int = 4
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    kind: ClassVar[str] = "answers"
    cold: ClassVar[bool] = False
    compares_answers: ClassVar[bool] = True

    def plan(self, *, seed: int, vocab_size: int) -> RoundPlan:
        assert self.prompt_tokens is not None
        assert self.new_tokens is not None
        prompts = distinct_prompts([self.prompt_tokens] * self.prompts, seed=seed, vocab_size=vocab_size)
        requests = tuple(RequestPlan(prompt, self.new_tokens) for prompt in prompts)
        waves = (Wave(0, self.prompts), Wave(self.prompts, self.prompts))
        return RoundPlan(requests * 2, self.prompts, waves)

    @property
    def label(self) -> str:
        return f"{self.kind}-p{self.prompt_tokens}-n{self.new_tokens}-{self.prompts}x2"

    @property
    def longest(self) -> int:
        return (self.prompt_tokens or 0) + (self.new_tokens or 0)
