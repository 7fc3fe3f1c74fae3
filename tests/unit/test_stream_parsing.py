"""From the bytes of a response, in whatever reads they came, to what the request amounted to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglperf.core.observation import RequestObservation
from sglperf.errors import WorkloadError
from sglperf.workload.channel import Deframer, frame
from sglperf.workload.heartbeat import quantile
from sglperf.workload.parse import observe
from sglperf.workload.plan import RequestPlan
from sglperf.workload.recording import Recording
from sglperf.workload.request import http_request, server_address

HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 23:31:33 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)

# Recorded from SGLang 0.5.23 with --skip-tokenizer-init --incremental-streaming-output, four tokens asked for.
# The second and third were merged by the server, which it does when its sender falls behind.
EVENTS = (
    b'data: {"output_ids":[1360],"meta_info":{"id":"ab-1","finish_reason":null,"prompt_tokens":5,'
    b'"weight_version":"default","num_retractions":0,"forward_entry_time":1795476693.4135268,'
    b'"queue_time":0.0022951900000407477,"reasoning_tokens":0,"completion_tokens":1,"cached_tokens":0,'
    b'"cached_tokens_details":null,"dp_rank":null}}\n\n',
    b'data: {"output_ids":[5,1360],"meta_info":{"id":"ab-1","finish_reason":null,"prompt_tokens":5,'
    b'"weight_version":"default","num_retractions":0,"queue_time":0.0022951900000407477,'
    b'"completion_tokens":3,"cached_tokens":0,"cached_tokens_details":null,"dp_rank":null}}\n\n',
    b'data: {"output_ids":[5],"meta_info":{"id":"ab-1","finish_reason":{"type":"length","length":4},'
    b'"prompt_tokens":5,"weight_version":"default","num_retractions":0,"storage_prefetch_wait":0.0,'
    b'"forward_entry_time":1795476693.4135268,"prefill_finished_time":1795476693.481025,'
    b'"queue_time":0.0022951900000407477,"completion_tokens":4,"cached_tokens":0,'
    b'"weight_versions":[{"version":"default","start":0,"end":4}],"e2e_latency":0.11614813599999252,'
    b'"first_token_latency":0.08298288900004991,"request_finished_ts":1795476693.52322,'
    b'"decode_throughput":90.45613319283258}}\n\n',
    b"data: [DONE]\n\n",
)


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def event(ids: list[int] | None, counted: int, finish: str = "null", **more: int) -> bytes:
    """One event in SGLang's format; ``finish`` is JSON."""
    streamed = "" if ids is None else f'"output_ids":{ids},'
    extra = "".join(f',"{name}":{value}' for name, value in more.items())
    meta = f'{{"finish_reason":{finish},"completion_tokens":{counted}{extra}}}'
    return f'data: {{{streamed}"meta_info":{meta}}}\n\n'.encode()


LENGTH = '{"type":"length","length":3}'


def record(*reads: bytes, closed: str | None = "open") -> Recording:
    """A recording whose k-th read, from 1, came at k ms; sent at 0, started at 0. ``closed``: then why."""
    recording = Recording()
    recording.sent_ns = 0
    for number, data in enumerate(reads, 1):
        if recording.finished_ns is None:
            recording.receive(number * 1_000_000, data)
    if closed != "open":
        recording.close((len(reads) + 1) * 1_000_000, closed)
    return recording


def observed(*reads: bytes, closed: str | None = "open") -> RequestObservation:
    return observe(0, record(*reads, closed=closed), 0)


def body_of(*events: bytes) -> bytes:
    return HEAD + b"".join(map(chunked, events)) + b"0\r\n\r\n"


def test_a_recorded_response_gives_its_tokens_times_and_server_timings() -> None:
    """Each field of a real response ends up where it belongs, and nothing that is not seconds among seconds."""
    found = observed(HEAD, *map(chunked, EVENTS), b"0\r\n\r\n")
    assert found == RequestObservation(
        index=0,
        sent=0.0,
        arrivals=(0.002, 0.003, 0.004),
        tokens=(1, 3, 4),
        finished=0.006,
        prompt_tokens=5,
        completion_tokens=4,
        cached_tokens=0,
        finish_reason="length",
        error=None,
        server={
            "storage_prefetch_wait": 0.0,
            "forward_entry_time": 1795476693.4135268,
            "prefill_finished_time": 1795476693.481025,
            "queue_time": 0.0022951900000407477,
            "e2e_latency": 0.11614813599999252,
            "first_token_latency": 0.08298288900004991,
            "request_finished_ts": 1795476693.52322,
        },
        output_ids=(1360, 5, 1360, 5),
        retractions=0,
    )


