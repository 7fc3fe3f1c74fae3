"""A paced source of SGLang-like streams, with the time of sending inside every chunk.

Usage: ``paced_source.py STREAMS CHUNKS RATE CORE``. Prints its port, then plays one round whenever STREAMS
requests have come: each gets CHUNKS chunks of one token, evenly interleaved at RATE chunks a second in all.
The one token id of a chunk is the monotonic clock, in nanoseconds, just before the chunk was sent; both
ends read the same clock, so a client's arrival time minus that id is the chunk's delay.
"""

from __future__ import annotations

import os
import socket
import sys
from time import monotonic_ns, sleep

HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: paced_source\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
TAIL = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
# As long, and as full of fields, as SGLang 0.5.23's.
EVENT = (
    b'data: {"output_ids":[%d],"meta_info":{"id":"0123456789abcdef0123456789abcdef","finish_reason":%s,'
    b'"prompt_tokens":5,"weight_version":"default","num_retractions":0,"storage_prefetch_wait":0.0,'
    b'"storage_staging_wait":0.0,"forward_entry_time":1795476693.4135268,'
    b'"prefill_finished_time":1795476693.481025,"queue_time":0.0022951900000407477,"reasoning_tokens":0,'
    b'"completion_tokens":%d,"cached_tokens":0,"cached_tokens_details":null,"dp_rank":null}}\n\n'
)
SPIN_NS = 200_000  # sleeping is no more precise than this


def main() -> None:
    streams, chunks, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    os.sched_setaffinity(0, {int(sys.argv[4])})
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connections = [listener.accept()[0] for _ in range(streams)]
            for connection in connections:
                receive_request(connection)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(HEAD)
            play(connections, chunks, rate)
            for connection in connections:
                connection.close()


def receive_request(connection: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    missing = int(length.split(b":")[1]) - len(body)
    while missing:
        missing -= len(connection.recv(missing))


def play(connections: list[socket.socket], chunks: int, rate: float) -> None:
    start_ns, gap_ns, number = monotonic_ns(), 1e9 / rate, 0
    for count in range(1, chunks + 1):
        finish = b'{"type":"length","length":%d}' % chunks if count == chunks else b"null"
        for connection in connections:
            wait_until(start_ns + round(number * gap_ns))
            event = EVENT % (monotonic_ns(), finish, count)
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
            number += 1
    for connection in connections:
        connection.sendall(TAIL)


def wait_until(due_ns: int) -> None:
    while (left_ns := due_ns - monotonic_ns()) > 0:
        if left_ns > SPIN_NS:
            sleep((left_ns - SPIN_NS) / 1e9)


if __name__ == "__main__":
    main()
