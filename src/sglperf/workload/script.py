"""Writing a conversation down: the words in which prefix workloads say who shares what with whom."""

from __future__ import annotations

import random

from sglperf.errors import ConfigError
from sglperf.workload.plan import RequestPlan, RoundPlan, Wave

Text = tuple[int, ...]


class Script:
    """A round, request by request.

    Texts are random and no two begin with the same token, so what two prompts share is what the script
    says and nothing else. (An answer may begin like a text by chance; whoever predicts from the round
    knows the answers.)
    """

    def __init__(self, *, seed: int, vocab_size: int) -> None:
        self._source = random.Random(seed)
        self._vocabulary = range(vocab_size)
        self._firsts: set[int] = set()
        self._requests: list[RequestPlan] = []
        self._waves: list[Wave] = []

    def text(self, tokens: int) -> Text:
        """So many new tokens.

        Raises:
            ConfigError: fewer than one, or more texts than the vocabulary has tokens.
        """
        if tokens < 1:
            raise ConfigError(
                f"a text of {tokens} tokens: a prompt needs at least one, so give it a length from 1 on"
            )
        if len(self._firsts) == len(self._vocabulary):
            raise ConfigError(
                f"a text begins with each of the vocabulary's {len(self._vocabulary)} tokens already: "
                "use fewer requests, or a model with a larger vocabulary"
            )
        first = self._source.choice(self._vocabulary)
        while first in self._firsts:
            first = self._source.choice(self._vocabulary)
        self._firsts.add(first)
        return (first, *self._source.choices(self._vocabulary, k=tokens - 1))

    def changed(self, text: Text, at: int) -> Text:
        """The same text with another token at one place."""
        other = (text[at] + 1 + self._source.randrange(len(self._vocabulary) - 1)) % len(self._vocabulary)
        return (*text[:at], other, *text[at + 1 :])

    def ask(self, *texts: Text, new_tokens: int = 1, priority: int | None = None) -> int:
        """Send these texts as one prompt, after everything before has been answered; returns its position."""
        return self._send(RequestPlan(sum(texts, ()), new_tokens, priority=priority))

    def reply(self, to: int, *texts: Text, new_tokens: int = 1) -> int:
        """Send the next turn of a conversation: the prompt and the answer of ``to``, then these texts."""
        self._begin()  # its prompt is known only once ``to`` has been answered
        return self._send(RequestPlan(sum(texts, ()), new_tokens, continues=to))

    def together(self, *prompts: Text, new_tokens: int = 1) -> None:
        """Send these prompts at once."""
        self._begin(concurrency=len(prompts))
        self._requests += [RequestPlan(prompt, new_tokens) for prompt in prompts]
        self._begin()

    def flush(self) -> None:
        """Empty the prefix cache."""
        self._begin(flush=True)

    def plan(self) -> RoundPlan:
        """All that was written, as a round."""
        waves = tuple(wave for wave in self._waves if wave.start < len(self._requests))
        return RoundPlan(tuple(self._requests), 1, () if waves == (Wave(0),) else waves)

    def _send(self, request: RequestPlan) -> int:
        if not self._waves:
            self._begin()
        self._requests.append(request)
        return len(self._requests) - 1

    def _begin(self, *, concurrency: int = 1, flush: bool = False) -> None:
        if self._waves and self._waves[-1].start == len(self._requests):
            last = self._waves.pop()
            flush = flush or last.flush
        self._waves.append(Wave(len(self._requests), concurrency, flush))
