"""One HTTP response as it came off the socket: bytes and times, kept as they are until the round is over.

No socket here, so a test can feed it any split of any bytes. Only the framing is looked at while bytes
arrive (httptools, 0.4 µs a read), because nothing else says where a response ends.
"""

from __future__ import annotations

from collections.abc import Callable

import httptools

FRAMING_HEADERS = (b"content-length", b"transfer-encoding")


class Recording:
    """Bytes and arrival times of one request's response.

    Attributes:
        sent_ns: when the request's last byte was handed to the socket, monotonic clock; None before that.
        finished_ns: when the response ended, well or badly; None before that.
        failure: what the connection or the framing did wrong; None if the response is complete.
        status: HTTP status, 0 before the response's head is complete.
        pieces: body bytes as the framing delivered them.
        reads: per read that brought bytes, its time and the number of pieces known after it.
    """

    __slots__ = ("_complete", "_framed", "_parser", "failure", "finished_ns", "on_body", "pieces", "reads", "sent_ns", "status")  # fmt: skip

    def __init__(self) -> None:
        self.sent_ns: int | None = None
        self.finished_ns: int | None = None
        self.failure: str | None = None
        self.status = 0
        self.pieces: list[bytes] = []
        self.reads: list[tuple[int, int]] = []
        # Called by the parser: no Python frame of ours per chunk.
        self.on_body: Callable[[bytes], None] = self.pieces.append
        self._framed = False
        self._complete = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def last_activity_ns(self) -> int | None:
        """When the body last grew, else when the request was sent, monotonic clock.

        The head does not count: SGLang sends it as soon as it has read the request.
        """
        return self.reads[-1][0] if self.pieces else self.sent_ns

    def receive(self, now_ns: int, data: bytes) -> None:
        """Keep what one read brought; afterwards ``finished_ns`` is set if the response ended with it."""
        assert self._parser is not None, "the response has ended"
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:  # what follows a complete response is nobody's
                self.fail(now_ns, f"the server's answer is not HTTP ({error}): {data[:80]!r}")
                return
        self.reads.append((now_ns, len(self.pieces)))
        if self._complete:
            self._finish(now_ns)

    def close(self, now_ns: int, reason: str | None) -> None:
        """The connection is gone: with ``reason`` if it broke, None if the server ended it in order."""
        if self.finished_ns is not None:
            return
        endless = self.status and not self._framed
        if reason is None and endless:  # then the end of the connection is the end of the body
            self._finish(now_ns)
            return
        received = sum(map(len, self.pieces))
        stage = f"in mid-answer, {received} bytes in" if self.reads else "before any answer"
        self.fail(now_ns, f"{reason or 'the server closed the connection'} {stage}")

    def fail(self, now_ns: int, reason: str) -> None:
        """End the request without a usable response."""
        self.failure = reason
        self._finish(now_ns)

    def _finish(self, now_ns: int) -> None:
        self.finished_ns = now_ns
        self._parser = None  # it points back here: no cycle is left for the collector

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: ARG002 - httptools gives both
        """Called by the parser, once per header."""
        self._framed = self._framed or name.lower() in FRAMING_HEADERS

    def on_headers_complete(self) -> None:
        """Called by the parser when the response's head is complete."""
        assert self._parser is not None
        self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        """Called by the parser at the last byte of the response, by whichever framing."""
        self._complete = True
