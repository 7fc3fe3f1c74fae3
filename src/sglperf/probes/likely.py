"""Which tokens a server holds for as likely as those that it chose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import httpx

from sglperf.core.answers import LIKELIEST, Answer, as_likely
from sglperf.errors import ServerDied

# Random weights of SGLang's dummy loader make logits of some 1e-5: at a temperature of 1 all log probabilities agree
# to seven digits. A model that has learned something is asked at 1.
_COLD = 1e-5
_FLAT = 0.01  # nats between the first and the twentieth below which the model is one of those


def read_answer(
    base_url: str, prompt: Sequence[int], tokens: Sequence[int], *, path: str, timeout: float
) -> Answer:
    """The answer to a prompt, with what else was as likely at each of its tokens.

    Each token is asked for again with what came before it as the prompt, which the prefix cache serves.

    Raises:
        ServerDied: the server does not answer, or not with log probabilities.
    """
    likely = []
    with httpx.Client(base_url=base_url, trust_env=False, verify=False, timeout=timeout) as client:
        for position in range(len(tokens)):
            before = [*prompt, *tokens[:position]]
            found = _likeliest(client, path, before, 1.0)
            if found[0][0] - found[-1][0] < _FLAT:
                found = _likeliest(client, path, before, _COLD)
            likely.append(as_likely(found))
    return Answer(tuple(tokens), tuple(likely))


def _likeliest(
    client: httpx.Client, path: str, prompt: Sequence[int], temperature: float
) -> list[tuple[float, int]]:
    """The likeliest next tokens, the first one first."""
    asked = {
        "input_ids": prompt,
        "sampling_params": {"max_new_tokens": 1, "temperature": temperature, "ignore_eos": True},
        "return_logprob": True,
        "top_logprobs_num": LIKELIEST,
    }
    try:
        response = client.post(path, json=asked)
        response.raise_for_status()
        said: Any = response.json()
        top = said["meta_info"]["output_top_logprobs"][0]
        found = [(float(logprob), int(token)) for logprob, token, *_ in top if math.isfinite(logprob)]
        if not found:
            raise ValueError("none is finite")
    except (httpx.HTTPError, LookupError, TypeError, ValueError) as error:
        raise ServerDied(f"{client.base_url}{path} gives no log probabilities: {error!r}") from error
    return sorted(found, reverse=True)
