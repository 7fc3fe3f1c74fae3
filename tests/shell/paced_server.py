"""A double of SGLang's streaming ``/generate``, for faults that a real server does not produce on demand.

It speaks just enough HTTP to misbehave at any byte. How it answers is in the path of the base URL: the
comma list of `BEHAVIOURS` there is indexed by the first token of each prompt. No figure of the
project is measured on it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
PACE_SECONDS = 0.002
PAUSE_SECONDS = 0.01  # long enough for two writes to be two reads
FIRST_ID = 100  # the k-th token, from 0, is FIRST_ID + k


@dataclass
class Exchange:
    """One request and the means to answer it."""

    server: PacedServer
    prompt: list[int]
    new_tokens: int
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def pause(self, seconds: float = PAUSE_SECONDS) -> None:
        await self.writer.drain()
        await asyncio.sleep(seconds)

    def event(self, position: int, *, repeat: bool = False, reason: str = "length") -> bytes:
        """The event that carries one token, or all up to it."""
        last = position + 1 == self.new_tokens
        meta = {
            "prompt_tokens": len(self.prompt),
            "completion_tokens": position + 1,
            "cached_tokens": 0,
            "queue_time": 0.001,
            "finish_reason": {"type": reason} if last else None,
        }
        ids = [FIRST_ID + k for k in range(0 if repeat else position, position + 1)]
        return b"data: " + json.dumps({"output_ids": ids, "meta_info": meta}).encode() + b"\n\n"

    async def tokens(self, count: int, *, repeat: bool = False) -> None:
        for position in range(count):
            if self.server.on_token is not None:
                self.server.on_token(position)
            self.send(chunk(self.event(position, repeat=repeat)))
            await self.pause(PACE_SECONDS)

    async def tail(self) -> None:
        self.send(chunk(DONE) + END)
        await self.writer.drain()


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


async def steady(exchange: Exchange) -> None:
    """A good answer, a chunk per token; then the connection is closed."""
    exchange.send(HEAD)
    await exchange.tokens(exchange.new_tokens)
    await exchange.tail()


async def keep_alive(exchange: Exchange) -> None:
    """A good answer on a connection that stays open, and is even talked on."""
    await steady(exchange)
    await exchange.pause()
    exchange.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
    await exchange.pause(60)


async def repeating(exchange: Exchange) -> None:
    """A good answer whose chunks each hold all ids so far."""
    exchange.send(HEAD)
    await exchange.tokens(exchange.new_tokens, repeat=True)
    await exchange.tail()


async def at_once(exchange: Exchange) -> None:
    """A good answer in one write."""
    events = map(exchange.event, range(exchange.new_tokens))
    exchange.send(HEAD + b"".join(map(chunk, events)) + chunk(DONE) + END)


async def torn(exchange: Exchange) -> None:
    """A good answer, each event torn in two writes, and so are the head and the terminator."""
    exchange.send(HEAD[:20])
    await exchange.pause()
    exchange.send(HEAD[20:])
    for position in range(exchange.new_tokens):
        whole = chunk(exchange.event(position))
        exchange.send(whole[:30])
        await exchange.pause()
        exchange.send(whole[30:])
    for part in (chunk(DONE) + END[:2], END[2:4], END[4:]):
        await exchange.pause()
        exchange.send(part)
    await exchange.pause(60)


async def together(exchange: Exchange) -> None:
    """A good answer, but only once ``server.gathering`` requests wait for one."""
    exchange.server.waiting += 1
    while exchange.server.waiting % exchange.server.gathering:
        await asyncio.sleep(0.001)
    await steady(exchange)


async def stall(exchange: Exchange) -> None:
    """Two tokens, then silence."""
    exchange.send(HEAD)
    await exchange.tokens(2)
    await exchange.pause(60)


async def mute(exchange: Exchange) -> None:
    """The head, as SGLang sends it at once, then silence."""
    exchange.send(HEAD)
    await exchange.pause(60)


async def reset(exchange: Exchange) -> None:
    """Two tokens, then the connection is reset."""
    exchange.send(HEAD)
    await exchange.tokens(2)
    await exchange.pause()
    connection = exchange.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def truncated(exchange: Exchange) -> None:
    """Two tokens, then an orderly close without the terminator."""
    exchange.send(HEAD)
    await exchange.tokens(2)


async def cut_chunk(exchange: Exchange) -> None:
    """A token, then a chunk that is shorter than it says."""
    exchange.send(HEAD)
    await exchange.tokens(1)
    exchange.send(chunk(exchange.event(1))[:-20])


async def hang_up(exchange: Exchange) -> None:
    """No answer at all."""


async def aborted(exchange: Exchange) -> None:
    """The scheduler gave up on it: a finish reason of its own."""
    exchange.send(HEAD + chunk(exchange.event(exchange.new_tokens - 1, repeat=True, reason="abort")))
    await exchange.tail()


async def refused(exchange: Exchange) -> None:
    """SGLang's word in the stream on a request that it will not take."""
    body = b'data: {"error":{"message":"Requested token count exceeds the context length","code":400}}\n\n'
    exchange.send(HEAD + chunk(body))
    await exchange.tail()


