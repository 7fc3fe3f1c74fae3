"""From a recorded response to a `RequestObservation`: server-sent events, JSON, token counts.

Runs after the round, so that it may take its time. SGLang 0.5.16 … 0.5.23 stream alike: an event per
scheduler output (several of them merged if the sender fell behind), each with ``output_ids`` and
``meta_info``, then ``[DONE]``. With ``--incremental-streaming-output`` an event holds the new ids,
otherwise all ids so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import orjson

from sglperf.core.observation import RequestObservation
from sglperf.workload.recording import Recording

# Names under which SGLang puts seconds into meta_info: durations, and wall-clock times since 1970.
SECONDS_SUFFIXES = ("_latency", "_time", "_ts", "_wait")

Meta = Mapping[str, Any]


@dataclass
class Stream:
    """The chunks of one response: events without ``[DONE]``.

    Attributes:
        arrivals_ns: when each chunk was complete; shape (chunks,).
        ids: the token ids in each; shape (chunks,).
        counted: the server's own count of completion tokens as of each; shape (chunks,).
        meta: ``meta_info`` of the last.
        error: the first event that is not a chunk, in words; None if all are.
    """

    arrivals_ns: list[int] = field(default_factory=list)
    ids: list[Sequence[int]] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    meta: Meta = field(default_factory=dict)
    error: str | None = None


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
    stream = read_stream(recording) if recording.status == 200 else Stream(error=_http_error(recording))
    count, meta = count_tokens(stream), stream.meta
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
        retractions=_integer(meta.get("num_retractions")),
    )


def read_stream(recording: Recording) -> Stream:
    """Split and decode the events of a response; an event arrives with the read that completed it."""
    stream = Stream()
    for arrival_ns, data in split_events(recording):
        if data == b"[DONE]":
            break
        try:
            chunk = orjson.loads(data)
            meta = chunk["meta_info"]
            stream.counted.append(meta.get("completion_tokens") or 0)
        except orjson.JSONDecodeError:
            stream.error = f"chunk {len(stream.ids)} is not JSON: {_excerpt(data)}"
            break
        except (AttributeError, KeyError, TypeError):
            stream.error = f"the server reports: {_message(data)}"
            break
        stream.meta = meta
        stream.ids.append(chunk.get("output_ids") or ())
        stream.arrivals_ns.append(arrival_ns)
    return stream


def split_events(recording: Recording) -> Iterator[tuple[int, bytes]]:
    """Arrival time and data of each complete server-sent event; comments and a cut-off last event are dropped."""
    waiting, done = b"", 0
    for time_ns, known in recording.reads:
        for piece in recording.pieces[done:known]:
            whole = (
                piece.startswith(b"data: ")
                and piece.endswith(b"\n\n")
                and piece.find(b"\n") == len(piece) - 2
            )
            if whole and not waiting:
                yield time_ns, piece[6:-2]  # as SGLang writes them: four times faster
                continue
            *events, waiting = (waiting + piece).replace(b"\r\n", b"\n").split(b"\n\n")
            yield from ((time_ns, data) for data in map(_data, events) if data)
        done = known


def count_tokens(stream: Stream) -> TokenCount:
    """Count by the ids that came; by the server's own count where it streams text only.

    Whether ids are new or all so far follows from the last chunk, whose count is final. (In between,
    a server that repeats may already send ids which ``completion_tokens`` does not count yet.)
    """
    lengths = [len(some) for some in stream.ids]
    if not any(lengths):
        return TokenCount(tuple(stream.counted), ())
    total = stream.counted[-1]
    if sum(lengths) == total:
        return TokenCount(tuple(accumulate(lengths)), tuple(chain.from_iterable(stream.ids)))
    if lengths[-1] == total:
        return TokenCount(tuple(accumulate(lengths, max)), tuple(stream.ids[-1]))
    streamed = f"{sum(lengths)} token ids ({lengths[-1]} in the last chunk)"
    return TokenCount(
        tuple(stream.counted), (), f"the server counts {total} completion tokens but sent {streamed}"
    )


def server_seconds(meta: Meta) -> dict[str, float]:
    """The server's own times among ``meta_info``, by name, seconds."""
    return {
        name: float(value)
        for name, value in meta.items()
        if name.endswith(SECONDS_SUFFIXES) and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _data(event: bytes) -> bytes:
    """The data of an event in whatever form the standard allows; empty for a comment."""
    return b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))


def _finish_reason(meta: Meta) -> str | None:
    reason = meta.get("finish_reason")
    if isinstance(reason, dict):
        reason = reason.get("type")
    return None if reason is None else str(reason)


def _unfinished(meta: Meta, count: TokenCount) -> str | None:
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