@given(st.lists(st.integers(0, len(body_of(*EVENTS))), max_size=12))
def test_any_split_into_reads_gives_each_event_to_the_read_that_completed_it(cuts: list[int]) -> None:
    """However TCP cuts the response, tokens are the same, and an event arrives with its last byte."""
    response = body_of(*EVENTS)
    edges = sorted({0, len(response), *cuts})
    reads = [response[a:b] for a, b in pairwise(edges)]
    found = observed(*reads)
    assert found.error is None
    assert (found.tokens, found.output_ids) == ((1, 3, 4), (1360, 5, 1360, 5))
    lasts = [response.index(one) + len(one) for one in EVENTS[:3]]
    assert found.arrivals == tuple(min(k for k, b in enumerate(edges) if b >= last) / 1e3 for last in lasts)
    assert found.finished == len(reads) / 1e3


@given(st.integers(1, 200), st.sampled_from([b"\n", b"\r\n"]))
def test_an_event_of_several_lines_is_one_event(cut: int, newline: bytes) -> None:
    """Other servers fold data into lines, with either newline; a chunk of the body may end within any of them."""
    lines = b'data: {"output_ids":[7],\ndata: "meta_info":{"completion_tokens":1,"finish_reason":"stop"}}\n\n'
    body = lines.replace(b"\n", newline)
    found = observed(body_of(*filter(None, (body[:cut], body[cut:]))))
    assert (found.error, found.tokens, found.output_ids) == (None, (1,), (7,))


def test_several_events_in_one_read_share_its_time() -> None:
    """Nothing is made up about events that came together."""
    found = observed(HEAD + b"".join(map(chunked, EVENTS)), b"0\r\n\r\n")
    assert found.arrivals == (0.001, 0.001, 0.001)
    assert found.tokens == (1, 3, 4)


def test_a_server_that_repeats_all_ids_is_counted_right() -> None:
    """Without --incremental-streaming-output each chunk holds all ids so far, not new ones."""
    found = observed(body_of(event([7], 1), event([7, 8], 2), event([7, 8, 9], 3, LENGTH)))
    assert (found.error, found.tokens, found.output_ids) == (None, (1, 2, 3), (7, 8, 9))


def test_ids_ahead_of_a_repeating_servers_count_are_counted_once() -> None:
    """Such a server sends a list that has grown since it was counted; a chunk without news is left out."""
    reads = (
        HEAD,
        *map(chunked, (event([7, 8], 1), event([7, 8], 2), event([7, 8, 9], 3, LENGTH))),
        b"0\r\n\r\n",
    )
    found = observed(*reads)
    assert (found.error, found.tokens, found.arrivals) == (None, (2, 3), (0.002, 0.004))


def test_text_without_ids_is_counted_by_the_server() -> None:
    """A server that streams no ids is believed about their number."""
    found = observed(body_of(event(None, 1), event(None, 3, LENGTH)))
    assert (found.error, found.tokens, found.output_ids) == (None, (1, 3), ())


def test_a_single_chunk_is_counted() -> None:
    """One token asked for: new ids and all ids are the same thing."""
    found = observed(body_of(event([7], 1, LENGTH)))
    assert (found.error, found.tokens, found.output_ids) == (None, (1,), (7,))


def test_ids_that_do_not_add_up_to_the_servers_count_are_an_error() -> None:
    """Neither reading of the ids gives the server's count, so there is no honest count."""
    found = observed(body_of(event([7], 1), event([8, 9], 5, LENGTH)))
    assert found.error == "the server counts 5 completion tokens but sent 3 token ids (2 in the last chunk)"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_comments_and_other_fields_are_skipped(newline: bytes) -> None:
    """What else server-sent events allow (keep-alive comments, names, CRLF) carries no token."""
    parts = (b": ping\n\n", b"event: chunk\n" + event([7], 1), event([7, 8], 2, LENGTH))
    found = observed(body_of(*(part.replace(b"\n", newline) for part in parts)))
    assert (found.error, found.tokens) == (None, (1, 2))


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (body_of(event([7], 1)), "the stream ended after 1 tokens without a finish reason"),
        (body_of(), "the stream ended after 0 tokens without a finish reason"),
        (
            body_of(event([7], 1), event([7], 1, '{"type":"abort","message":"no room"}')),
            "the server aborted it: no room",
        ),
        (body_of(event([7], 1, '"abort"')), "the server aborted it: abort"),
        (body_of(b'data: {"error":{"message":"too long","code":400}}\n\n'), "the server reports: too long"),
        (body_of(b"data: {nonsense\n\n"), "chunk 0 is not JSON: {nonsense"),
        (
            b'HTTP/1.1 400 Bad Request\r\ncontent-length: 34\r\n\r\n{"error":{"message":"bad length"}}',
            "HTTP 400: bad length",
        ),
        (b'HTTP/1.1 500 Oops\r\ncontent-length: 20\r\n\r\n{"detail":"no luck"}', "HTTP 500: no luck"),
        (b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy", "HTTP 503: busy"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server's answer is not HTTP"),
    ],
)
def test_a_response_that_is_no_result_says_why(response: bytes, error: str) -> None:
    """Whatever the server says instead of tokens becomes the request's error, in its words."""
    assert (observed(response).error or "").startswith(error)