async def http_400(exchange: Exchange) -> None:
    """FastAPI's word on a malformed request, on a connection that stays open."""
    _json_error(exchange, b"400 Bad Request", {"object": "error", "message": "1 validation error"})
    await exchange.pause(60)


async def http_500(exchange: Exchange) -> None:
    """An internal error."""
    _json_error(exchange, b"500 Internal Server Error", {"detail": "CUDA out of memory"})


def _json_error(exchange: Exchange, status: bytes, error: dict[str, str]) -> None:
    body = json.dumps(error).encode()
    exchange.send(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))


Behaviour = Callable[[Exchange], Awaitable[None]]
BEHAVIOURS: dict[str, Behaviour] = {
    behaviour.__name__: behaviour
    for behaviour in (
        steady, keep_alive, repeating, at_once, torn, together, stall, mute, reset, truncated, cut_chunk, hang_up,
        aborted, refused, http_400, http_500,
    )
}  # fmt: skip


@dataclass
class PacedServer:
    """Listens on a free port of the loopback while entered, in a thread of its own.

    Attributes:
        gathering: for ``together``.
        drop: these connections, counted from 1, are closed as soon as they are there, before any request.
        slow_reader: seconds before a request's body is read, through a small buffer.
        on_token: called before each token is sent, with its position.
        accepted, in_flight, most_in_flight: connections so far; requests unanswered now, at most.
        accepted_at_answers: ``accepted`` as each answer was complete.
        prompts: of all requests, as they came.
    """

    gathering: int = 1
    drop: frozenset[int] = frozenset()
    slow_reader: float = 0.0
    on_token: Callable[[int], object] | None = None
    accepted: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    waiting: int = 0
    accepted_at_answers: list[int] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.socket()
        if self.slow_reader:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._listener.listen(1000)
        self._loop = asyncio.new_event_loop()
        self._stop = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.cancel)
        self._thread.join()

    def url(self, *behaviours: str) -> str:
        """Base URL; a prompt that begins with token k gets the k-th behaviour."""
        assert set(behaviours) <= BEHAVIOURS.keys()
        return f"http://127.0.0.1:{self.port}/{','.join(behaviours)}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._stop)
        for task in (leftover := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._handle, sock=self._listener, backlog=1000)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            if self.accepted not in self.drop:
                await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone: nobody to answer
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if self.slow_reader:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(self.slow_reader)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
        length = int(next(line for line in head.splitlines() if line.startswith("Content-Length")).split()[1])
        body = json.loads(await reader.readexactly(length))
        prompt = body["input_ids"]
        self.prompts.append(prompt)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        names = head.split()[1].split("/")[1].split(",")
        behaviour = BEHAVIOURS[names[prompt[0] % len(names)]]
        try:
            await behaviour(Exchange(self, prompt, body["sampling_params"]["max_new_tokens"], writer))
        finally:
            self.in_flight -= 1
            self.accepted_at_answers.append(self.accepted)
