"""A disagreement between a server and the cache model, as a script for a bug report. Pure: returns text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sglperf.core.cache_model import CacheShape, Tokens
from sglperf.core.prediction import Departure, Prediction

if TYPE_CHECKING:
    from sglperf.workload.plan import RoundPlan

_SCRIPT = """\
# {title}
# {shape}
# Start: {command}
# then run this script with the server's address. Predicted and observed tokens are those of the run that found it.
import json, sys, urllib.request

def post(path, body=None):
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body or {{}}).encode(), {{"Content-Type": "application/json"}})
    return urllib.request.urlopen(request).read()

sampling = {{"temperature": 0, "ignore_eos": True}}
said = []  # prompt and answer of each request, for those that continue one
post("/flush_cache")
for flush, continues, ids, new_tokens, extra, predicted, observed in [
{rows}
]:
    if flush:
        post("/flush_cache")
    prompt = (said[continues] if continues is not None else []) + ids
    body = {{"input_ids": prompt, "sampling_params": sampling | {{"max_new_tokens": new_tokens}}}} | extra
    answer = json.loads(post("/generate", body))
    said.append(prompt + answer["output_ids"])
    cached = answer["meta_info"]["cached_tokens"]
    print(f"{{len(prompt)}} tokens: {{cached}} cached, {{predicted}} predicted ({{observed}} observed)")
"""


def reproduction(
    plan: RoundPlan,
    shape: CacheShape,
    prediction: Prediction,
    cached_tokens: Sequence[int],
    departures: dict[str, Departure],
    command: str,
) -> str:
    """A script of the standard library only that sends the round again and prints both answers.

    Args:
        cached_tokens: of each request, as observed.
        command: what starts the server.
    """
    flushed = {wave.start for wave in plan.waves if wave.flush}
    rows = [
        f"    ({position in flushed}, {request.continues}, {_tokens(request.input_ids)}, {request.max_new_tokens}, "
        f"{_extra(request.priority)}, {expected.cached_tokens}, {cached}),"
        for position, (request, expected, cached) in enumerate(
            zip(plan.requests, prediction.requests, cached_tokens, strict=True)
        )
    ]
    title = "; ".join(departure.sentence for departure in departures.values())
    return _SCRIPT.format(title=title, shape=_described(shape), command=command, rows="\n".join(rows))


def _described(shape: CacheShape) -> str:
    kept = "" if shape.enabled else ", prefix cache off"
    chunk = "" if shape.chunk is None else f", prefill in chunks of {shape.chunk} tokens"
    return f"page {shape.page_size}, pool {shape.capacity} tokens, eviction {shape.eviction}{chunk}{kept}"


def _extra(priority: int | None) -> str:
    return "{}" if priority is None else json.dumps({"priority": priority})


def _tokens(ids: Tokens) -> str:
    """Consecutive ids as ranges, so that a long prompt is readable."""
    runs: list[list[int]] = []
    for token in ids:
        if runs and token == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([token, token + 1])
    if len(runs) > len(ids) // 2:
        return json.dumps(list(ids))
    return f"[{', '.join(f'*range({first}, {end})' for first, end in runs)}]"