@pytest.mark.parametrize("reason", [None, "connection reset by peer"])
def test_a_connection_lost_in_mid_answer_is_an_error(reason: str | None) -> None:
    """A body cut short is told from a complete one by its framing, and keeps what had come."""
    found = observed(HEAD, chunked(EVENTS[0]), chunked(EVENTS[1])[:-9], closed=reason)
    bytes_in = len(EVENTS[0]) + len(EVENTS[1]) - 7  # the chunk's own CRLF was among the nine that are missing
    assert found.error == f"{reason or 'the server closed the connection'} in mid-answer, {bytes_in} bytes in"
    assert (found.arrivals, found.tokens) == ((0.002,), (1,))


def test_bytes_after_a_complete_response_are_nobodys() -> None:
    """A server that talks on after its last byte has still answered."""
    assert observed(body_of(*EVENTS) + b"HTTP/1.1 408 Too slow\r\n").error is None
    assert observed(body_of(*EVENTS) + b"\x00").error is None


def test_a_connection_lost_before_any_answer_is_an_error() -> None:
    """A server that hangs up on a request has answered nothing."""
    assert observed(closed=None).error == "the server closed the connection before any answer"


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    """A server of the old kind, which frames nothing, is understood; cut short, it lacks a finish reason."""
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    assert observed(head, event([7], 1), event([8], 2, LENGTH), closed=None).error is None
    assert observed(head, event([7], 1), event([8], 2), closed=None).error == (
        "the stream ended after 2 tokens without a finish reason"
    )


def test_silence_is_counted_from_the_last_token_not_from_the_head() -> None:
    """SGLang sends the head before it has computed anything."""
    assert record(HEAD).last_activity_ns == 0
    assert record(HEAD, chunked(EVENTS[0])).last_activity_ns == 2_000_000


def test_a_request_is_complete_and_exact() -> None:
    """Prompt, length and greedy sampling are on the wire, below the base URL's path, on a connection of its own."""
    head, body = http_request("http://127.0.0.1:30000/v/", RequestPlan((1, 2), 3)).split(b"\r\n\r\n")
    assert head.splitlines() == [
        b"POST /v/generate HTTP/1.1",
        b"Host: 127.0.0.1:30000",
        b"Content-Type: application/json",
        b"Connection: close",
        b"Content-Length: %d" % len(body),
    ]
    assert body == (
        b'{"input_ids":[1,2],"stream":true,'
        b'"sampling_params":{"max_new_tokens":3,"temperature":0,"ignore_eos":true}}'
    )


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:30000", "http://", "http://host:port", ""])
def test_an_address_the_client_cannot_speak_to_is_refused(url: str) -> None:
    """The message names the address and the form it should have."""
    with pytest.raises(WorkloadError, match="give http://HOST:PORT"):
        server_address(url)


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 240), max_size=8))
def test_frames_survive_any_split(contents: list[bytes], cuts: list[int]) -> None:
    """What goes in at one end of the link comes out at the other, whatever the reads were."""
    stream = b"".join(map(frame, contents))
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    deframer = Deframer()
    out = [content for a, b in pairwise(edges) for content in deframer.feed(stream[a:b])]
    assert out == contents


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.991, 100), (0.001, 1)])
def test_a_quantile_is_a_value_that_occurred(share: float, expected: int) -> None:
    """Nearest rank: no interpolation into lags that nobody saw."""
    assert quantile([*range(100, 0, -1)], share) == expected


def test_a_quantile_of_nothing_is_zero() -> None:
    """A round shorter than one heartbeat has no lag to report, which its number of beats says."""
    assert quantile([], 0.99) == 0
