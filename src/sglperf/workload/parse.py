"""From a recorded response to a `RequestObservation`: server-sent events, JSON, token counts.

Runs after the round, so that it may take its time. SGLang 0.5.16 … 0.5.23 stream alike: an event per
scheduler output (several of them merged if the sender fell behind), each with ``output_ids`` and
``meta_info``, then ``[DONE]``. With ``--incremental-streaming-output`` an event holds the new ids,
otherwise all ids so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import orjson

from sglperf.core.observation import RequestObservation
from sglperf.workload.recording import Recording

# Names under which SGLang puts seconds into meta_info: durations, and wall-clock times since 1970.
SECONDS_SUFFIXES = ("_latency", "_time", "_ts", "_wait")

Chunk = Mapping[str, Any]


@dataclass(frozen=True)
class Stream:
    """The events of one response.

    Attributes:
        arrivals_ns: when each chunk was complete; shape (chunks,).
        chunks: decoded events without ``[DONE]``; shape (chunks,).
        error: the first event that is not a chunk, in words; None if all are.
    """

    arrivals_ns: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    error: str | None


@dataclass(frozen=True)
class TokenCount:
    """Completion tokens received after each chunk, shape (chunks,), and the tokens themselves if ids came."""

    tokens: tuple[int, ...]
    output_ids: tuple[int, ...]
    error: str | None = None


def observe(index: int, recording: Recording, start_ns: int) -> RequestObservation:
    """What one request amounted to.

    Args:
        index: position in the plan.
        recording: a finished recording.
        start_ns: the round's start on the recording's clock.

    Returns:
        Chunks that brought no new token are left out of ``arrivals`` and ``tokens``, so that
        ``arrivals[0]`` is the first token. A request that was never sent has ``sent == finished``.
    """
    finished_ns = start_ns if recording.finished_ns is None else recording.finished_ns
    sent_ns = finished_ns if recording.sent_ns is None else recording.sent_ns
    stream = read_stream(recording) if recording.status == 200 else Stream((), (), _http_error(recording))
    count = count_tokens(stream.chunks)
    meta: Chunk = stream.chunks[-1].get("meta_info", {}) if stream.chunks else {}
    carrying = [i for i, known in enumerate(count.tokens) if known > (count.tokens[i - 1] if i else 0)]
    return RequestObservation(
        index=index,
        sent=(sent_ns - start_ns) / 1e9,
        arrivals=tuple((stream.arrivals_ns[i] - start_ns) / 1e9 for i in carrying),
        tokens=tuple(count.tokens[i] for i in carrying),
        finished=(finished_ns - start_ns) / 1e9,
        prompt_tokens=_integer(meta.get("prompt_tokens")),
        completion_tokens=_integer(meta.get("completion_tokens")),
        cached_tokens=_integer(meta.get("cached_tokens")),
        finish_reason=_finish_reason(meta),
        error=recording.failure or stream.error or _unfinished(meta, count) or count.error,
        server=server_seconds(meta),
        output_ids=count.output_ids,
    )


def read_stream(recording: Recording) -> Stream:
    """Split and decode the events of a response; an event arrives with the read that completed it."""
    arrivals: list[int] = []
    chunks: list[Chunk] = []
    for arrival_ns, data in split_events(recording):
        if data == b"[DONE]":
            break
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            return Stream(
                tuple(arrivals), tuple(chunks), f"chunk {len(chunks)} is not JSON: {_excerpt(data)}"
            )
        if not isinstance(chunk, dict) or not isinstance(chunk.get("meta_info"), dict):
            return Stream(tuple(arrivals), tuple(chunks), f"the server reports: {_message(data)}")
        arrivals.append(arrival_ns)
        chunks.append(chunk)
    return Stream(tuple(arrivals), tuple(chunks), None)


def split_events(recording: Recording) -> Iterator[tuple[int, bytes]]:
    """Arrival time and data of each complete server-sent event; comments and a cut-off last event are dropped."""
    body = b"".join(recording.pieces)
    lengths = list(accumulate(map(len, recording.pieces), initial=0))
    reads = iter([(lengths[pieces], time_ns) for time_ns, pieces in recording.reads])
    separator = b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n"
    position, known, time_ns = 0, 0, 0
    for event in body.split(separator)[:-1]:
        position += len(event) + len(separator)
        while known < position:
            known, time_ns = next(reads)
        data = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if data:
            yield time_ns, data


def count_tokens(chunks: Sequence[Chunk]) -> TokenCount:
    """Count by the ids that came; by the server's own count where it streams text only.

    Whether ids are new or all so far follows from the last chunk, whose count is final. (In between,
    a server that repeats may already send ids which ``completion_tokens`` does not count yet.)
    """
    if not chunks:
        return TokenCount((), ())
    counted = [_integer(chunk["meta_info"].get("completion_tokens")) or 0 for chunk in chunks]
    ids = [chunk.get("output_ids") or () for chunk in chunks]
    lengths = [len(some) for some in ids]
    if not any(lengths):
        return TokenCount(tuple(counted), ())
    if sum(lengths) == counted[-1]:
        return TokenCount(tuple(accumulate(lengths)), tuple(chain.from_iterable(ids)))
    if lengths[-1] == counted[-1]:
        return TokenCount(tuple(accumulate(lengths, max)), tuple(ids[-1]))
    streamed = f"{sum(lengths)} token ids ({lengths[-1]} in the last chunk)"
    return TokenCount(
        tuple(counted), (), f"the server counts {counted[-1]} completion tokens but sent {streamed}"
    )


def server_seconds(meta: Chunk) -> dict[str, float]:
    """The server's own times among ``meta_info``, by name, seconds."""
    return {
        name: float(value)
        for name, value in meta.items()
        if name.endswith(SECONDS_SUFFIXES) and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _finish_reason(meta: Chunk) -> str | None:
    reason = meta.get("finish_reason")
    if isinstance(reason, dict):
        reason = reason.get("type")
    return None if reason is None else str(reason)


def _unfinished(meta: Chunk, count: TokenCount) -> str | None:
    reason = _finish_reason(meta)
    if reason is None:
        tokens = count.tokens[-1] if count.tokens else 0
        return f"the stream ended after {tokens} tokens without a finish reason"
    if reason == "abort":
        detail = meta["finish_reason"]
        return f"the server aborted it: {detail.get('message') if isinstance(detail, dict) else detail}"
    return None


def _http_error(recording: Recording) -> str:
    return f"HTTP {recording.status}: {_message(b''.join(recording.pieces))}"


def _message(body: bytes) -> str:
    """The sentence inside an error body, in whichever of SGLang's and FastAPI's wrappings."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _excerpt(body)
    while isinstance(said, dict):
        inner = next((said[key] for key in ("error", "message", "detail") if said.get(key)), None)
        if inner is None:
            return _excerpt(body)
        said = inner
    return _excerpt(said.encode() if isinstance(said, str) else body)


def _excerpt(text: bytes) -> str:
    shown = " ".join(text.decode(errors="replace").split())
    return shown if len(shown) <= 200 else shown[:199] + "…"


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
